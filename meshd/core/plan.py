"""A plan: the writes that a change needs, the revision it assumes, and whom it would move.

A plan can be looked at and refused before anything is written.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

from meshd.core.errors import Fault, Invalid
from meshd.core.guard import STRICT, Guard, guard_faults
from meshd.core.model import Force, Instance, Override, Record
from meshd.core.references import Known, Lines, reference_faults, twin_faults
from meshd.core.snapshot import ServiceView, Snapshot
from meshd.core.topology import Change, Kind, Topology, kind_of
from meshd.core.verdict import Verdict
from meshd.core.whatif import Effect, Flow, Move, WeightedClient, effect

DOCUMENT_KINDS = (Kind.ZONES, Kind.POPS, Kind.RANGES, Kind.SERVICES, Kind.INSTANCES)
# Removing more of a service's instances at once than this share needs force.
REMOVAL_SHARE = 0.3
# What an operator says of an instance that is to lose its clients.
_TAKES_OUT = (Force.DOWN, Force.LEAVE, Force.DRAIN)


Clients = Sequence[WeightedClient] | None


@dataclass(frozen=True, slots=True)
class Document:
    """What a topology document says: the kinds it names, their records, and their lines.

    `invalid` holds what is named there but could not be made; its faults are known already.
    """

    kinds: frozenset[Kind]
    records: tuple[Record, ...]
    lines: Lines = field(default_factory=dict)
    invalid: frozenset[tuple[Kind, str]] = frozenset()


@dataclass(frozen=True, slots=True)
class PlannedEdit:
    """One record before and after; None: not there."""

    kind: Kind
    name: str
    before: Record | None
    after: Record | None

    @property
    def action(self) -> str:
        """What is done: create, update or delete."""
        if self.before is None:
            return "create"
        return "delete" if self.after is None else "update"


@dataclass(frozen=True, slots=True)
class Plan:
    """Edits on top of `revision`; `unsafe` says why they need force."""

    revision: int
    edits: tuple[PlannedEdit, ...] = ()
    moves: tuple[Move, ...] = ()
    flows: tuple[Flow, ...] = ()
    unsafe: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def changes(self) -> tuple[Change, ...]:
        """The edits as changes."""
        return tuple(Change(edit.kind, edit.name, edit.after) for edit in self.edits)


def document_edits(topology: Topology, document: Document) -> tuple[PlannedEdit, ...]:
    """What makes the topology equal to a document for the kinds that it names."""
    wanted = {(kind_of(record), record.name): record for record in document.records}
    edits = []
    for kind in DOCUMENT_KINDS:
        if kind not in document.kinds:
            continue
        for record in topology.records(kind):
            if isinstance(record, Instance) and record.registered:
                continue
            if (kind, record.name) not in wanted and (kind, record.name) not in document.invalid:
                edits.append(PlannedEdit(kind, record.name, record, None))
    for (kind, name), record in wanted.items():
        before = topology.get(kind, name)
        if before != record:
            edits.append(PlannedEdit(kind, name, before, record))
    return tuple(edits)


def document_faults(topology: Topology, document: Document, guard: Guard = STRICT) -> list[Fault]:
    """Every fault of a document that shows only beside the topology it would make."""
    edits = document_edits(topology, document)
    after = topology.apply([Change(e.kind, e.name, e.after) for e in edits], topology.revision)
    faults = [
        Fault(
            f"instances.{edit.name}",
            "an instance registered itself under this name",
            document.lines.get((edit.kind, edit.name), 0),
        )
        for edit in edits
        if isinstance(edit.before, Instance) and edit.before.registered
    ]
    put = [edit.after for edit in edits if edit.after is not None]
    faults += guard_faults(guard, after, put, document.lines)
    return faults + _faults_after(after, edits, document.lines, document.invalid)


def _faults_after(
    after: Topology,
    edits: Sequence[PlannedEdit],
    lines: Lines,
    invalid: Collection[tuple[Kind, str]] = frozenset(),
) -> list[Fault]:
    """Faults of what was put, and of what stays but refers to something that goes."""
    put = [edit.after for edit in edits if edit.after is not None]
    referring = _referring(after, edits)
    known = Known(after, invalid)
    faults = reference_faults(known, {**dict.fromkeys(put), **dict.fromkeys(referring)}, lines)
    if any(edit.kind is Kind.SERVICES for edit in edits):
        faults += twin_faults(after, lines)
    return faults


def _referring(after: Topology, edits: Sequence[PlannedEdit]) -> Iterable[Record]:
    """Records that may refer to what was changed or deleted, instances that come and go apart."""
    kinds = {edit.kind for edit in edits if edit.before is not None}
    if kinds & {Kind.POPS, Kind.RANGES, Kind.SERVICES}:
        yield from after.rollouts.values()
        yield from after.experiments.values()
    if kinds & {Kind.POPS, Kind.SERVICES}:
        yield from after.ranges
        yield from (i for i in after.instances.values() if not i.registered)
    if Kind.POPS in kinds:
        yield from after.pops.values()
    if Kind.ZONES in kinds:
        yield from after.services.values()


def plan_document(
    snapshot: Snapshot,
    document: Document,
    guard: Guard = STRICT,
    *,
    moves: bool = True,
    clients: Clients = None,
) -> Plan:
    """Plan a document; Invalid lists every fault. `moves` and `clients` as in `plan_edits`."""
    faults = document_faults(snapshot.topology, document, guard)
    if faults:
        raise Invalid(sorted(faults, key=lambda fault: fault.line))
    edits = document_edits(snapshot.topology, document)
    return _plan(snapshot, edits, moves=moves, clients=clients)


def plan_edits(
    snapshot: Snapshot,
    changes: Sequence[Change],
    guard: Guard = STRICT,
    *,
    moves: bool = True,
    clients: Clients = None,
) -> Plan:
    """Plan changes of single records; Invalid lists every fault that they would cause.

    Without `moves` it does not say whom they move, which takes most of the time; `clients` are
    whom to look at instead of the Ranges.
    """
    topology = snapshot.topology
    edits = []
    for change in changes:
        before = topology.get(change.kind, change.name)
        if before is None and change.record is None:
            raise Invalid([Fault(f"{change.kind}.{change.name}", "there is nothing to delete")])
        # An override that says the same may hold for another time.
        if before != change.record or change.kind is Kind.OVERRIDES:
            edits.append(PlannedEdit(change.kind, change.name, before, change.record))
    after = topology.apply(changes, topology.revision)
    faults = _faults_after(after, edits, {})
    faults += guard_faults(guard, after, [edit.after for edit in edits if edit.after], {})
    faults += [
        Fault(f"overrides.{edit.name}", f"there is no instance {edit.name!r}")
        for edit in edits
        if isinstance(edit.after, Override)
        and not edit.after.is_pattern
        and edit.name not in after.instances
    ]
    if faults:
        raise Invalid(faults)
    return _plan(snapshot, tuple(edits), moves=moves, clients=clients)


def _plan(
    snapshot: Snapshot, edits: tuple[PlannedEdit, ...], *, moves: bool, clients: Clients
) -> Plan:
    before = snapshot
    changes = [Change(edit.kind, edit.name, edit.after) for edit in edits]
    after = before.advance(changes, before.topology.revision)
    unsafe = _unsafe(before, after, edits)
    found = effect(before, after, clients) if moves and edits else Effect()
    return Plan(before.topology.revision, edits, found.moves, found.flows, unsafe, found.notes)


def _unsafe(before: Snapshot, after: Snapshot, edits: Sequence[PlannedEdit]) -> tuple[str, ...]:
    """Why people would want to be asked twice: a fault in a document must not empty answers."""
    reasons = []
    for kind in {edit.kind: None for edit in edits if edit.kind in DOCUMENT_KINDS}:
        had = sum(1 for _ in before.topology.records(kind))
        if had and not any(True for _ in after.topology.records(kind)):
            reasons.append(f"all {had} {kind} would be deleted")
    gone: dict[str, int] = {}
    for edit in edits:
        if isinstance(edit.before, Instance) and _leaves(edit):
            gone[edit.before.service] = gone.get(edit.before.service, 0) + 1
    for service in [edit.name for edit in edits if edit.kind is Kind.SERVICES and not edit.after]:
        held = len(before.rosters.get(service, ()))
        if held:
            reasons.append(f"service {service} would be deleted with {held} instances")
            gone.pop(service, None)
    reasons += [
        _loss(service, count, len(before.rosters.get(service, ())))
        for service, count in gone.items()
        if service in after.topology.services
    ]
    reasons += _forced_out(before, after, edits)
    return tuple(reason for reason in reasons if reason)


def _forced_out(before: Snapshot, after: Snapshot, edits: Sequence[PlannedEdit]) -> Iterable[str]:
    """What overrides would take out beyond what deleting may, and patterns that match nobody."""
    touched: set[str] = set()
    for edit in edits:
        if not isinstance(edit.after, Override):
            continue
        names = after.topology.matching(edit.name)
        if not names:
            yield f"no instance matches {edit.name!r} now"
        if edit.after.force in _TAKES_OUT:
            touched.update(after.topology.instances[name].service for name in names)
    for service in sorted(touched & before.views.keys() & after.views.keys()):
        had, has = (_staying(snapshot.views[service]) for snapshot in (before, after))
        if had and not has:
            yield f"service {service} would have no ready instance left of {had}"
        elif had - has >= 2 and had - has > len(after.views[service].members) * REMOVAL_SHARE:
            yield f"service {service} would lose {had - has} of {had} ready instances at once"


def _staying(view: ServiceView) -> int:
    """How many instances are ready and are not on their way out."""
    verdicts = [member.verdict for member in view.members]
    return sum(verdict.is_ready and verdict is not Verdict.LEAVING for verdict in verdicts)


def _leaves(edit: PlannedEdit) -> bool:
    """True if an instance leaves its service."""
    assert isinstance(edit.before, Instance), "asked of instances only"
    return not isinstance(edit.after, Instance) or edit.after.service != edit.before.service


def _loss(service: str, count: int, held: int) -> str:
    if count >= held:
        return f"service {service} would lose its last {count} instances"
    if count >= 2 and count > held * REMOVAL_SHARE:
        return f"service {service} would lose {count} of {held} instances at once"
    return ""
