"""Protobuf messages <-> core values. Messages come from outside: what is wrong raises Invalid."""

from collections.abc import Callable, Iterable, Mapping

from meshd.core.errors import Invalid
from meshd.core.model import (
    Check,
    Expected,
    Force,
    Instance,
    NameServer,
    Override,
    Pop,
    Port,
    Prefix,
    Presence,
    Range,
    Record,
    Service,
    Sticky,
    Ttl,
    Zone,
    dns_name,
    parse_address,
)
from meshd.core.release import Course, Experiment, OnNew, Rollout
from meshd.core.selector import Selector, Version, parse_selector
from meshd.core.signals import Signal
from meshd.core.topology import Change, Kind, kind_of
from meshd.core.verdict import Verdict
from meshd.v1 import records_pb2 as pb
from meshd.v1 import topology_pb2 as topology_pb
from meshd.wire.release_messages import (
    chosen,
    course_from_message,
    course_to_message,
    experiment_from_message,
    experiment_to_message,
    rollout_from_message,
    rollout_to_message,
)


def _named(selectors: Iterable[tuple[str, Selector]]) -> list[pb.NamedSelector]:
    return [pb.NamedSelector(name=name, selector=str(chosen)) for name, chosen in selectors]


def _selectors(messages: Iterable[pb.NamedSelector]) -> tuple[tuple[str, Selector], ...]:
    return tuple((message.name, parse_selector(message.selector)) for message in messages)


def _zone(zone: Zone) -> pb.Record:
    servers = [
        pb.NameServer(name=server.name, addresses=map(str, server.addresses)) for server in zone.ns
    ]
    made = pb.Zone(
        name=zone.name, ns=servers, contact=zone.contact, negative_ttl_s=zone.negative_ttl_s
    )
    return pb.Record(zone=made)


def _to_zone(message: pb.Zone) -> Zone:
    servers = tuple(
        NameServer(dns_name(server.name), tuple(map(parse_address, server.addresses)))
        for server in message.ns
    )
    return Zone(dns_name(message.name), servers, message.contact, message.negative_ttl_s)


def _pop(pop: Pop) -> pb.Record:
    made = pb.Pop(name=pop.name, fallback=pop.fallback)
    if pop.location is not None:
        made.location.latitude, made.location.longitude = pop.location
    return pb.Record(pop=made)


def _to_pop(message: pb.Pop) -> Pop:
    at = message.location
    location = (at.latitude, at.longitude) if message.HasField("location") else None
    return Pop(message.name, location, tuple(message.fallback))


def _range(entry: Range) -> pb.Record:
    services = _named(entry.selectors)
    return pb.Record(range=pb.Range(prefix=entry.name, pop=entry.pop, services=services))


def _to_range(message: pb.Range) -> Range:
    return Range(Prefix.parse(message.prefix), message.pop, _selectors(message.services))


def _service(service: Service) -> pb.Record:
    made = pb.Service(
        name=service.name,
        dns=service.dns,
        ports=[pb.Port(name=p.name, number=p.number, proto=p.proto) for p in service.ports],
        selector=str(service.selector),
        channels=_named(service.channels),
        ttl_min_s=service.ttl.min_s,
        ttl_max_s=service.ttl.max_s,
        max_answers=service.max_answers,
        sticky_v4=service.sticky.v4,
        sticky_v6=service.sticky.v6,
        fail_open=service.fail_open,
        slow_start_s=service.slow_start_s,
        max_removal=service.max_removal,
        on_new_version="" if service.on_new is OnNew.FOLLOW else service.on_new,
    )
    if service.course != Course():
        made.course.CopyFrom(course_to_message(service.course))
    if service.check is not None:
        made.check.CopyFrom(_check(service.check))
    return pb.Record(service=made)


def _check(check: Check) -> pb.Check:
    expected = check.expected
    return pb.Check(
        kind=check.kind,
        path=check.path,
        every_s=check.every_s,
        timeout_s=check.timeout_s,
        rise=check.rise,
        fall=check.fall,
        port=check.port,
        host=check.host,
        sni=check.sni,
        jitter=check.jitter,
        statuses=[pb.StatusRange(lowest=low, highest=high) for low, high in expected.statuses],
        body=expected.body,
    )


def _to_check(message: pb.Check) -> Check:
    return Check(
        message.kind,
        message.path,
        message.every_s,
        message.timeout_s,
        message.rise,
        message.fall,
        message.port,
        message.host,
        message.sni,
        message.jitter,
        _to_expected(message),
    )


def _to_expected(message: pb.Check) -> Expected:
    statuses = tuple((each.lowest, each.highest) for each in message.statuses)
    return Expected(statuses, message.body) if statuses else Expected(body=message.body)


def _to_service(message: pb.Service) -> Service:
    return Service(
        message.name,
        dns_name(message.dns),
        tuple(Port(port.name, port.number, port.proto) for port in message.ports),
        parse_selector(message.selector),
        _selectors(message.channels),
        _to_check(message.check) if message.HasField("check") else None,
        Ttl(message.ttl_min_s, message.ttl_max_s),
        message.max_answers,
        Sticky(message.sticky_v4, message.sticky_v6),
        message.fail_open,
        message.slow_start_s,
        message.max_removal or 0.5,
        chosen(OnNew, message.on_new_version, OnNew.FOLLOW),
        course_from_message(message.course, Course()),
    )


def instance_to_message(instance: Instance) -> pb.Instance:
    """An instance as it goes over gRPC."""
    return pb.Instance(
        name=instance.name,
        service=instance.service,
        version=instance.version.text,
        pop=instance.pop,
        addresses=map(str, instance.addresses),
        ports=dict(instance.ports),
        capacity=instance.capacity,
        tags=instance.tags,
        registered=instance.registered,
        epoch=instance.epoch,
    )


def instance_from_message(message: pb.Instance) -> Instance:
    """An instance as it came over gRPC; capacity 0 is taken as not given."""
    return Instance(
        message.name,
        message.service,
        Version(message.version),
        message.pop,
        tuple(map(parse_address, message.addresses)),
        tuple(sorted(message.ports.items())),
        message.capacity or 1.0,
        tuple(message.tags),
        message.registered,
        message.epoch,
    )


def _to_override(message: pb.Override) -> Override:
    if message.force not in list(Force):
        raise Invalid(f"{message.force!r} is none of {', '.join(Force)}")
    return Override(message.instance, Force(message.force))


_ENCODE: Mapping[type[Record], Callable[..., pb.Record]] = {
    Zone: _zone,
    Pop: _pop,
    Range: _range,
    Service: _service,
    Instance: lambda instance: pb.Record(instance=instance_to_message(instance)),
    Override: lambda o: pb.Record(override=pb.Override(instance=o.instance, force=o.force)),
    Presence: lambda p: pb.Record(presence=pb.Presence(instance=p.instance, epoch=p.epoch)),
    Rollout: lambda rollout: pb.Record(rollout=rollout_to_message(rollout)),
    Experiment: lambda each: pb.Record(experiment=experiment_to_message(each)),
}
_PARSE: Mapping[str, Callable[..., Record]] = {
    "zone": _to_zone,
    "pop": _to_pop,
    "range": _to_range,
    "service": _to_service,
    "instance": instance_from_message,
    "override": _to_override,
    "presence": lambda message: Presence(message.instance, message.epoch),
    "rollout": rollout_from_message,
    "experiment": experiment_from_message,
}


def record_to_message(record: Record) -> pb.Record:
    """A record as it is stored and sent."""
    return _ENCODE[type(record)](record)


def record_from_message(message: pb.Record) -> Record:
    """A record as it was stored or sent; Invalid if it cannot be one."""
    which = message.WhichOneof("record")
    if which is None:
        raise Invalid("an empty record, or one of a newer kind")
    return _PARSE[which](getattr(message, which))


def change_to_message(change: Change) -> topology_pb.Edit:
    """One change as an edit."""
    edit = topology_pb.Edit(kind=change.kind, name=change.name)
    if change.record is not None:
        edit.record.CopyFrom(record_to_message(change.record))
    return edit


def change_from_message(edit: topology_pb.Edit) -> Change:
    """An edit as a change; Invalid if kind, name and record do not belong together."""
    if edit.kind not in list(Kind):
        raise Invalid(f"{edit.kind!r} is no kind of record")
    kind = Kind(edit.kind)
    if not edit.HasField("record"):
        name = str(Prefix.parse(edit.name)) if kind is Kind.RANGES else edit.name
        return Change(kind, name, None)
    record = record_from_message(edit.record)
    if kind_of(record) is not kind or record.name != edit.name:
        raise Invalid(f"the record given for {edit.kind} {edit.name} is another one")
    return Change(kind, record.name, record)


def signal_to_message(name: str, signal: Signal | None) -> topology_pb.SignalChange:
    """What is known of an instance, or that nothing is."""
    change = topology_pb.SignalChange(instance=name)
    if signal is not None:
        change.signal.CopyFrom(
            topology_pb.Signal(
                load=signal.load,
                verdict=signal.verdict,
                share=signal.share,
                kept=signal.kept,
                held=signal.held,
                success=signal.success,
            )
        )
    return change


def signal_from_message(change: topology_pb.SignalChange) -> tuple[str, Signal | None]:
    """Name and signal; Invalid for values that no signal has."""
    if not change.HasField("signal"):
        return change.instance, None
    found = change.signal
    share, kept = found.share or 1.0, found.kept or 1.0
    success = found.success if found.HasField("success") else 1.0
    in_bounds = 0 <= found.load <= 1 and 0 < share <= 2 and 0 < kept <= 1 and 0 <= success <= 1
    if not in_bounds or found.verdict not in list(Verdict):
        raise Invalid(f"{found} is no signal")
    signal = Signal(found.load, Verdict(found.verdict), share, kept, found.held, success)
    return change.instance, signal
