"""The one writer: what the store committed and what was observed goes into the state here."""

import asyncio
import logging
import time
from collections.abc import Iterable, Sequence

from meshd.core.errors import Compacted, Malformed, Unavailable
from meshd.core.model import Check
from meshd.core.signals import Signal
from meshd.core.snapshot import Snapshot
from meshd.core.topology import Change, Kind, Topology
from meshd.daemon.observed import Observed, Told
from meshd.daemon.reports import Reports
from meshd.daemon.state import Held, State
from meshd.daemon.store.base import Batch, Contents, Item, Store
from meshd.wire.records import GUARD_KEY, change_of, kind_and_name, record_of

log = logging.getLogger(__name__)

# Signals that come within this time make one swap.
_COALESCE_S = 0.1
# Committed batches that come while one is swapped in make one swap, within bounds: whoever
# follows applies a swap in one piece. Swaps take this share of the time at most.
_SWAP_BATCHES = 250
_DUTY = 0.5
_MOST_BATCHES = 4096
_RETRY_S = 1.0
_TICK_S = 1.0


def snapshot_of(contents: Contents) -> tuple[Snapshot, int]:
    """The snapshot of a store's contents, and the revision of its guard key.

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
    topology = Topology.load(contents.store_id, contents.revision, records)
    return Snapshot.build(topology), guard_of(contents.items)


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
        self._store = store
        self._state = state
        self.observed = observed or Observed.resume(state.snapshot)
        self.reports = Reports(self.observed)
        self._batches: asyncio.Queue[Batch] = asyncio.Queue(_MOST_BATCHES)
        self._wake = asyncio.Event()
        self.ignored = 0
        self.beats = 0

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
                self._swap((), None)
                await asyncio.sleep(_COALESCE_S)

    async def run_store(self) -> None:
        """Follow the store and swap in what it committed, for ever."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._swap_batches())
            await self._follow()

    async def _follow(self) -> None:
        has_gap = False
        received = self._state.snapshot.topology.revision
        while True:
            try:
                if has_gap:
                    received = await self._reload()
                    has_gap = False
                async for batch in self._store.follow(received):
                    await self._batches.put(batch)
                    received = batch.revision
            except Compacted:
                log.warning("store history has a gap: loading it whole")
                has_gap = True
            except Unavailable as error:
                log.warning("store lost: %s", error)
                self.store_away()
                await asyncio.sleep(_RETRY_S)

    async def _swap_batches(self) -> None:
        while True:
            batches = [await self._batches.get()]
            while not self._batches.empty() and len(batches) < _SWAP_BATCHES:
                batches.append(self._batches.get_nowait())
            began = time.monotonic()
            self._apply(batches)
            took = time.monotonic() - began
            await asyncio.sleep(min(_COALESCE_S, took * (1 / _DUTY - 1)))

    async def _reload(self) -> int:
        contents = await self._store.load()
        while not self._batches.empty():
            self._batches.get_nowait()
        snapshot, guard = snapshot_of(contents)
        known = {
            name: signal
            for name, signal in self._state.snapshot.signals.items()
            if name in snapshot.topology.instances
        }
        snapshot = snapshot.advance(signals=known)
        self.observed.reloaded(self._state.snapshot, snapshot, time.monotonic())
        pending, self.observed.pending = self.observed.pending, {}
        self._state.replace(snapshot.advance(signals=pending), guard)
        self._state.leases = leases_of(contents.items)
        return contents.revision

    def _apply(self, batches: Sequence[Batch]) -> None:
        changes: list[Change] = []
        guard = None
        for batch in batches:
            for entry in batch.changes:
                if entry.key == GUARD_KEY:
                    guard = batch.revision
                    continue
                try:
                    change = change_of(entry.key, entry.value)
                except Malformed as error:
                    self.ignored += 1
                    log.warning("change ignored: %s", error)
                    continue
                if change is not None:
                    changes.append(change)
            self._note_leases(batch)
        now = time.monotonic()
        self.observed.changed(self._state.snapshot, changes, now)
        self.reports.changed(self._state.snapshot, changes, now)
        self._swap(changes, batches[-1].revision, guard)

    def _swap(
        self, changes: Sequence[Change], revision: int | None, guard: int | None = None
    ) -> None:
        """One swap: committed changes, and all signals that are pending."""
        snapshot = self._state.snapshot
        pending, self.observed.pending = self.observed.pending, {}
        signals: dict[str, Signal | None] = dict(pending)
        for change in changes:
            # Of records that came and went within these changes, the last word counts.
            if change.kind is Kind.INSTANCES and change.record is None:
                signals.pop(change.name, None)
                if change.name in snapshot.signals:
                    signals[change.name] = None
            elif change.kind is Kind.INSTANCES and change.name in pending:
                signals[change.name] = pending[change.name]
        self._state.advance(changes, revision or snapshot.topology.revision, signals, guard)

    def _note_leases(self, batch: Batch) -> None:
        leases = self._state.leases
        for entry in batch.changes:
            found = kind_and_name(entry.key)
            if found is None or found[0] is not Kind.PRESENCE:
                continue
            if entry.value is None:
                leases.pop(found[1], None)
            else:
                leases[found[1]] = Held(entry.lease, batch.revision)
