"""What a whole load of the store says beyond what was followed. No I/O; in steps.

A watch is never trusted alone: servers have lost events, and history is compacted. Compared is
by key and revision; values are read only where these differ.
"""

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from meshd.core.errors import Malformed
from meshd.core.topology import Change, Kind, Topology
from meshd.daemon.store.base import Contents, Item
from meshd.wire.records import change_of, key_of

# Items looked at, and records read, before others have their turn: some milliseconds.
_LOOK_STEP = 5000
_READ_STEP = 200


@dataclass(slots=True)
class Differences:
    """What must change here to be as the store is."""

    put: list[Item] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    # Of these, those that should have been followed.
    missed: list[str] = field(default_factory=list)
    # Key -> revision, as the store has them all.
    revisions: dict[str, int] = field(default_factory=dict)

    def written(self) -> Iterator[tuple[str, bytes | None]]:
        """Each key with what stands there; None: nothing."""
        for item in self.put:
            yield item.key, item.value
        for key in self.deleted:
            yield key, None


async def differences(
    held: Mapping[str, int], topology: Topology, contents: Contents
) -> Differences:
    """Compare what is held (key -> revision; empty: not known) with what the same store holds.

    All changes up to the topology's revision should be in it.
    """
    found = Differences()
    followed = topology.revision
    for at, item in enumerate(contents.items):
        if at % _LOOK_STEP == 0:
            await asyncio.sleep(0)
        found.revisions[item.key] = item.revision
        if held.get(item.key) != item.revision:
            found.put.append(item)
    for at, key in enumerate(held or _keys(topology)):
        if at % _LOOK_STEP == 0:
            await asyncio.sleep(0)
        if key not in found.revisions:
            found.deleted.append(key)
    if held:
        found.missed += [item.key for item in found.put if item.revision <= followed]
        found.missed += found.deleted if contents.revision <= followed else ()
    return found


def _keys(topology: Topology) -> Iterator[str]:
    for kind in Kind:
        for record in topology.records(kind):
            yield key_of(kind, record.name)


async def read(
    written: Iterable[tuple[str, bytes | None]],
) -> tuple[list[Change], list[Malformed]]:
    """What was written to keys as changes of records, and what cannot be read."""
    changes: list[Change] = []
    faults: list[Malformed] = []
    for at, (key, value) in enumerate(written, 1):
        if at % _READ_STEP == 0:
            await asyncio.sleep(0)
        try:
            change = change_of(key, value)
        except Malformed as error:
            faults.append(error)
        else:
            if change is not None:
                changes.append(change)
    return changes, faults


def regress(held: Topology, contents: Contents) -> str:
    """Why a store must not be taken as it is; empty: it may be.

    A fault may freeze answers, never empty them, nor take them back to what was before.
    """
    if contents.store_id == held.store_id and contents.revision < held.revision:
        return (
            f"the store is at revision {contents.revision}, behind {held.revision} that this core"
            " has seen of it (restored from a backup?)"
        )
    is_empty = not any(item.key.startswith(f"{Kind.SERVICES}/") for item in contents.items)
    if contents.store_id != held.store_id and held.services and is_empty:
        return f"the store is another one ({contents.store_id}) and empty (wiped?)"
    return ""
