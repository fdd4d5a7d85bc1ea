"""The one writer: what the store committed and what was observed goes into the state here."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from meshd.core.errors import Malformed
from meshd.core.model import Check
from meshd.core.signals import Signal
from meshd.core.snapshot import Snapshot
from meshd.core.topology import Change, Kind, Topology
from meshd.daemon.following import Following
from meshd.daemon.observed import Observed
from meshd.daemon.reach import Reach
from meshd.daemon.relist import Differences, differences, read
from meshd.daemon.reports import Reports
from meshd.daemon.state import Held, State, advanced
from meshd.daemon.store.base import Batch, Contents, Item, Store
from meshd.daemon.told import Told
from meshd.wire.records import GUARD_KEY, kind_and_name, record_of

log = logging.getLogger(__name__)

# Signals that come within this time make one swap.
_COALESCE_S = 0.1
# Committed batches that come while one is swapped in make one swap, within bounds: whoever
# follows applies a swap in one piece. Swaps take this share of the time at most.
_SWAP_BATCHES = 250
_DUTY = 0.5
_TICK_S = 1.0
# More changes than this are swapped in by a thread: the event loop has others to serve.
_AT_ONCE = 500
# Keys noted before others have their turn.
_STEP = 2000


def snapshot_of(contents: Contents) -> tuple[Snapshot, int]:
    """The snapshot of a store's contents, and the revision of its guard key."""
    return Snapshot.build(topology_of(contents)), guard_of(contents.items)


def topology_of(contents: Contents) -> Topology:
    """The topology of a store's contents.

    What cannot be read is left out and logged: one bad value must not stop the rest.
    """
    records = []
    for item in contents.items:
        if kind_and_name(item.key) is None:
            continue
        try:
            records.append(record_of(item.key, item.value))
        except Malformed as error:
            log.warning("record ignored: %s", error)
    return Topology.load(contents.store_id, contents.revision, records)


def leases_of(items: Iterable[Item]) -> dict[str, Held]:
    """Which lease each present instance holds."""
    held = ((kind_and_name(item.key), Held(item.lease, item.revision)) for item in items)
    return {found[1]: lease for found, lease in held if found and found[0] is Kind.PRESENCE}


def guard_of(items: Iterable[Item]) -> int:
    """The revision at which the guard key was last put."""
    return next((item.revision for item in items if item.key == GUARD_KEY), 0)


class Pump:
    """Moves committed batches and new signals into the state, one after the other."""

    def __init__(self, store: Store, state: State, observed: Observed | None = None) -> None:
        self._state = state
        self.observed = observed or Observed.resume(state.snapshot)
        self.reports = Reports(self.observed)
        self.reach = Reach(self.store_away)
        self.following = Following(store, state, self.reach, self._take)
        # Key -> revision of what is swapped in; empty: not known, as after a start from disk.
        self._revisions: dict[str, int] = {}
        # Held while a swap is made: large ones are made by a thread.
        self._swapping = asyncio.Lock()
        self._wake = asyncio.Event()
        self.ignored = 0
        self.beats = 0
        # Changes that the watch did not bring, and a load did.
        self.missed = 0
        # Whoever has to know of keys that hold no record: told of each batch, and of each load.
        self.on_batch: Callable[[Batch], None] = lambda batch: None
        self.on_load: Callable[[Contents], None] = lambda contents: None

    def begin(self, contents: Contents) -> None:
        """The state was made of all this: go on from there."""
        self.on_load(contents)
        self._revisions, self._state.leases = _places(contents)
        self.following.begin(contents)

    @property
    def alarm(self) -> str:
        """What an operator has to decide about the store; empty: nothing."""
        return self.following.alarm

    def revision_of(self, key: str) -> int | None:
        """The revision of a key as the snapshot holds it; None: not there, or not known now."""
        # Keys are noted before they are swapped in: whoever read the snapshot would pass for one
        # who has seen what is still to come.
        revision = self._revisions.get(key, 0)
        return revision if 0 < revision <= self._state.snapshot.topology.revision else None

    def wake(self) -> None:
        """Something was observed: swap it in soon."""
        self._wake.set()

    def beat(self, instance: str, told: Told, load: float | None = None) -> None:
        """Note what an instance told; Invalid if the load is none."""
        self.observed.beat(self._state.snapshot, instance, told, load, time.monotonic())
        self.beats += 1
        self._wake.set()

    def probe(self, instance: str, passed: bool, check: Check) -> None:
        """Note what a probe found."""
        self.observed.probe(self._state.snapshot, instance, passed, check, time.monotonic())
        self._wake.set()

    def unprobed(self, instance: str) -> None:
        """Note that an instance is not probed."""
        self.observed.unprobed(self._state.snapshot, instance, time.monotonic())
        self._wake.set()

    def withdraw(self, instance: str) -> None:
        """Note that an instance is left to other cores to probe."""
        self.observed.withdraw(self._state.snapshot, instance, time.monotonic())
        self._wake.set()

    def store_away(self) -> None:
        """Note that the store could not be reached just now."""
        self.observed.store_away(time.monotonic())

    async def run_ticks(self) -> None:
        """Let time pass, for ever."""
        while True:
            await asyncio.sleep(_TICK_S)
            self.observed.tick(self._state.snapshot, time.monotonic())
            self.reports.tick(self._state.snapshot, time.monotonic())
            self._wake.set()

    async def run_signals(self) -> None:
        """Swap new signals in, at most ten times a second."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            if self.observed.pending:
                async with self._swapping:
                    await self._swap((), None)
                await asyncio.sleep(_COALESCE_S)

    async def run_store(self) -> None:
        """Follow the store and swap in what it committed, for ever."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._swap_batches())
            await self.following.run()

    async def _swap_batches(self) -> None:
        queue = self.following.batches
        while True:
            batches = [await queue.get()]
            while not queue.empty() and len(batches) < _SWAP_BATCHES:
                batches.append(queue.get_nowait())
            began = time.monotonic()
            await self._apply(batches)
            for _ in batches:
                queue.task_done()
            took = time.monotonic() - began
            await asyncio.sleep(min(_COALESCE_S, took * (1 / _DUTY - 1)))

    async def _apply(self, batches: Sequence[Batch]) -> None:
        written = ((entry.key, entry.value) for batch in batches for entry in batch.changes)
        changes = await self._read(written)
        for batch in batches:
            self.on_batch(batch)
            self._note(batch)
        await self._change(changes, batches[-1].revision, self._revisions.get(GUARD_KEY))

    async def _read(self, written: Iterable[tuple[str, bytes | None]]) -> Sequence[Change]:
        changes, faults = await read(written)
        self.ignored += len(faults)
        for error in faults:
            log.warning("change ignored: %s", error)
        return changes

    async def _change(
        self,
        changes: Sequence[Change],
        revision: int,
        guard: int | None,
        doubted: Iterable[str] = (),
    ) -> None:
        """Swap in what was committed; losses of presences that are `doubted` have to wait."""
        async with self._swapping:
            now = time.monotonic()
            self.observed.doubt(doubted, now)
            self.observed.changed(self._state.snapshot, changes, now, revision)
            self.reports.changed(self._state.snapshot, changes, now)
            await self._swap(changes, revision, guard)

    async def _swap(
        self, changes: Sequence[Change], revision: int | None, guard: int | None = None
    ) -> None:
        """One swap: committed changes, and all signals that are pending."""
        snapshot = self._state.snapshot
        pending = dict(self.observed.pending)
        signals: dict[str, Signal | None] = dict(pending)
        for change in changes:
            # Of records that came and went within these changes, the last word counts.
            if change.kind is Kind.INSTANCES and change.record is None:
                signals.pop(change.name, None)
                if change.name in snapshot.signals:
                    signals[change.name] = None
            elif change.kind is Kind.INSTANCES and change.name in pending:
                signals[change.name] = pending[change.name]
        revision = revision or snapshot.topology.revision
        if len(changes) <= _AT_ONCE:
            made = advanced(snapshot, changes, revision, signals)
        else:
            made = await asyncio.to_thread(advanced, snapshot, changes, revision, signals)
            # Taking it has nothing left to do then.
            await asyncio.to_thread(self._state.lasting.swapped, made[0], time.monotonic())
        self._settle(pending)
        self._state.take(*made, guard)

    def _settle(self, taken: Mapping[str, Signal]) -> None:
        """Signals that are about to be swapped in are pending no more; newer ones still are."""
        pending = self.observed.pending
        self.observed.pending = {
            name: signal for name, signal in pending.items() if taken.get(name) is not signal
        }

    async def _take(self, contents: Contents) -> None:
        """Take a store that was loaded whole."""
        self.on_load(contents)
        if contents.store_id != self._state.snapshot.topology.store_id:
            await self._replace(contents)
            return
        topology = self._state.snapshot.topology
        found = await differences(self._revisions, topology, contents)
        # What is as it was is no change: it was put again, or its revision was not known.
        changes = [
            change
            for change in await self._read(found.written())
            if topology.get(change.kind, change.name) != change.record
        ]
        if found.missed:
            self.missed += len(found.missed)
            log.warning(
                "store watch missed changes: count=%d %s", len(found.missed), found.missed[:5]
            )
        await self._note_found(found)
        guard = found.revisions.get(GUARD_KEY)
        if changes or contents.revision > topology.revision:
            lost = [c.name for c in changes if c.kind is Kind.PRESENCE and c.record is None]
            doubted = lost if self.following.has_gap else ()
            await self._change(changes, contents.revision, guard, doubted)
        elif guard:
            # Not known after a start from disk.
            self._state.guard = guard

    async def _note_found(self, found: Differences) -> None:
        """Remember where each key stands, in steps."""
        for at, item in enumerate(found.put, 1):
            if at % _STEP == 0:
                await asyncio.sleep(0)
            self._hold(item.key, Held(item.lease, item.revision))
        for key in found.deleted:
            self._hold(key, None)
        self._revisions = found.revisions

    async def _replace(self, contents: Contents) -> None:
        """Take a store that does not follow from the one before."""
        async with self._swapping:
            before = self._state.snapshot
            snapshot = await asyncio.to_thread(_built, contents, before.signals)
            places = await asyncio.to_thread(_places, contents)
            self.observed.reloaded(before, snapshot, time.monotonic())
            pending, self.observed.pending = self.observed.pending, {}
            self._revisions, self._state.leases = places
            self._state.replace(snapshot.advance(signals=pending), guard_of(contents.items))

    def _note(self, batch: Batch) -> None:
        """Remember where the keys of a batch stand."""
        for entry in batch.changes:
            if entry.value is None:
                self._revisions.pop(entry.key, None)
                self._hold(entry.key, None)
            else:
                self._revisions[entry.key] = batch.revision
                self._hold(entry.key, Held(entry.lease, batch.revision))

    def _hold(self, key: str, held: Held | None) -> None:
        """Remember which lease a presence is bound to."""
        found = kind_and_name(key)
        if found is None or found[0] is not Kind.PRESENCE:
            return
        if held is None:
            self._state.leases.pop(found[1], None)
        else:
            self._state.leases[found[1]] = held


def _built(contents: Contents, signals: Mapping[str, Signal]) -> Snapshot:
    topology = topology_of(contents)
    known = {name: signal for name, signal in signals.items() if name in topology.instances}
    return Snapshot.build(topology, known)


def _places(contents: Contents) -> tuple[dict[str, int], dict[str, Held]]:
    """Where each key stands, and the leases of presences."""
    revisions = {item.key: item.revision for item in contents.items}
    return revisions, leases_of(contents.items)
