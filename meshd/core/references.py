"""Whether the names that records use are there: asked of a topology, all faults at once."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from meshd.core.errors import Fault, Invalid
from meshd.core.model import Instance, Pop, Prefix, Range, Record, Service, Zone
from meshd.core.release import Experiment, Rollout, Scope
from meshd.core.selector import Arm, Channel, Selector, Split
from meshd.core.topology import Kind, Topology, kind_of

Lines = Mapping[tuple[Kind, str], int]


@dataclass(frozen=True, slots=True)
class Known:
    """The names that count as there; `pardoned` ones were named but are themselves at fault."""

    topology: Topology
    pardoned: Collection[tuple[Kind, str]] = field(default=frozenset())

    def has(self, kind: Kind, name: str) -> bool:
        """True if a record of this name is there, or is reported already."""
        table: Mapping[str, Record] = getattr(self.topology, kind)
        return name in table or (kind, name) in self.pardoned

    def has_range(self, name: str) -> bool:
        """True if there is a Range of this prefix, or its fault is reported already."""
        try:
            prefix = Prefix.parse(name)
        except Invalid:
            return False
        held = self.topology.ranges.get(prefix)
        return held is not None or (Kind.RANGES, str(prefix)) in self.pardoned


def reference_faults(known: Known, records: Iterable[Record], lines: Lines) -> list[Fault]:
    """Every reference of `records` that does not resolve in the topology."""
    faults = []
    for record in records:
        kind = kind_of(record)
        line = lines.get((kind, record.name), 0)
        for where, what in _faults_of(record, known):
            faults.append(Fault(f"{kind}.{record.name.rstrip('.')}{where}", what, line))
    return faults


def _faults_of(record: Record, known: Known) -> Iterator[tuple[str, str]]:
    if isinstance(record, Range):
        yield from _of_range(record, known)
    elif isinstance(record, Pop):
        yield from _of_pops(".fallback", record.fallback, known)
    elif isinstance(record, Instance):
        yield from _of_instance(record, known)
    elif isinstance(record, Service):
        yield from _of_service(record, known)
    elif isinstance(record, Zone):
        yield from _of_zone(record)
    elif isinstance(record, Rollout | Experiment):
        yield from _of_release(record, known)


def _of_pops(where: str, names: Iterable[str], known: Known) -> Iterator[tuple[str, str]]:
    for name in names:
        if not known.has(Kind.POPS, name):
            yield where, f"there is no pop {name!r}"


def _of_range(entry: Range, known: Known) -> Iterator[tuple[str, str]]:
    yield from _of_pops(".pop", [entry.pop], known)
    for name, selector in entry.selectors:
        service = known.topology.services.get(name)
        if service is not None:
            yield from _of_selector(".services", selector, service)
        elif not known.has(Kind.SERVICES, name):
            yield ".services", f"there is no service {name!r}"


def _of_instance(instance: Instance, known: Known) -> Iterator[tuple[str, str]]:
    yield from _of_pops(".pop", [instance.pop], known)
    service = known.topology.services.get(instance.service)
    if service is None:
        if not known.has(Kind.SERVICES, instance.service):
            yield ".service", f"there is no service {instance.service!r}"
        return
    ports = {port.name for port in service.ports}
    for name, _ in instance.ports:
        if name not in ports:
            yield ".ports", f"service {service.name!r} has no port {name!r}"


def _of_service(service: Service, known: Known) -> Iterator[tuple[str, str]]:
    dns = service.dns.removeprefix("*.")
    zones = [*known.topology.zones, *(n for kind, n in known.pardoned if kind is Kind.ZONES)]
    if not any(dns == zone or dns.endswith("." + zone) for zone in zones):
        yield ".name", f"{service.dns} lies in no zone"
    yield from _of_selector(".version", service.selector, service)
    for name, selector in service.channels:
        if isinstance(selector, Channel | Split):
            yield f".channels.{name}", "a channel stands for a version, not a channel or split"


def _of_release(record: Rollout | Experiment, known: Known) -> Iterator[tuple[str, str]]:
    if isinstance(record, Rollout) and record.phase.is_over:
        # What is over is history: it needs nothing any more.
        return
    service = known.topology.services.get(record.service)
    if service is None and not known.has(Kind.SERVICES, record.service):
        yield ".service", f"there is no service {record.service!r}"
    yield from _of_scope(record.scope, known)
    if service is None:
        return
    if isinstance(record, Experiment):
        for arm in record.arms:
            yield from _of_selector(f".arms.{arm.name}", arm.selector, service)
    elif isinstance(service.selector, Split):
        yield ".service", f"service {service.name!r} is split already, {service.selector}"


def _of_scope(scope: Scope, known: Known) -> Iterator[tuple[str, str]]:
    yield from _of_pops(".scope", scope.pops, known)
    for name in scope.ranges:
        if not known.has_range(name):
            yield ".scope", f"there is no range {name!r}"


def _of_selector(where: str, selector: Selector, service: Service) -> Iterator[tuple[str, str]]:
    channels = dict(service.channels)
    arms: list[Arm] = []
    if isinstance(selector, Split):
        arms += [arm for arm, _ in selector.arms]
    else:
        arms.append(selector)
    for arm in arms:
        if isinstance(arm, Channel) and arm.name not in channels:
            yield where, f"{arm.name!r} is neither a version nor a channel of {service.name!r}"


def _of_zone(zone: Zone) -> Iterator[tuple[str, str]]:
    for server in zone.ns:
        inside = server.name == zone.name or server.name.endswith("." + zone.name)
        if inside and not server.addresses:
            yield ".ns", f"{server.name}: a name server inside its zone needs addresses"
        if not inside and server.addresses:
            yield (
                ".ns",
                f"{server.name}: a name server outside its zone has its addresses elsewhere",
            )


def twin_faults(topology: Topology, lines: Lines) -> list[Fault]:
    """Services that stand for the same DNS name."""
    first: dict[str, str] = {}
    faults = []
    for service in topology.services.values():
        other = first.setdefault(service.dns, service.name)
        if other != service.name:
            line = lines.get((Kind.SERVICES, service.name), 0)
            what = f"{service.dns} is the name of service {other!r} already"
            faults.append(Fault(f"services.{service.name}.name", what, line))
    return faults
