"""What makes a topology equal to saved records, and what of those is not put back."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from meshd.core.errors import Fault, Invalid
from meshd.core.model import Instance, Override, Presence, Record
from meshd.core.plan import DOCUMENT_KINDS, Document, document_edits
from meshd.core.topology import Change, Kind, Topology


@dataclass(frozen=True, slots=True)
class Restore:
    """The changes, and the overrides that stand on instances which are not there (yet)."""

    changes: tuple[Change, ...]
    left_out: tuple[Override, ...]


def comes_back(record: Record) -> bool:
    """True for what its process writes anew when it reaches a core: nobody restores that."""
    if isinstance(record, Instance):
        return record.registered
    return isinstance(record, Presence)


def plan_restore(topology: Topology, records: Iterable[Record]) -> Restore:
    """Make documented kinds and overrides equal; Invalid if what registered is in the way."""
    wanted = [record for record in records if not comes_back(record)]
    documented = tuple(record for record in wanted if not isinstance(record, Override))
    edits = document_edits(topology, Document(frozenset(DOCUMENT_KINDS), documented))
    faults = [
        Fault(f"instances.{edit.name}", "an instance registered itself under this name")
        for edit in edits
        if isinstance(edit.before, Instance) and edit.before.registered
    ]
    if faults:
        raise Invalid(faults)
    changes = [Change(edit.kind, edit.name, edit.after) for edit in edits]
    after = topology.apply(changes, topology.revision)
    overrides = [record for record in wanted if isinstance(record, Override)]
    left_out = [o for o in overrides if not o.is_pattern and o.name not in after.instances]
    changes += _override_changes(topology, [o for o in overrides if o not in left_out])
    return Restore(tuple(changes), tuple(left_out))


def _override_changes(topology: Topology, wanted: Sequence[Override]) -> Iterable[Change]:
    names = {override.name for override in wanted}
    for name in topology.overrides.keys() - names:
        yield Change(Kind.OVERRIDES, name, None)
    for override in wanted:
        if topology.overrides.get(override.name) != override:
            yield Change.put(override)
