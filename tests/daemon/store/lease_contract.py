"""What every store promises of leases; part of the contract."""

import asyncio
import time

import pytest

from meshd.core.errors import LeaseLost, Refused
from meshd.daemon.store.base import Change, Delete, Edit, Item, Store
from tests.daemon.store.drive import ALICE, Clock, keys, put, running, take, until


class LeaseContract:
    """Needs the fixtures `store` and `clock`."""

    async def test_a_lease_that_is_not_renewed_takes_its_keys_along(
        self, store: Store, clock: Clock
    ) -> None:
        lease = await store.grant(3.0)
        bound = await put(store, "presence/b", "presence/a", lease=lease)
        assert (await store.load()).items[0] == Item("presence/a", b"presence/a", bound, lease)
        last = await put(store, "instances/a")
        async with running(store):
            await clock.advance(3.1)
            (batch,) = await take(store.follow(last), 1)
            await until(lambda: _has_expired(store, lease))
        assert batch.revision > last
        assert batch.changes == (Change("presence/a", None, 0), Change("presence/b", None, 0))
        (entry,) = await store.history(1)
        assert (entry.revision, entry.who) == (batch.revision, "lease")
        edits = (
            Edit("presence/a", b"presence/a", None),
            Edit("presence/b", b"presence/b", None),
        )
        assert entry.edits == edits
        with pytest.raises(LeaseLost):
            await store.renew(lease)
        with pytest.raises(LeaseLost):
            await put(store, "presence/a", lease=lease)

    async def test_a_renewed_lease_lives_for_its_whole_time_again(
        self, store: Store, clock: Clock
    ) -> None:
        kept, lost = await store.grant(3.0), await store.grant(3.0)
        await put(store, "kept", lease=kept)
        last = await put(store, "lost", lease=lost)
        async with running(store):
            for _ in range(2):
                await clock.advance(2.0)
                await store.renew(kept)
            (gone,) = await take(store.follow(last), 1)
            await store.renew(kept)
        assert [change.key for change in gone.changes] == ["lost"]
        assert await keys(store) == ["kept"]

    async def test_renewing_makes_no_revision(self, store: Store) -> None:
        lease = await store.grant(3.0)
        start = (await store.load()).revision
        for _ in range(10):
            await store.renew(lease)
        assert (await store.load()).revision == start

    async def test_revoke_takes_the_keys_along_in_one_commit(self, store: Store) -> None:
        await store.load()
        lease = await store.grant(60.0)
        bound = await put(store, "b", "a", lease=lease)
        await store.revoke(lease)
        (batch,) = await take(store.follow(bound), 1)
        assert batch.changes == (Change("a", None, 0), Change("b", None, 0))
        (entry,) = await store.history(1)
        assert (entry.revision, entry.who) == (batch.revision, "lease")
        assert entry.what == f"lease {lease} revoked"
        with pytest.raises(LeaseLost):
            await store.renew(lease)
        await store.revoke(lease)
        assert len(await store.history()) == 2

    async def test_a_lease_without_keys_goes_without_a_trace(self, store: Store) -> None:
        await store.revoke(await store.grant(60.0))
        assert (await store.load()).items == ()
        assert await store.history() == ()

    async def test_a_key_is_bound_by_its_last_put_only(self, store: Store) -> None:
        first, second = await store.grant(60.0), await store.grant(60.0)
        await put(store, "moved", "freed", "deleted", lease=first)
        await put(store, "moved", lease=second)
        await put(store, "freed")
        await store.commit([Delete("deleted")], ALICE)
        await store.revoke(first)
        assert await keys(store) == ["freed", "moved"]
        await store.revoke(second)
        assert await keys(store) == ["freed"]

    async def test_writes_and_the_end_of_their_lease_at_the_same_time(self, store: Store) -> None:
        lease, other = await store.grant(60.0), await store.grant(60.0)
        await put(store, "held", "moved", lease=lease)
        results = await asyncio.gather(
            put(store, "new", lease=lease),
            put(store, "moved", lease=other),
            store.revoke(lease),
            put(store, "late", lease=lease),
            return_exceptions=True,
        )
        assert isinstance(results[0], int | LeaseLost)
        assert isinstance(results[3], int | LeaseLost)
        assert await keys(store) == ["moved"]
        with pytest.raises(LeaseLost):
            await put(store, "later", lease=lease)

    @pytest.mark.parametrize("lease", [-1, 7, 1 << 63, 1 << 70])
    async def test_an_unknown_lease_is_lost(self, store: Store, lease: int) -> None:
        with pytest.raises(LeaseLost):
            await put(store, "a", lease=lease)
        with pytest.raises(LeaseLost):
            await store.renew(lease)
        await store.revoke(lease)
        assert (await store.load()).items == ()
        assert await store.history() == ()

    @pytest.mark.parametrize("ttl_s", [0, -1, float("nan"), float("inf"), 1e9])
    async def test_a_lease_has_bounds(self, store: Store, ttl_s: float) -> None:
        with pytest.raises(Refused):
            await store.grant(ttl_s)

    async def test_many_leases_run_out_at_once(self, store: Store, clock: Clock) -> None:
        start = (await store.load()).revision
        leases = await asyncio.gather(*(store.grant(3.0) for _ in range(300)))
        assert len(set(leases)) == 300
        await asyncio.gather(*(put(store, f"p{n}", lease=n) for n in leases))
        async with running(store):
            await clock.advance(4)
            batches = await take(store.follow(start), 600)
        gone = [change.key for each in batches for change in each.changes if change.value is None]
        assert sorted(gone) == sorted(f"p{n}" for n in leases)
        assert await keys(store) == []


class StandstillContract:
    """What stores promise that count the time of leases themselves."""

    async def test_time_in_which_the_process_stood_still_does_not_count(
        self, store: Store, clock: Clock
    ) -> None:
        lease = await store.grant(1.0)
        await put(store, "a", lease=lease)
        async with running(store):
            # Once around, so that the store is asleep when everything stops.
            await asyncio.sleep(0.3)
            clock.now_s += 1.2
            time.sleep(1.2)  # noqa: ASYNC251 - nothing in this process runs meanwhile
            await asyncio.sleep(0.5)
            await store.renew(lease)
        assert await keys(store) == ["a"]


async def _has_expired(store: Store, lease: int) -> bool:
    entries = await store.history(1)
    return bool(entries) and entries[0].what == f"lease {lease} expired"
