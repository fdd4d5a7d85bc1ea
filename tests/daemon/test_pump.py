"""The one writer: batches that come together make one swap, and what is observed goes with them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address

from meshd.core.model import Check, Instance, Presence, Record
from meshd.core.selector import Version
from meshd.core.snapshot import Snapshot
from meshd.core.topology import Kind, kind_of
from meshd.core.verdict import Verdict
from meshd.daemon.pump import Pump, snapshot_of
from meshd.daemon.state import State
from meshd.daemon.store.base import Author, Delete, Put, Write
from meshd.daemon.store.memory import MemoryStore
from meshd.daemon.told import Told
from meshd.wire.records import key_of, value_of
from tests import samples

TEST = Author("test", "test")


def put(record: Record, lease: int = 0) -> Put:
    return Put(key_of(kind_of(record), record.name), value_of(record), lease)


def newcomer(name: str, service: str = "api") -> Instance:
    address = ip_address("10.9.0.1")
    return Instance(name, service, Version("1.2.0"), "eu", (address,), registered=True)


@dataclass
class Core:
    """A store, a state, a pump, and every snapshot that was swapped in."""

    store: MemoryStore
    state: State
    pump: Pump
    swaps: list[Snapshot] = field(default_factory=list)

    async def watch(self) -> None:
        while True:
            await self.state.moved()
            self.swaps.append(self.state.snapshot)

    async def commit(self, *writes: Write) -> int:
        revision = await self.store.commit(writes, TEST)
        await self.state.reached(revision)
        return revision


@asynccontextmanager
async def core() -> AsyncIterator[Core]:
    store = MemoryStore()
    await store.commit([put(record) for record in samples.RECORDS], TEST)
    state = State(*snapshot_of(await store.load()))
    made = Core(store, state, Pump(store, state))
    work = [
        asyncio.create_task(each)
        for each in (store.run(), made.pump.run_store(), made.pump.run_signals(), made.watch())
    ]
    try:
        await asyncio.sleep(0)
        yield made
    finally:
        for task in work:
            task.cancel()
        await asyncio.gather(*work, return_exceptions=True)
        await store.close()


def verdict(snapshot: Snapshot, name: str) -> Verdict:
    return snapshot.verdict(snapshot.topology.instances[name])


async def test_a_burst_of_commits_is_few_swaps_and_none_is_lost() -> None:
    async with core() as made:
        commits = [
            made.store.commit([put(newcomer(f"n{n}")), put(Presence(f"n{n}"))], TEST)
            for n in range(500)
        ]
        revisions = await asyncio.gather(*commits)
        await made.state.reached(max(revisions))
        snapshot = made.state.snapshot
        assert {f"n{n}" for n in range(500)} <= snapshot.topology.instances.keys()
        assert {f"n{n}" for n in range(500)} <= snapshot.topology.presence.keys()
        assert len(made.swaps) < 50
        built, _ = snapshot_of(await made.store.load())
        assert snapshot.topology.instances == built.topology.instances
        assert snapshot.rosters == built.rosters


async def test_what_came_and_went_in_one_swap_is_gone() -> None:
    async with core() as made:
        key = key_of(Kind.INSTANCES, "n1")
        await asyncio.gather(
            made.store.commit([put(newcomer("n1"))], TEST),
            made.store.commit([Delete(key)], TEST),
            made.store.commit([put(newcomer("n2"))], TEST),
        )
        await made.state.reached(4)
        assert "n1" not in made.state.snapshot.signals
        assert "n1" not in made.state.snapshot.topology.instances
        assert "n2" in made.state.snapshot.topology.instances
        # It comes again as if for the first time.
        await made.commit(put(newcomer("n1")))
        assert "n1" in made.state.snapshot.topology.instances


async def test_a_newcomer_of_a_checked_service_waits_for_its_probe() -> None:
    """At no moment is it answered before a probe has passed."""
    async with core() as made:
        assert made.state.snapshot.topology.services["api"].check is not None
        await made.commit(put(newcomer("n1")), put(Presence("n1")))
        seen = [s for s in made.swaps if "n1" in s.topology.instances]
        assert seen
        assert {verdict(s, "n1") for s in seen} == {Verdict.RECOVERING}
        made.pump.probe("n1", True, Check("http"))
        await made.state.moved()
        assert verdict(made.state.snapshot, "n1") is Verdict.UP


async def test_too_many_at_once_are_held_back_within_the_same_swap() -> None:
    """Presences of all instances go in one commit: at no moment is the service empty."""
    async with core() as made:
        names = [f"n{n}" for n in range(10)]
        writes = [put(each) for n in names for each in (newcomer(n, "old"), Presence(n))]
        await made.commit(*writes)
        before = len(made.state.snapshot.views["old"].members)
        made.swaps.clear()
        await made.commit(*(Delete(key_of(Kind.PRESENCE, n)) for n in names))
        assert made.swaps
        for snapshot in made.swaps:
            found = [member.verdict for member in snapshot.views["old"].members]
            assert sum(each.is_ready for each in found) >= before // 2
        held = [n for n in names if made.state.snapshot.signals[n].held]
        assert len(held) == len(names) - -(-before // 2)
        # One that comes back makes room for nobody it should not.
        await made.commit(put(Presence(held[0])))
        assert not made.state.snapshot.signals[held[0]].held


async def test_signals_wait_for_no_store() -> None:
    async with core() as made:
        with made.store.away():
            made.pump.beat("api-eu-1", Told(in_flight=3), 0.8)
            async with asyncio.timeout(5):
                await made.state.moved()
        assert made.state.snapshot.signals["api-eu-1"].load == 0.8
        assert made.pump.observed.told["api-eu-1"].in_flight == 3
