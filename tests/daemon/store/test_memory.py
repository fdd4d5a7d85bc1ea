"""The fake keeps every promise of a store, and its faults lose nothing."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from meshd.core.errors import Unavailable
from meshd.daemon.store.base import Change
from meshd.daemon.store.memory import MemoryStore
from tests.daemon.store.contract import StoreContract
from tests.daemon.store.drive import Clock, Opens, put, running, take
from tests.daemon.store.lease_contract import StandstillContract


class TestMemoryStore(StoreContract, StandstillContract):
    @pytest.fixture
    async def opens(self, clock: Clock) -> AsyncIterator[Opens]:
        opened: list[MemoryStore] = []

        async def opens(keep_revisions: int = 10_000) -> MemoryStore:
            opened.append(MemoryStore(clock, clock, keep_revisions))
            return opened[-1]

        yield opens
        for store in opened:
            await store.close()


async def test_away_makes_every_call_unavailable_and_loses_nothing() -> None:
    clock = Clock()
    store = MemoryStore(clock, clock)
    lease = await store.grant(3.0)
    await put(store, "a", lease=lease)
    follower = store.follow(0)
    await take(follower, 1)
    with store.away():
        assert repr(store) == "<MemoryStore revision=1 away <Leases alive=1 ending=0>>"
        heard = asyncio.ensure_future(take(follower, 2))
        calls = (
            store.load(),
            put(store, "b"),
            store.grant(1.0),
            store.renew(lease),
            store.revoke(lease),
            store.history(),
            take(store.follow(0), 1),
        )
        for call in calls:
            with pytest.raises(Unavailable):
                await call
    await put(store, "b")
    await put(store, "c")
    assert [batch.revision for batch in await heard] == [2, 3]


async def test_leases_that_ran_out_while_away_end_after() -> None:
    clock = Clock()
    store = MemoryStore(clock, clock)
    await put(store, "a", lease=await store.grant(3.0))
    heard = asyncio.ensure_future(take(store.follow(1), 1))
    await asyncio.sleep(0)
    async with running(store):
        with store.away():
            await clock.advance(4)
            # Long enough for the store to have looked at its leases.
            await asyncio.wait([heard], timeout=0.5)
            assert repr(store) == "<MemoryStore revision=1 away <Leases alive=0 ending=1>>"
        assert (await heard)[0].changes == (Change("a", None, 0),)
