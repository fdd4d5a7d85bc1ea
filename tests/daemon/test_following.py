"""A store that loses events, goes back, is wiped or away: answers freeze, and are never emptied."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from meshd.core.errors import Refused, Unavailable
from meshd.core.model import Presence
from meshd.core.signals import NO_SIGNAL
from meshd.core.snapshot import Snapshot
from meshd.core.topology import Kind, Topology
from meshd.daemon import following
from meshd.daemon.gate import Gate
from meshd.daemon.pump import Pump, snapshot_of
from meshd.daemon.saved import read_saved, write_saved
from meshd.daemon.state import State
from meshd.daemon.store.base import Author, Delete, Put
from meshd.wire.records import GUARD_KEY, key_of
from tests import samples
from tests.daemon.cores import until
from tests.daemon.stores import FaultyStore
from tests.daemon.test_pump import TEST, newcomer, put

OTHERS = [put(newcomer("n1")), put(newcomer("n2")), put(newcomer("n3"))]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_RETRY_S", "_FROZEN_S", "_LOAD_EVERY_S"):
        monkeypatch.setattr(following, name, 0.05)


@dataclass
class Core:
    """State and pump of a core."""

    state: State
    pump: Pump

    @property
    def revision(self) -> int:
        return self.state.snapshot.topology.revision

    @property
    def instances(self) -> set[str]:
        return set(self.state.snapshot.topology.instances)


@asynccontextmanager
async def core(
    store: FaultyStore, begins: Snapshot | None = None, relist_s: float | None = None
) -> AsyncIterator[Core]:
    """A core that begins with what it is given, else with what the store holds."""
    if begins is None:
        contents = await store.load()
        state = State(*snapshot_of(contents))
        pump = Pump(store, state)
        pump.begin(contents)
    else:
        state = State(begins, 0)
        pump = Pump(store, state)
    pump.following.relist_s = relist_s
    work = [
        asyncio.create_task(each)
        for each in (pump.run_store(), pump.run_signals(), pump.reach.run(store))
    ]
    try:
        yield Core(state, pump)
    finally:
        for task in work:
            task.cancel()
        await asyncio.gather(*work, return_exceptions=True)


async def filled(**more: int) -> FaultyStore:
    store = FaultyStore(**more)
    await store.commit([put(record) for record in samples.RECORDS], TEST)
    return store


async def test_what_the_watch_lost_is_found_and_counted() -> None:
    """One load brings what was put and what was deleted, as one change at its revision."""
    store = await filled()
    async with core(store, relist_s=1.0) as made:
        await store.commit_unheard([*OTHERS, Put(GUARD_KEY, b"1")])
        await store.commit_unheard([Delete(key_of(Kind.INSTANCES, "api-eu-1"))])
        await store.commit([put(newcomer("n4"))], TEST)
        await until("the change that was heard", lambda: "n4" in made.instances)
        assert not made.instances & {"n1", "n2", "n3"}
        swaps = made.state.swaps
        await until("the changes that were not", lambda: "n1" in made.instances)
        assert {"n1", "n2", "n3", "n4"} <= made.instances
        assert "api-eu-1" not in made.instances
        assert made.state.swaps == swaps + 1
        assert (made.revision, made.state.guard) == (4, 2)
        # The deletion may be newer than what was followed for all that anybody can tell.
        assert made.pump.missed == 5


async def test_a_load_that_brings_nothing_new_changes_nothing() -> None:
    store = await filled()
    async with core(store, relist_s=0.05) as made:
        await until("it was loaded", lambda: made.pump.following.loads > 3)
        assert (made.state.swaps, made.pump.missed) == (0, 0)
        # What others wrote moves the revision, as it does for who begins now.
        store.skip(3)
        await until("all are as new", lambda: made.revision == 4)
        assert made.pump.missed == 0


async def test_a_gap_in_history_costs_followers_no_snapshot() -> None:
    store = await filled()
    async with core(store) as made:
        feed = made.state.follow()
        store.heard.clear()
        await store.commit([OTHERS[0]], TEST)
        await asyncio.sleep(0.1)
        for number in range(20):
            await store.commit([Put("others/x", b"%d" % number), *OTHERS], TEST)
        store.forget_history()
        store.heard.set()
        await until("all of it", lambda: made.revision == 22)
        assert "n3" in made.instances
        assert not feed.overrun
        assert made.state.since(store.store_id, 1) is not None


async def test_a_long_backlog_is_loaded_not_caught_up_with() -> None:
    store = await filled()
    async with core(store) as made:
        with store.away():
            await until("it is away", lambda: made.pump.reach.is_away)
        loads = store.loads
        store.restore(store.backup())
        store.skip(6000)
        await until("it is up to date", lambda: made.revision == 6001)
        assert store.loads > loads


async def test_losses_while_nobody_looked_are_not_believed_at_once() -> None:
    store = await filled()
    names = ["n1", "n2", "n3"]
    await store.commit([each for n in names for each in (put(newcomer(n)), put(Presence(n)))], TEST)
    async with core(store) as made:
        store.heard.clear()
        await store.commit([Put("others/x", b"")], TEST)
        await asyncio.sleep(0.1)
        await store.commit([Delete(key_of(Kind.PRESENCE, "n1"))], TEST)
        await store.commit([Put("others/x", b"")], TEST)
        store.forget_history()
        store.heard.set()
        await until("it is gone", lambda: "n1" not in made.state.snapshot.topology.presence)
        assert made.state.snapshot.signals["n1"].held
        assert "n1" not in made.state.leases
        # With nothing lost on the way, who is gone is gone.
        await store.commit([Delete(key_of(Kind.PRESENCE, "n2"))], TEST)
        await until("it is gone", lambda: "n2" not in made.state.snapshot.topology.presence)
        assert not made.state.snapshot.signals.get("n2", NO_SIGNAL).held


async def test_a_loss_that_a_regular_load_finds_is_believed() -> None:
    """The watch was there all the time: nobody's lease ran out unseen."""
    store = await filled()
    names = ["n1", "n2", "n3"]
    await store.commit([each for n in names for each in (put(newcomer(n)), put(Presence(n)))], TEST)
    async with core(store, relist_s=0.2) as made:
        await store.commit_unheard([Delete(key_of(Kind.PRESENCE, "n1"))])
        await until("it is gone", lambda: "n1" not in made.state.snapshot.topology.presence)
        assert not made.state.snapshot.signals.get("n1", NO_SIGNAL).held


async def test_an_older_store_freezes_until_it_is_accepted(tmp_path: Path) -> None:
    store = await filled()
    backup = store.backup()
    await store.commit(OTHERS, TEST)
    async with core(store) as made:
        gate = Gate(store, made.pump)
        store.restore(backup)
        await until("an alarm", lambda: bool(made.pump.alarm))
        assert "revision 1, behind 2" in made.pump.alarm
        assert "accept-store" in made.pump.alarm
        assert (made.revision, "n1" in made.instances) == (2, True)
        for write in (gate.commit(OTHERS, TEST), gate.grant(5), gate.renew(1), gate.revoke(1)):
            with pytest.raises(Unavailable, match=r"nothing is written: .*behind 2"):
                await write
        write_saved(tmp_path / "state", made.state.snapshot, topology=True)
    saved = read_saved(tmp_path / "state")
    assert saved is not None
    # Starting again accepts nothing.
    async with core(store, saved.snapshot()) as made:
        await until("the alarm again", lambda: bool(made.pump.alarm))
        feed = made.state.follow()
        store_id, revision = await made.pump.following.accept("ann")
        assert (store_id, revision) == (store.store_id, 1)
        assert store_id != backup.store_id
        assert (made.revision, "n1" in made.instances) == (1, False)
        assert feed.overrun
        await Gate(store, made.pump).commit(OTHERS, TEST)
        await until("it is followed again", lambda: "n1" in made.instances)
        with pytest.raises(Refused, match="nothing to accept"):
            await made.pump.following.accept("ann")


async def test_an_older_store_that_moves_on_is_older_still() -> None:
    """Leases that end in a backup move its revision past what is held; it lacks the same."""
    store = await filled()
    backup = store.backup()
    await store.commit(OTHERS, TEST)
    async with core(store) as made:
        store.restore(backup)
        await until("an alarm", lambda: bool(made.pump.alarm))
        for _ in range(3):
            await store.commit([put(newcomer("n9"))], TEST)
        assert await store.head() > 2
        await asyncio.sleep(2.5)
        assert made.pump.alarm
        assert (made.revision, "n1" in made.instances, "n9" in made.instances) == (2, True, False)
        await made.pump.following.accept("ann")
        assert "n1" not in made.instances
        assert "n9" in made.instances


async def test_after_it_was_accepted_a_store_is_followed_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(following, "_FROZEN_S", 60)
    store = await filled()
    backup = store.backup()
    await store.commit(OTHERS, TEST)
    async with core(store) as made:
        store.restore(backup)
        await until("an alarm", lambda: bool(made.pump.alarm))
        await made.pump.following.accept("ann")
        revision = await store.commit(OTHERS, TEST)
        await made.pump.following.seen(revision)
        assert "n1" in made.instances


async def test_who_wrote_to_a_store_that_seemed_away_follows_it_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(following, "_RETRY_S", 60)
    store = await filled()
    async with core(store) as made:
        with store.away():
            await until("it is away", lambda: made.pump.reach.is_away)
        revision = await store.commit(OTHERS, TEST)
        await made.pump.following.seen(revision)
        assert "n1" in made.instances


async def test_a_wiped_store_empties_nothing(tmp_path: Path) -> None:
    store = await filled()
    async with core(store) as made, core(store) as other:
        store.wipe()
        await until("an alarm", lambda: bool(made.pump.alarm and other.pump.alarm))
        assert "empty" in made.pump.alarm
        assert "api" in made.state.snapshot.topology.services
        # Somebody writes there, but no service.
        await store.commit([Put("nodes/a", b""), put(samples.RECORDS[1])], TEST)
        await asyncio.sleep(0.2)
        assert made.pump.alarm
        store_id, _ = await made.pump.following.accept("ann")
        assert store_id == store.store_id
        assert not made.state.snapshot.topology.services
        assert "api" in other.state.snapshot.topology.services
        # Filled again it is the store of all.
        await store.commit([put(record) for record in samples.RECORDS], TEST)
        await until("all follow it", lambda: other.revision == made.revision == 2)
        assert not other.pump.alarm
        assert other.state.snapshot.topology.instances == made.state.snapshot.topology.instances


async def test_another_store_with_services_is_taken() -> None:
    store = await filled()
    async with core(store) as made:
        another = await filled()
        await another.commit(OTHERS, TEST)
        store.restore(another.backup())
        await until("it is followed", lambda: "n1" in made.instances)
        assert made.state.snapshot.topology.store_id == another.store_id
        assert not made.pump.alarm


async def test_a_start_from_disk_goes_on_from_there() -> None:
    """What differs comes as one change; signals stay, for instances that are still there."""
    store = await filled()
    snapshot, _ = snapshot_of(await store.load())
    await store.commit([*OTHERS, Delete(key_of(Kind.INSTANCES, "api-eu-2"))], TEST)
    with store.away():
        async with core(store, snapshot) as made:
            await until("it is away", lambda: made.pump.reach.is_away)
            assert made.state.is_loaded
            assert made.revision == 1
            store._is_there.set()
            await until("the rest", lambda: made.revision == 2)
            assert {"n1", "api-eu-1"} <= made.instances
            assert "api-eu-2" not in made.instances
            assert (made.state.swaps, made.pump.missed) == (1, 0)
            await store.commit([Put(GUARD_KEY, b"x")], TEST)
            await until("it is followed", lambda: made.state.guard == 3)


async def test_a_start_from_disk_with_all_there_is_can_write() -> None:
    store = await filled()
    await store.commit(
        [Put(GUARD_KEY, b"1"), put(Presence("api-eu-1"), await store.grant(9))], TEST
    )
    snapshot, _ = snapshot_of(await store.load())
    async with core(store, snapshot) as made:
        await until("it was loaded", lambda: made.pump.following.loads == 1)
        assert (made.state.guard, made.state.swaps) == (2, 0)
        assert made.state.leases["api-eu-1"].revision == 2


async def test_a_start_with_nothing() -> None:
    store = await filled()
    async with core(store, Snapshot.build(Topology())) as made:
        async with asyncio.timeout(5):
            await made.state.loaded()
        assert "api" in made.state.snapshot.topology.services
        assert (made.revision, made.pump.alarm) == (1, "")


async def test_catching_up_with_what_others_have_seen() -> None:
    store = await filled()
    async with core(store, relist_s=600) as made:
        await until("it watches", lambda: made.pump.following._watching is not None)
        store.heard.clear()
        await store.commit(OTHERS, TEST)
        assert await made.pump.following.catch_up(2)
        assert "n1" in made.instances
        assert await made.pump.following.catch_up(1)


async def test_a_commit_that_hangs_is_told_in_time() -> None:
    store = await filled()
    async with core(store) as made:
        gate = Gate(store, made.pump, wait_s=0.1)
        store.committing.clear()
        with pytest.raises(Unavailable, match=r"did not answer within 0\.1 s: it may be written"):
            await gate.commit(OTHERS, Author("ann", "test"))
        assert made.pump.reach.reason


@pytest.mark.parametrize("is_gap", [False, True])
async def test_many_differences_do_not_hold_others_up(is_gap: bool) -> None:
    """While thousands of instances are swapped in others have their turn."""
    store = await filled()
    async with core(store) as made:
        store.heard.clear()
        await store.commit([OTHERS[0]], TEST)
        await asyncio.sleep(0.1)
        await store.commit([put(newcomer(f"m{n}", "old")) for n in range(20_000)], TEST)
        if is_gap:
            await store.commit([Put("others/x", b"")], TEST)
            store.forget_history()
        loop = asyncio.get_running_loop()
        store.heard.set()
        gaps, before = [0.0], loop.time()
        while "m0" not in made.instances:
            await asyncio.sleep(0.001)
            gaps.append(loop.time() - before)
            before = loop.time()
        assert max(gaps) < sum(gaps) / 2
