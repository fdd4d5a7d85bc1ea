"""Whatever is done to it, the store in a file holds what a plain dictionary would hold."""

import asyncio
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from meshd.core.errors import Conflict
from meshd.daemon.store.base import Delete, Expect, Put, Write
from meshd.daemon.store.embedded import EmbeddedStore
from tests.daemon.store.drive import ALICE, take

NAMES = st.sampled_from(["a", "b", "ab", "ä", '"\\\n', "\U0001f600", "0", "null"])
WRITES = st.one_of(
    st.builds(Put, NAMES, st.binary(max_size=6)),
    st.builds(Delete, NAMES),
)


@dataclass(frozen=True, slots=True)
class Ask:
    """A commit to ask for; `lag` says how wrong each expectation is."""

    writes: list[Write]
    lags: dict[str, int]


ASKS = st.builds(
    Ask,
    st.lists(WRITES, max_size=4, unique_by=lambda write: write.key),
    st.dictionaries(NAMES, st.sampled_from([0, 0, 0, 1]), max_size=2),
)
# Lists of commits that are made at the same time; None: close and open again.
STEPS = st.lists(st.one_of(st.none(), st.lists(ASKS, min_size=1, max_size=5)), max_size=8)


@dataclass(slots=True)
class Twin:
    """The dumb one: a dictionary, and a copy of it for each revision."""

    held: dict[str, tuple[bytes, int]] = field(default_factory=dict)
    past: list[dict[str, bytes]] = field(default_factory=lambda: [{}])

    def expectations(self, ask: Ask) -> list[Expect]:
        return [Expect(key, self.held.get(key, (b"", 0))[1] + lag) for key, lag in ask.lags.items()]

    def commit(self, writes: list[Write], expect: list[Expect]) -> int | None:
        for wanted in expect:
            if self.held.get(wanted.key, (b"", 0))[1] != wanted.revision:
                return None
        effective = [write for write in writes if isinstance(write, Put) or write.key in self.held]
        if not effective:
            return len(self.past) - 1
        for write in effective:
            if isinstance(write, Put):
                self.held[write.key] = (write.value, len(self.past))
            else:
                del self.held[write.key]
        self.past.append({key: value for key, (value, _) in self.held.items()})
        return len(self.past) - 1


async def _step(store: EmbeddedStore, twin: Twin, asks: list[Ask]) -> None:
    calls = [(ask.writes, twin.expectations(ask)) for ask in asks]
    wanted = [twin.commit(*call) for call in calls]
    results = await asyncio.gather(
        *(store.commit(writes, ALICE, expect) for writes, expect in calls), return_exceptions=True
    )
    assert [None if isinstance(got, Conflict) else got for got in results] == wanted


async def _compare(store: EmbeddedStore, twin: Twin) -> None:
    contents = await store.load()
    assert contents.revision == len(twin.past) - 1
    held = [(item.key, item.value, item.revision) for item in contents.items]
    assert held == sorted((key, *value) for key, value in twin.held.items())
    replayed: dict[str, bytes] = {}
    entries = (await store.history(1000))[::-1]
    for batch, entry in zip(await take(store.follow(0), contents.revision), entries, strict=True):
        befores = {edit.key: edit.before for edit in entry.edits}
        assert befores == {change.key: replayed.get(change.key) for change in batch.changes}
        for change in batch.changes:
            if change.value is None:
                del replayed[change.key]
            else:
                replayed[change.key] = change.value
        assert replayed == twin.past[batch.revision]


async def _play(path: Path, steps: list[list[Ask] | None]) -> None:
    store, twin = await EmbeddedStore.open(path), Twin()
    try:
        for asks in steps:
            if asks is None:
                await store.close()
                store = await EmbeddedStore.open(path)
            else:
                await _step(store, twin, asks)
        await _compare(store, twin)
    finally:
        await store.close()


@settings(max_examples=100, deadline=None)
@given(STEPS)
def test_the_store_equals_a_dictionary(steps: list[list[Ask] | None]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(_play(Path(directory) / "store.db", steps))
