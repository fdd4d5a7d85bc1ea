"""Which name, and which clients, can show most of what a server does to meshd's answers."""

import ipaddress
import random
import socket
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TypeVar

import grpc
from dns import rdata

from meshd.cli.connect import fail
from meshd.cli.doctor.subject import Asker, Subject, Truth
from meshd.core.model import Prefix, Range, Service, Zone, dns_name
from meshd.core.topology import Kind
from meshd.v1 import resolver_pb2, resolver_pb2_grpc, topology_pb2, topology_pb2_grpc
from meshd.wire.messages import record_from_message

_R = TypeVar("_R")

_KINDS = ("A", "AAAA")
_LOOPBACK = 127
# Enough to see differences, few enough to be quick.
_MAX_RECORDS = 20_000
_MAX_NAMES = 20
_MAX_SOURCES = 4
_MAX_CANDIDATES = 60
_MAX_SUBNETS = 8


class Core:
    """What the core knows; what it answers is remembered until `forget`."""

    def __init__(self, channel: grpc.Channel, timeout_s: float) -> None:
        self._resolver = resolver_pb2_grpc.ResolverStub(channel)
        self._topology = topology_pb2_grpc.TopologyStub(channel)
        self._timeout_s = timeout_s
        self._known: dict[tuple[str, str, str], Truth] = {}

    def forget(self) -> None:
        """Answers are asked for anew from now on."""
        self._known.clear()

    def truth(self, name: str, kind: str, client: str) -> Truth:
        """What meshd answers to a question of a client (address, prefix or nothing)."""
        known = self._known.get((name, kind, client))
        if known is None:
            known = self._known[name, kind, client] = self.fresh(name, kind, client)
        return known

    def fresh(self, name: str, kind: str, client: str) -> Truth:
        """The same, as it is now."""
        request = resolver_pb2.ResolveRequest(name=name, type=kind, client=client)
        found = self._resolver.Resolve(request, timeout=self._timeout_s)
        # OWNER TTL IN TYPE DATA
        lines = [line.split(" ", 4) for line in found.answer]
        held = [rdata.from_text("IN", kind, line[4]).to_text() for line in lines if line[3] == kind]
        ttls = [int(line.split(" ", 2)[1]) for line in (*found.answer, *found.authority)]
        return Truth(found.rcode, tuple(held), min(ttls, default=0), found.scope)

    def records(self, kind: Kind, wanted: type[_R]) -> list[_R]:
        """The records of a kind, or as many as are enough to see differences."""
        request = topology_pb2.GetRequest(kinds=[kind])
        pages = self._topology.Get(request, timeout=max(60.0, self._timeout_s))
        found = (record_from_message(record) for page in pages for record in page.records)
        some: list[_R] = []
        for record in islice(found, _MAX_RECORDS):
            assert isinstance(record, wanted)
            some.append(record)
        pages.cancel()
        return some


def subject_for(
    core: Core,
    address: tuple[str, int],
    name: str | None,
    sources: Sequence[str],
    subnets: Sequence[str] | None,
) -> Subject:
    """A server, examined by one name and the clients that differ in it.

    Without `sources` and `subnets` (None) they are taken from the Ranges.
    """
    prefixes = [each.prefix for each in core.records(Kind.RANGES, Range)]
    sources = sources or _sources(address[0], prefixes)
    if subnets is None:
        subnets = list(_subnets(prefixes))
    askers = [Asker(source) for source in sources]
    candidates = [Asker(sources[0], subnet) for subnet in subnets]
    services = core.records(Kind.SERVICES, Service)
    names = [service.dns for service in services if not service.dns.startswith("*")][:_MAX_NAMES]
    if name is not None:
        names = [dns_name(name)]
    if not names:
        fail(["no service has a name to ask for: apply a topology first"])
    few = [*askers, *candidates[:12]]
    chosen = max(names, key=lambda each: len(_lists(core, each, few)))
    kinds = [kind for kind in _KINDS if core.truth(chosen, kind, "").records]
    if not kinds:
        fail([f"{chosen} has no address in meshd: nothing to compare with"])
    ports = (service.ports[0] for service in services if service.dns == chosen)
    srv = next((f"_{port.name}._{port.proto}.{chosen}" for port in ports), chosen)
    zones = [zone.name for zone in core.records(Kind.ZONES, Zone)]
    zone = max((zone for zone in zones if f".{chosen}".endswith(f".{zone}")), key=len)
    differing = list(_lists(core, chosen, candidates).values())[:_MAX_SUBNETS]
    return Subject(*address, [*askers, *differing], chosen, zone, kinds, srv, core.truth)


def _lists(core: Core, name: str, askers: Sequence[Asker]) -> dict[object, Asker]:
    """The lists that clients get, each with one who gets it."""
    found: dict[object, Asker] = {}
    for asker in askers:
        held = tuple(core.truth(name, kind, asker.client).records for kind in _KINDS)
        found.setdefault(held, asker)
    return found


def _sources(host: str, prefixes: Sequence[Prefix]) -> list[str]:
    """Addresses of this machine to ask from: on loopback there are many."""
    if ipaddress.ip_address(host) in ipaddress.ip_network(f"{_LOOPBACK}.0.0.0/8"):
        # Not 127.0.0.1: meshd sees that one when a server does not pass the client on.
        inside = [p.network + 9 for p in prefixes if _first(p) == _LOOPBACK and p.length <= 28]
        spare = [int(ipaddress.IPv4Address(text)) for text in ("127.1.1.9", "127.2.2.9")]
        return [str(ipaddress.IPv4Address(n)) for n in [*inside, *spare][:_MAX_SOURCES]]
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        # Sends nothing: the kernel only chooses the way.
        probe.connect((host, 53))
        return [str(probe.getsockname()[0])]


def _subnets(prefixes: Sequence[Prefix]) -> Iterator[str]:
    """Subnets inside Ranges: as long as resolvers send them, longer where a Range is."""
    fit = [prefix for prefix in prefixes if _first(prefix) != _LOOPBACK]
    for prefix in random.sample(fit, min(len(fit), _MAX_CANDIDATES)):
        usual = 24 if prefix.version == 4 else 56
        yield str(prefix._replace(length=max(prefix.length, usual)))


def _first(prefix: Prefix) -> int:
    """The first octet of an IPv4 prefix; -1 for IPv6."""
    return prefix.network >> 24 if prefix.version == 4 else -1
