"""The one writer: what the store committed and what instances told goes into the state here."""

import asyncio
import logging
from collections.abc import Iterable

from meshd.core.errors import Compacted, Malformed, Unavailable
from meshd.core.signals import NO_SIGNAL, Signal, observe_load
from meshd.core.snapshot import Snapshot
from meshd.core.topology import Change, Kind, Topology
from meshd.daemon.state import State
from meshd.daemon.store.base import Batch, Contents, Item, Store
from meshd.daemon.store.base import Change as StoreChange
from meshd.wire.records import GUARD_KEY, change_of, kind_and_name, record_of

log = logging.getLogger(__name__)

# Signals that come within this time make one swap.
_COALESCE_S = 0.1
_RETRY_S = 1.0


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


def leases_of(items: Iterable[Item | StoreChange]) -> dict[str, int]:
    """Which lease each present instance holds."""
    held = ((kind_and_name(item.key), item.lease) for item in items)
    return {found[1]: lease for found, lease in held if found and found[0] is Kind.PRESENCE}


def guard_of(items: Iterable[Item]) -> int:
    """The revision at which the guard key was last put."""
    return next((item.revision for item in items if item.key == GUARD_KEY), 0)


class Pump:
    """Moves committed batches and pending signals into the state, one after the other."""

    def __init__(self, store: Store, state: State) -> None:
        self._store = store
        self._state = state
        self._pending: dict[str, Signal] = {}
        self._wake = asyncio.Event()
        self.ignored = 0

    def observe_load(self, instance: str, load: float) -> None:
        """Note a pushed load; Invalid if it is none. It counts from the next swap on."""
        held = self._pending.get(instance) or self._state.snapshot.signals.get(instance, NO_SIGNAL)
        signal = observe_load(held, load)
        if signal != held or instance not in self._state.snapshot.signals:
            self._pending[instance] = signal
            self._wake.set()

    async def run_signals(self) -> None:
        """Swap pending signals in, at most ten times a second."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            pending, self._pending = self._pending, {}
            if pending:
                revision = self._state.snapshot.topology.revision
                self._state.advance((), revision, pending)
            await asyncio.sleep(_COALESCE_S)

    async def run_store(self) -> None:
        """Follow the store for ever; where its history has a gap, load it whole again."""
        has_gap = False
        while True:
            try:
                if has_gap:
                    await self._reload()
                    has_gap = False
                async for batch in self._store.follow(self._state.snapshot.topology.revision):
                    self._apply(batch)
            except Compacted:
                log.warning("store history has a gap: loading it whole")
                has_gap = True
            except Unavailable as error:
                log.warning("store lost: %s", error)
                await asyncio.sleep(_RETRY_S)

    async def _reload(self) -> None:
        contents = await self._store.load()
        snapshot, guard = snapshot_of(contents)
        known = {
            name: signal
            for name, signal in self._state.snapshot.signals.items()
            if name in snapshot.topology.instances
        }
        self._state.replace(snapshot.advance(signals=known), guard)
        self._state.leases = leases_of(contents.items)

    def _apply(self, batch: Batch) -> None:
        changes: list[Change] = []
        guard = None
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
        gone: dict[str, Signal | None] = {
            change.name: None
            for change in changes
            if change.kind is Kind.INSTANCES
            and change.record is None
            and change.name in self._state.snapshot.signals
        }
        self._state.advance(changes, batch.revision, gone, guard)

    def _note_leases(self, batch: Batch) -> None:
        leases = self._state.leases
        for name, lease in leases_of(batch.changes).items():
            if lease:
                leases[name] = lease
            else:
                leases.pop(name, None)
