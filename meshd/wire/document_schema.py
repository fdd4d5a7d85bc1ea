"""The forms that entries of a topology document take, and the records they stand for."""

from collections.abc import Callable, Mapping
from functools import partial
from ipaddress import IPv4Address
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from meshd.core.errors import Fault, Invalid
from meshd.core.model import (
    Address,
    Check,
    Expected,
    Instance,
    NameServer,
    Pop,
    Port,
    Prefix,
    Range,
    Record,
    Service,
    Sticky,
    Ttl,
    Zone,
    dns_name,
    parse_address,
)
from meshd.core.release import Course, OnNew
from meshd.core.selector import LATEST, Selector, Version, parse_selector
from meshd.core.topology import Kind
from meshd.wire.forms import Seconds, Share, Strings, as_list
from meshd.wire.release_messages import chosen
from meshd.wire.rollout_form import RolloutForm

T = TypeVar("T")

_ANY: Selector = LATEST


def _named_list(value: Any) -> Any:
    """A list of names, or of `name: [addresses]`, or a mapping of both -> (name, addresses)."""
    if isinstance(value, dict):
        value = [{name: held} for name, held in value.items()]
    servers: list[tuple[Any, Any]] = []
    for item in as_list(value):
        pairs = item.items() if isinstance(item, dict) else [(item, [])]
        servers += [(name, as_list(held) if held else []) for name, held in pairs]
    return servers


class _Form(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Parts:
    """Makes the parts of a record; `raise_faults` tells of all that went wrong, not the first."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []

    def take(self, where: str, make: Callable[[], T], spare: T) -> T:
        """A part; where it is wrong, its faults are kept and `spare` stands in."""
        try:
            return make()
        except Invalid as error:
            for fault in error.faults:
                inner = f"{where}.{fault.where}".strip(".")
                self._faults.append(Fault(inner, fault.what))
            return spare

    def whole(self, make: Callable[[], Record]) -> Record:
        """The record; Invalid lists the faults of its parts and its own."""
        try:
            record = make()
        except Invalid as error:
            raise Invalid([*self._faults, *error.faults]) from None
        if self._faults:
            raise Invalid(self._faults)
        return record


class ZoneForm(_Form):
    """zones: <name>: {ns, contact, negative_ttl}."""

    ns: Annotated[list[tuple[str, list[str]]], BeforeValidator(_named_list)]
    contact: str = Field(pattern=r"^[A-Za-z0-9_+-]{1,63}@[A-Za-z0-9.-]+$")
    negative_ttl: Seconds = 5

    def record(self, name: str) -> Record:
        """The zone."""
        parts = _Parts()
        servers = [
            parts.take(
                f"ns.{host}",
                partial(_server, host, held),
                NameServer("invalid."),
            )
            for host, held in self.ns
        ]
        at = parts.take("", partial(dns_name, name), "invalid.")
        made = partial(Zone, at, tuple(servers), self.contact, int(self.negative_ttl))
        return parts.whole(made)


class PopForm(_Form):
    """pops: <name>: {location, fallback}."""

    location: tuple[float, float] | None = None
    fallback: Strings = []

    def record(self, name: str) -> Record:
        """The pop."""
        return Pop(name, self.location, tuple(self.fallback))


class RangeForm(_Form):
    """ranges: <prefix>: {pop, services}."""

    pop: str
    services: Strings = []

    def record(self, name: str) -> Record:
        """The range."""
        parts = _Parts()
        selectors = [
            parts.take(f"services.{place}", partial(_choice, text), ("invalid", _ANY))
            for place, text in enumerate(self.services)
        ]
        prefix = parts.take("", partial(Prefix.parse, name), Prefix(4, 0, 0))
        return parts.whole(partial(Range, prefix, self.pop, tuple(selectors)))


class TtlForm(_Form):
    """ttl: {min, max}."""

    min: Seconds = 5
    max: Seconds = 60


class StickyForm(_Form):
    """sticky: {v4, v6}."""

    v4: int = 32
    v6: int = 64


def _statuses(value: Any) -> Any:
    """200, "200-399", or a list of such -> (lowest, highest) pairs."""
    pairs = []
    for item in as_list(value):
        low, _, high = str(item).partition("-")
        if not (low.isdigit() and (high or low).isdigit()):
            raise ValueError(f"{item!r} is no status (as in 200 or 200-399)")
        pairs.append((int(low), int(high or low)))
    return pairs


Statuses = Annotated[list[tuple[int, int]], BeforeValidator(_statuses)]


class CheckForm(_Form):
    """check: one of http, https (a path), grpc (a service), tcp; how often; what is wanted."""

    http: str | None = None
    https: str | None = None
    grpc: str | None = None
    tcp: str | None = None
    every: Seconds = 2
    timeout: Seconds = 1
    rise: int = 2
    fall: int = 3
    jitter: float = 0.1
    port: str = ""
    host: str = ""
    sni: str = ""
    status: Statuses = [(200, 299)]
    body: str = ""

    def check(self) -> Check:
        """The check."""
        kinds = [kind for kind in ("http", "https", "grpc", "tcp") if kind in self.model_fields_set]
        if len(kinds) != 1:
            raise Invalid("needs exactly one of http, https, grpc, tcp")
        (kind,) = kinds
        # Of a TCP check there is nothing to say but that it is one.
        paths = {"tcp": "", "grpc": self.grpc or ""}
        return Check(
            kind,
            paths[kind] if kind in paths else getattr(self, kind) or "/",
            self.every,
            self.timeout,
            self.rise,
            self.fall,
            self.port,
            self.host,
            self.sni,
            self.jitter,
            Expected(tuple(self.status), self.body),
        )


class ServiceForm(_Form):
    """services: <name>: {name, ports, version, ...}."""

    name: str
    ports: dict[str, str]
    version: str = "latest"
    channels: dict[str, str] = {}
    check: CheckForm | None = None
    ttl: TtlForm = TtlForm()
    max_answers: int = 4
    sticky: StickyForm = StickyForm()
    fail_open: bool = True
    slow_start: Seconds = 10
    max_removal: Share = 0.5
    on_new_version: str = OnNew.FOLLOW
    rollout: RolloutForm = RolloutForm()

    def record(self, name: str) -> Record:
        """The service."""
        parts = _Parts()
        channels = [
            (key, parts.take(f"channels.{key}", partial(parse_selector, text), _ANY))
            for key, text in sorted(self.channels.items())
        ]
        ports = [
            parts.take(f"ports.{key}", partial(_port, key, text), Port(f"p{place}", 1))
            for place, (key, text) in enumerate(self.ports.items())
        ]
        return parts.whole(
            partial(
                Service,
                name,
                parts.take("name", partial(dns_name, self.name), "invalid."),
                tuple(ports),
                parts.take("version", partial(parse_selector, self.version), _ANY),
                tuple(channels),
                parts.take("check", self.check.check, None) if self.check else None,
                parts.take("ttl", partial(Ttl, int(self.ttl.min), int(self.ttl.max)), Ttl()),
                self.max_answers,
                parts.take("sticky", partial(Sticky, self.sticky.v4, self.sticky.v6), Sticky()),
                self.fail_open,
                self.slow_start,
                self.max_removal,
                parts.take(
                    "on_new_version",
                    partial(chosen, OnNew, self.on_new_version, OnNew.FOLLOW),
                    OnNew.FOLLOW,
                ),
                parts.take("rollout", self.rollout.course, Course()),
            )
        )


def _spare_address(place: int) -> Address:
    return IPv4Address(place + 1)


def _server(host: str, addresses: list[str]) -> NameServer:
    return NameServer(dns_name(host), tuple(map(parse_address, addresses)))


def _choice(text: str) -> tuple[str, Selector]:
    service, at, selector = text.partition("@")
    if not at:
        raise Invalid(f"{text!r} is not <service>@<version>")
    return service.strip(), parse_selector(selector)


def _port(name: str, text: str) -> Port:
    number, _, proto = text.partition("/")
    if not number.isdigit():
        raise Invalid(f"{text!r} is not a port (as in 8080/tcp)")
    try:
        return Port(name, int(number), proto or "tcp")
    except Invalid as error:
        raise Invalid([Fault("", fault.what) for fault in error.faults]) from None


class InstanceForm(_Form):
    """instances: <name>: {service, version, pop, address, ports, capacity, tags}."""

    service: str
    version: str
    pop: str
    address: Strings
    ports: dict[str, int] = {}
    capacity: float = 1.0
    tags: Strings = []

    def record(self, name: str) -> Record:
        """The instance."""
        parts = _Parts()
        addresses = [
            parts.take("address", partial(parse_address, text), _spare_address(place))
            for place, text in enumerate(self.address)
        ]
        version = parts.take("version", partial(Version, self.version), Version("0"))
        return parts.whole(
            partial(
                Instance,
                name,
                self.service,
                version,
                self.pop,
                tuple(addresses),
                tuple(sorted(self.ports.items())),
                self.capacity,
                tuple(self.tags),
            )
        )


AnyForm = ZoneForm | PopForm | RangeForm | ServiceForm | InstanceForm

FORMS: Mapping[Kind, type[AnyForm]] = {
    Kind.ZONES: ZoneForm,
    Kind.POPS: PopForm,
    Kind.RANGES: RangeForm,
    Kind.SERVICES: ServiceForm,
    Kind.INSTANCES: InstanceForm,
}


def _long_range(value: Any) -> Any:
    return {"pop": value} if isinstance(value, str) else value


def _long_pop(value: Any) -> Any:
    return {} if value is None else value


def _long_service(value: Any) -> Any:
    """A split may be written as a mapping: `version: {1.2: 95, 1.3: 5}`."""
    if isinstance(value, dict) and isinstance(value.get("version"), dict):
        arms = ", ".join(f"{arm}: {weight}" for arm, weight in value["version"].items())
        return {**value, "version": "{" + arms + "}"}
    return value


# Short forms -> long ones.
LONG: Mapping[Kind, Callable[[Any], Any]] = {
    Kind.RANGES: _long_range,
    Kind.POPS: _long_pop,
    Kind.SERVICES: _long_service,
}
