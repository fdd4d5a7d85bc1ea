"""The nouns of the topology, frozen and validated when made.

A value that exists is valid by itself; whether its references resolve is asked of the whole
(core/plan.py). Names are lower case; DNS names are absolute, with the trailing dot.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import NamedTuple

from meshd.core.errors import Fault, Invalid
from meshd.core.release import Course, Experiment, OnNew, Rollout
from meshd.core.selector import LATEST, Selector, Version
from meshd.core.valid import label, one_line, require

Address = IPv4Address | IPv6Address

_DNS_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
# Room for "<63-octet label>.instance." in front of a service name (RFC 1035 2.3.4: 255 octets).
MAX_SERVICE_NAME = 255 - 64 - 9 - 2


class Prefix(NamedTuple):
    """An IP prefix as numbers: version 4 or 6, network address, length in bits."""

    version: int
    network: int
    length: int

    @property
    def bits(self) -> int:
        """Bits of an address of this version."""
        return 32 if self.version == 4 else 128

    @property
    def last(self) -> int:
        """The highest address inside."""
        return self.network | (1 << self.bits - self.length) - 1

    @classmethod
    def parse(cls, text: str) -> "Prefix":
        """Read `10.1.0.0/16`, `::/0` or a bare address; Invalid says what is wrong."""
        try:
            net = ip_network(text.strip())
        except ValueError as error:
            raise Invalid(f"{error}{_nearest_network(text)}") from None
        return cls(net.version, int(net.network_address), net.prefixlen)

    def __str__(self) -> str:
        made = IPv4Address if self.version == 4 else IPv6Address
        return f"{made(self.network)}/{self.length}"


def _nearest_network(text: str) -> str:
    try:
        return f"; the network is {ip_network(text.strip(), strict=False)}"
    except ValueError:
        return ""


def dns_name(text: str) -> str:
    """The canonical form of a DNS name (lower case, absolute); Invalid if it is none."""
    name = text.strip().lower().rstrip(".")
    labels = name.split(".")
    if labels[0] == "*":
        labels = labels[1:]
    if len(name) > 253 or not labels or not all(_DNS_LABEL.fullmatch(label) for label in labels):
        raise Invalid(f"{text!r} is not a DNS name")
    return name + "."


def parse_address(text: str) -> Address:
    """An IPv4 or IPv6 address; Invalid if it is none, or one that no client could use."""
    try:
        address = ip_address(text.strip())
    except ValueError as error:
        raise Invalid(str(error)) from None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    if address.is_unspecified or address.is_multicast or mapped:
        raise Invalid(f"{text} cannot be the address of an instance")
    return address


@dataclass(frozen=True, slots=True)
class NameServer:
    """A name server of a zone; addresses only where its name lies inside the zone."""

    name: str
    addresses: tuple[Address, ...] = ()


@dataclass(frozen=True, slots=True)
class Zone:
    """A DNS zone that meshd answers for; `negative_ttl_s` is the SOA minimum (RFC 2308)."""

    name: str
    ns: tuple[NameServer, ...]
    contact: str
    negative_ttl_s: int = 5

    def __post_init__(self) -> None:
        require(
            (self.name == dns_name(self.name), "name", f"{self.name!r} is not canonical"),
            (not self.name.startswith("*"), "name", "a zone cannot be a wildcard"),
            (bool(self.ns), "ns", "a zone needs at least one name server"),
            (1 <= self.negative_ttl_s <= 3600, "negative_ttl", "must be 1..3600 seconds"),
        )


@dataclass(frozen=True, slots=True)
class Pop:
    """A place where instances run and clients are; location is (latitude, longitude)."""

    name: str
    location: tuple[float, float] | None = None
    fallback: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        at = self.location
        on_earth = at is None or (-90 <= at[0] <= 90 and -180 <= at[1] <= 180)
        require(
            label(self.name),
            (on_earth, "location", f"{at} is not [latitude, longitude]"),
            (self.name not in self.fallback, "fallback", "a pop cannot fall back to itself"),
        )


@dataclass(frozen=True, slots=True)
class Range:
    """An IP prefix of clients -> their Pop, and the versions that they get of some services."""

    prefix: Prefix
    pop: str
    selectors: tuple[tuple[str, Selector], ...] = ()

    def __post_init__(self) -> None:
        names = [service for service, _ in self.selectors]
        twice = sorted({name for name in names if names.count(name) > 1})
        require((not twice, "services", f"named twice: {', '.join(twice)}"))

    @property
    def name(self) -> str:
        """The prefix as text: what a range is called in keys and tables."""
        return str(self.prefix)


@dataclass(frozen=True, slots=True)
class Port:
    """A port of a service: its name (`http`), number, and `tcp` or `udp`."""

    name: str
    number: int
    proto: str = "tcp"

    def __post_init__(self) -> None:
        # RFC 6335 5.1: a service name is at most 15 characters and holds a letter.
        named = bool(re.fullmatch(r"(?=.*[a-z])[a-z0-9-]{1,15}", self.name))
        require(
            (named, "name", f"{self.name!r} is not a port name (RFC 6335)"),
            (1 <= self.number <= 65535, "number", f"{self.number} is not a port (1..65535)"),
            (self.proto in ("tcp", "udp"), "proto", f"{self.proto!r} is neither tcp nor udp"),
        )


@dataclass(frozen=True, slots=True)
class Expected:
    """What an HTTP probe wants to see: a status within lowest..highest, and a text in the body."""

    statuses: tuple[tuple[int, int], ...] = ((200, 299),)
    body: str = ""

    def __post_init__(self) -> None:
        good = all(100 <= low <= high <= 599 for low, high in self.statuses)
        require(
            (bool(self.statuses) and good, "status", "must be within 100..599, as in 200-299"),
            (len(self.body) <= 1024, "body", "at most 1024 characters"),
        )


@dataclass(frozen=True, slots=True)
class Check:
    """How an instance is probed: kind (tcp, http, https, grpc), seconds, counts, what is sent.

    `path` is of HTTP; of gRPC it is the service whose health is asked ("": the whole server).
    `port` is the name of a port or a number ("": the service's first port); `host` goes as the
    Host header and the TLS server name, `sni` overrides the latter. `jitter` is the share of
    `every_s` by which a probe may come early or late.
    """

    kind: str
    path: str = "/"
    every_s: float = 2.0
    timeout_s: float = 1.0
    rise: int = 2
    fall: int = 3
    port: str = ""
    host: str = ""
    sni: str = ""
    jitter: float = 0.1
    expected: Expected = field(default=Expected())

    def __post_init__(self) -> None:
        is_http = self.kind in ("http", "https")
        require(
            (self.kind in ("tcp", "http", "https", "grpc"), "kind", f"no check {self.kind!r}"),
            (not is_http or self.path.startswith("/"), "path", f"{self.path!r} must begin with /"),
            (0.1 <= self.every_s <= 3600, "every", "must be 0.1s..3600s"),
            (0.01 <= self.timeout_s <= self.every_s, "timeout", "must be 10ms..every"),
            (1 <= self.rise <= 100, "rise", "must be 1..100"),
            (1 <= self.fall <= 100, "fall", "must be 1..100"),
            (0 <= self.jitter <= 0.5, "jitter", "must be 0..0.5"),
            (one_line(self.path, 1024), "path", "at most 1024 printable characters"),
            (one_line(self.host, 255), "host", "at most 255 printable characters"),
            (one_line(self.sni, 255), "sni", "at most 255 printable characters"),
        )


@dataclass(frozen=True, slots=True)
class Ttl:
    """Bounds of a service's TTL in seconds."""

    min_s: int = 5
    max_s: int = 60

    def __post_init__(self) -> None:
        require((1 <= self.min_s <= self.max_s <= 3600, "", "must be 1 <= min <= max <= 3600"))


@dataclass(frozen=True, slots=True)
class Sticky:
    """How many bits of a client address are its key."""

    v4: int = 32
    v6: int = 64

    def __post_init__(self) -> None:
        require(
            (0 <= self.v4 <= 32, "v4", "must be 0..32"),
            (0 <= self.v6 <= 128, "v6", "must be 0..128"),
        )


@dataclass(frozen=True, slots=True)
class Service:
    """What a DNS name stands for, and the policy of its answers."""

    name: str
    dns: str
    ports: tuple[Port, ...]
    selector: Selector = LATEST
    channels: tuple[tuple[str, Selector], ...] = ()
    check: Check | None = None
    ttl: Ttl = field(default=Ttl())
    max_answers: int = 4
    sticky: Sticky = field(default=Sticky())
    fail_open: bool = True
    # Seconds in which an instance that just became ready gets to its whole share.
    slow_start_s: float = 10.0
    # The share of its instances that signals may take out within a minute.
    max_removal: float = 0.5
    # What becomes of a version that was never there, and how rollouts go unless told otherwise.
    on_new: OnNew = OnNew.FOLLOW
    course: Course = field(default=Course())

    def __post_init__(self) -> None:
        port_keys = [(port.name, port.proto) for port in self.ports]
        require(
            label(self.name),
            (self.dns == dns_name(self.dns), "name", f"{self.dns!r} is not canonical"),
            (len(self.dns) <= MAX_SERVICE_NAME, "name", f"longer than {MAX_SERVICE_NAME}"),
            (bool(self.ports), "ports", "a service needs at least one port"),
            (len(set(port_keys)) == len(port_keys), "ports", "a port is named twice"),
            # BIND refuses RRsets above 100 and musl has no TCP: answers stay small.
            (1 <= self.max_answers <= 16, "max_answers", "must be 1..16"),
            (0 <= self.slow_start_s <= 3600, "slow_start", "must be 0s..1h"),
            (0 < self.max_removal <= 1, "max_removal", "must be above 0, and at most 1"),
        )


@dataclass(frozen=True, slots=True)
class Instance:
    """One program that serves one version of one service in one Pop.

    `ports` holds only the numbers that differ from the service's; capacity is relative.
    `registered` instances came by themselves and are up only while their lease is present;
    `epoch` counts the processes that were one of them: a lower one was replaced.
    """

    name: str
    service: str
    version: Version
    pop: str
    addresses: tuple[Address, ...]
    ports: tuple[tuple[str, int], ...] = ()
    capacity: float = 1.0
    tags: tuple[str, ...] = ()
    registered: bool = False
    epoch: int = 0

    def __post_init__(self) -> None:
        good_ports = all(1 <= number <= 65535 for _, number in self.ports)
        good_tags = len(self.tags) <= 32 and all(0 < len(tag) <= 64 for tag in self.tags)
        require(
            label(self.name),
            (1 <= len(self.addresses) <= 8, "address", "an instance has 1..8 addresses"),
            (len(set(self.addresses)) == len(self.addresses), "address", "named twice"),
            (good_ports, "ports", "a port is 1..65535"),
            # NaN fails both comparisons.
            (0.001 <= self.capacity <= 1000, "capacity", "must be 0.001..1000"),
            (good_tags, "tags", "at most 32 tags of 1..64 characters"),
        )

    def port(self, port: Port) -> int:
        """The number under which this instance serves a port of its service."""
        return dict(self.ports).get(port.name, port.number)


class Force(StrEnum):
    """What an operator decided about an instance."""

    UP = "up"
    DOWN = "down"
    DRAIN = "drain"
    # Still answered, for the shortest time: it drains next.
    LEAVE = "leave"


_PATTERN = re.compile(r"[a-z0-9*?\[\]!-]{1,63}")


@dataclass(frozen=True, slots=True)
class Override:
    """An operator's word on an instance, or on all whose names match; it outranks every signal.

    `instance` is a name or a pattern as the shell knows them (`api-eu-*`). A name outranks
    patterns, a longer pattern shorter ones.
    """

    instance: str
    force: Force

    def __post_init__(self) -> None:
        fine = bool(_PATTERN.fullmatch(self.instance))
        said = f"{self.instance!r} is neither a name of an instance nor a pattern (as in api-eu-*)"
        require((fine, "", said))

    @property
    def name(self) -> str:
        """The name or pattern: an override is called as what it overrides."""
        return self.instance

    @property
    def is_pattern(self) -> bool:
        """True if it may be about several instances."""
        return any(sign in self.instance for sign in "*?[")


@dataclass(frozen=True, slots=True)
class Presence:
    """That a registered instance holds its lease."""

    instance: str
    epoch: int = 0

    @property
    def name(self) -> str:
        """The instance's name."""
        return self.instance


Record = Zone | Pop | Range | Service | Instance | Override | Presence | Rollout | Experiment


def collect(faults: list[Fault], where: str, make: Callable[[], Record]) -> Record | None:
    """Make a value; if it is invalid, add its faults under `where` and return None."""
    try:
        return make()
    except Invalid as error:
        faults.extend(Fault(f"{where}.{f.where}".rstrip("."), f.what, f.line) for f in error.faults)
        return None
