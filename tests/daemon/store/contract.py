"""Every promise of a store, as one class: each kind of store subclasses it and says how to open."""

import asyncio
import itertools
from collections.abc import Sequence

import pytest

from meshd.core.errors import Compacted, Conflict, LeaseLost, Refused, Unavailable
from meshd.daemon.store.base import (
    AuditEntry,
    Author,
    Batch,
    Change,
    Delete,
    Edit,
    Expect,
    Item,
    Put,
    Store,
    Write,
)
from tests.daemon.store.drive import (
    ALICE,
    Clock,
    Opens,
    is_compacted,
    keys,
    put,
    running,
    take,
    until,
)
from tests.daemon.store.lease_contract import LeaseContract


class StoreContract(LeaseContract):
    """Subclasses define the fixture `opens`."""

    @pytest.fixture
    def clock(self) -> Clock:
        return Clock()

    @pytest.fixture
    async def store(self, opens: Opens) -> Store:
        return await opens()

    async def test_a_new_store_is_empty_at_revision_0(self, store: Store) -> None:
        contents = await store.load()
        assert (contents.revision, contents.items) == (0, ())
        assert contents.store_id == store.store_id
        assert store.store_id

    async def test_every_commit_is_the_next_revision(self, store: Store) -> None:
        assert [await put(store, "a"), await put(store, "b"), await put(store, "a")] == [1, 2, 3]

    async def test_items_come_sorted_with_the_revision_of_their_last_change(
        self, store: Store
    ) -> None:
        await put(store, "b", "a", "ä", "a\U0001f600", "a\uffff")
        await store.commit([Put("a", b"\0\xff"), Delete("b")], ALICE)
        contents = await store.load()
        assert contents.revision == 2
        assert contents.items == (
            Item("a", b"\0\xff", 2, 0),
            Item("a\uffff", "a\uffff".encode(), 1, 0),
            Item("a\U0001f600", "a\U0001f600".encode(), 1, 0),
            Item("ä", "ä".encode(), 1, 0),
        )

    async def test_an_equal_value_is_a_change_all_the_same(self, store: Store) -> None:
        assert [await put(store, "a"), await put(store, "a")] == [1, 2]

    @pytest.mark.parametrize("writes", [[], [Delete("x"), Delete("y")]])
    async def test_what_changes_nothing_makes_no_revision(
        self, store: Store, writes: Sequence[Write]
    ) -> None:
        assert await store.commit(writes, ALICE) == 0
        await put(store, "a")
        assert await store.commit(writes, ALICE) == 1
        assert len(await store.history()) == 1

    async def test_an_empty_value_is_a_value(self, store: Store) -> None:
        await store.commit([Put("a", b"")], ALICE)
        await store.commit([Put("a", b"x")], ALICE)
        await store.commit([Put("a", b"")], ALICE)
        assert (await store.load()).items == (Item("a", b"", 3, 0),)
        assert [batch.changes[0].value for batch in await take(store.follow(0), 3)] == [
            b"",
            b"x",
            b"",
        ]
        edits = [entry.edits[0] for entry in await store.history()]
        assert [(edit.before, edit.after) for edit in edits] == [
            (b"x", b""),
            (b"", b"x"),
            (None, b""),
        ]

    async def test_many_writes_in_one_commit(self, store: Store) -> None:
        names = sorted(f"ranges/{n}" for n in range(5000))
        assert await put(store, *names) == 1
        assert await keys(store) == names
        # Not in step with any page that a store may read in.
        assert await put(store, *names[:3000]) == 2
        assert await put(store, *names[3000:]) == 3
        expected = [names, names[:3000], names[3000:]]
        for after in range(3):
            batches = await take(store.follow(after), 3 - after)
            assert [[change.key for change in batch.changes] for batch in batches] == expected[
                after:
            ]

    async def test_expect_passes_at_the_revision_of_the_key(self, store: Store) -> None:
        await put(store, "other")
        first = await store.commit([Put("a", b"1")], ALICE, [Expect("a", 0)])
        await put(store, "other")
        assert await store.commit([Put("a", b"2")], ALICE, [Expect("a", first)]) == 4

    @pytest.mark.parametrize(("revision", "key"), [(0, "a"), (2, "a"), (-1, "a"), (1, "absent")])
    async def test_a_conflict_names_key_and_revisions_and_writes_nothing(
        self, store: Store, revision: int, key: str
    ) -> None:
        await put(store, "a")
        with pytest.raises(Conflict) as refused:
            await store.commit([Put("b", b""), Delete("a")], ALICE, [Expect(key, revision)])
        actual = 1 if key == "a" else 0
        assert f"{key} is at revision {actual}, expected {revision}" in str(refused.value)
        contents = await store.load()
        assert (contents.revision, contents.items) == (1, (Item("a", b"a", 1, 0),))
        assert len(await store.history()) == 1

    async def test_several_conflicts_are_told_at_once(self, store: Store) -> None:
        await put(store, *(f"k{n}" for n in range(9)))
        wanted = [Expect(f"k{n}", 7) for n in range(9)]
        with pytest.raises(Conflict, match=r"^k0 is at .*; k1 is at .*; and 4 more$"):
            await store.commit([Put("a", b"")], ALICE, wanted)

    async def test_a_deleted_key_is_expected_at_0(self, store: Store) -> None:
        await put(store, "a")
        await store.commit([Delete("a")], ALICE)
        with pytest.raises(Conflict):
            await store.commit([Put("a", b"")], ALICE, [Expect("a", 1)])
        assert await store.commit([Put("a", b"")], ALICE, [Expect("a", 0)]) == 3

    async def test_of_racing_swaps_one_wins_each_round(self, store: Store) -> None:
        revision = 0
        for _ in range(5):
            racers = (
                store.commit([Put("a", b"%d" % n)], ALICE, [Expect("a", revision)])
                for n in range(20)
            )
            results = await asyncio.gather(*racers, return_exceptions=True)
            won = [result for result in results if isinstance(result, int)]
            assert sum(isinstance(result, Conflict) for result in results) == 19
            (revision,) = won

    @pytest.mark.parametrize(
        "write",
        [
            Put("", b""),
            Put("a\0b", b""),
            Delete("a\0b"),
            Put("ä" * 257, b""),
            Put("\ud800", b""),
            Put("a", b"x" * (1 << 20) + b"x"),
        ],
        ids=["empty key", "NUL", "NUL in a delete", "long key", "not UTF-8", "big value"],
    )
    async def test_out_of_bounds_is_refused_whole(self, store: Store, write: Write) -> None:
        with pytest.raises(Refused):
            await store.commit([Put("fine", b""), write], ALICE)
        assert (await store.load()).revision == 0

    async def test_at_the_bounds_is_accepted(self, store: Store) -> None:
        item = Item("ä" * 256, b"\xff" * (1 << 20), 1, 0)
        await store.commit([Put(item.key, item.value)], ALICE)
        assert (await store.load()).items == (item,)
        assert (await take(store.follow(0), 1))[0].changes[0].value == item.value

    async def test_a_key_twice_in_one_commit_is_refused(self, store: Store) -> None:
        with pytest.raises(Refused, match="twice"):
            await store.commit([Put("a", b""), Delete("a")], ALICE)

    @pytest.mark.parametrize("author", [Author("\ud800", ""), Author("a", "x" * 5000)])
    async def test_an_author_has_bounds_too(self, store: Store, author: Author) -> None:
        with pytest.raises(Refused):
            await store.commit([Put("a", b"")], author)

    async def test_the_refused_do_not_harm_those_beside_them(self, store: Store) -> None:
        await put(store, "a")
        results = await asyncio.gather(
            put(store, "b"),
            store.commit([Put("c", b"")], ALICE, [Expect("a", 9)]),
            store.commit([Put("d", b"", 12345)], ALICE),
            put(store, "e"),
            return_exceptions=True,
        )
        assert [type(result) for result in results] == [int, Conflict, LeaseLost, int]
        assert await keys(store) == ["a", "b", "e"]
        assert (await store.load()).revision == 3

    async def test_follow_from_every_revision(self, store: Store) -> None:
        await put(store, "a", "b")
        await store.commit([Delete("a"), Put("c", b"c")], ALICE)
        await put(store, "a")
        batches = [
            Batch(1, (Change("a", b"a", 0), Change("b", b"b", 0))),
            Batch(2, (Change("a", None, 0), Change("c", b"c", 0))),
            Batch(3, (Change("a", b"a", 0),)),
        ]
        for after in range(3):
            assert await take(store.follow(after), 3 - after) == batches[after:]

    async def test_follow_waits_for_what_comes(self, store: Store) -> None:
        await put(store, "a")
        waiting = asyncio.ensure_future(take(store.follow(1), 2))
        await put(store, "b")
        await put(store, "c")
        assert [batch.revision for batch in await waiting] == [2, 3]

    async def test_followers_miss_nothing_and_hear_nothing_twice(self, store: Store) -> None:
        writers, commits = 8, 40
        total = writers * commits

        async def write(writer: int) -> None:
            for n in range(commits):
                await put(store, f"w{writer}/{n}", f"last/{writer}")

        async def follow(after: int) -> list[Batch]:
            return await take(store.follow(after), total - after)

        async def join_later() -> list[Batch]:
            await until(lambda: _at_least(store, total // 2))
            return await follow((await store.load()).revision)

        follows = asyncio.gather(*(follow(0) for _ in range(3)), join_later())
        await asyncio.gather(*(write(n) for n in range(writers)))
        *whole, later = await follows
        assert whole[0] == whole[1] == whole[2]
        assert [batch.revision for batch in whole[0]] == list(range(1, total + 1))
        assert later == whole[0][total - len(later) :]
        replayed = {change.key: change.value for batch in whole[0] for change in batch.changes}
        assert replayed == {item.key: item.value for item in (await store.load()).items}

    async def test_a_slow_follower_holds_nobody_up_and_misses_nothing(self, store: Store) -> None:
        follower = store.follow(0)
        await put(store, "a")
        assert [batch.revision for batch in await take(follower, 1)] == [1]
        for first in range(0, 3000, 50):
            await asyncio.gather(*(put(store, f"k{first + n}") for n in range(50)))
        batches = await take(follower, 3000)
        assert [batch.revision for batch in batches] == list(range(2, 3002))

    @pytest.mark.parametrize("after", [-1, 2, 1 << 62])
    async def test_what_never_was_cannot_be_followed(self, store: Store, after: int) -> None:
        await put(store, "a")
        with pytest.raises(Compacted):
            await take(store.follow(after), 1)

    async def test_old_history_goes_and_its_followers_are_told(self, opens: Opens) -> None:
        store = await opens(keep_revisions=10)
        slow = store.follow(0)
        for n in range(50):
            await put(store, f"k{n}", "same")
            if n == 0:
                await take(slow, 1)
        async with running(store):
            await until(lambda: is_compacted(store, 38))
        assert [batch.revision for batch in await take(store.follow(40), 10)] == list(range(41, 51))
        with pytest.raises(Compacted):
            await take(slow, 1000)
        assert len(await store.history(1000)) in (10, 11)
        assert len(await keys(store)) == 51
        assert await put(store, "more") == 51

    async def test_every_write_is_audited_newest_first(self, store: Store, clock: Clock) -> None:
        await store.commit([Put("a", b"1"), Put("b", b"1")], Author("alice", "add"))
        await clock.advance(5)
        await store.commit([Put("a", b"2"), Delete("b")], Author("bob", "change"))
        assert await store.history() == (
            AuditEntry(2, 1005.0, "bob", "change", (Edit("a", b"1", b"2"), Edit("b", b"1", None))),
            AuditEntry(1, 1000.0, "alice", "add", (Edit("a", None, b"1"), Edit("b", None, b"1"))),
        )

    async def test_history_comes_in_pages(self, store: Store) -> None:
        for n in range(7):
            await put(store, f"k{n}")
        assert [entry.revision for entry in await store.history(3)] == [7, 6, 5]
        assert [entry.revision for entry in await store.history(3, before=5)] == [4, 3, 2]
        assert [entry.revision for entry in await store.history(3, before=2)] == [1]
        assert await store.history(3, before=1) == ()
        assert await store.history(0) == await store.history(-1) == ()
        assert len(await store.history(1 << 62, before=1 << 70)) == 7

    async def test_the_audit_of_writes_that_came_together(self, store: Store) -> None:
        await put(store, "a")
        await asyncio.gather(*(store.commit([Put("a", b"%d" % n)], ALICE) for n in range(50)))
        entries = (await store.history(100))[::-1]
        afters = [entry.edits[0].after for entry in entries]
        assert [entry.edits[0].before for entry in entries] == [None, *afters[:-1]]
        assert (await store.load()).items[0].value == afters[-1]

    async def test_after_close_all_is_unavailable(self, store: Store) -> None:
        waiting = asyncio.ensure_future(take(store.follow(0), 1))
        await asyncio.sleep(0)
        await store.close()
        await store.close()
        with pytest.raises(Unavailable):
            await waiting
        calls = (store.load(), put(store, "a"), store.grant(3.0), store.renew(1), store.history())
        for call in itertools.chain(calls, [take(store.follow(0), 1)]):
            with pytest.raises(Unavailable):
                await call


async def _at_least(store: Store, revision: int) -> bool:
    return (await store.load()).revision >= revision
