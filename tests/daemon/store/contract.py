"""Every promise of a store, as one class: each kind of store subclasses it and says how to open."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

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

    async def forget(self, store: Store, revision: int) -> None:
        """Let the store, which runs, forget what came right after a revision."""
        await until(lambda: is_compacted(store, revision))

    async def test_a_new_store_is_empty(self, store: Store) -> None:
        contents = await store.load()
        assert contents.items == ()
        assert contents.store_id == store.store_id
        assert store.store_id

    async def test_every_commit_is_a_later_revision(self, store: Store) -> None:
        start = (await store.load()).revision
        first, second, third = [await put(store, key) for key in "aba"]
        assert start < first < second < third

    async def test_items_come_sorted_with_the_revision_of_their_last_change(
        self, store: Store
    ) -> None:
        first = await put(store, "b", "a", "ä", "a\U0001f600", "a\uffff")
        second = await store.commit([Put("a", b"\0\xff"), Delete("b")], ALICE)
        contents = await store.load()
        assert contents.revision >= second
        assert contents.items == (
            Item("a", b"\0\xff", second, 0),
            Item("a\uffff", "a\uffff".encode(), first, 0),
            Item("a\U0001f600", "a\U0001f600".encode(), first, 0),
            Item("ä", "ä".encode(), first, 0),
        )

    async def test_an_equal_value_is_a_change_all_the_same(self, store: Store) -> None:
        assert await put(store, "a") < await put(store, "a")

    @pytest.mark.parametrize("writes", [[], [Delete("x"), Delete("y")]])
    async def test_what_changes_nothing_makes_no_revision(
        self, store: Store, writes: Sequence[Write]
    ) -> None:
        start = (await store.load()).revision
        assert await store.commit(writes, ALICE) == start
        revision = await put(store, "a")
        assert await store.commit(writes, ALICE) == revision
        assert len(await store.history()) == 1

    async def test_an_empty_value_is_a_value(self, store: Store) -> None:
        start = (await store.load()).revision
        for value in (b"", b"x"):
            await store.commit([Put("a", value)], ALICE)
        last = await store.commit([Put("a", b"")], ALICE)
        assert (await store.load()).items == (Item("a", b"", last, 0),)
        assert [batch.changes[0].value for batch in await take(store.follow(start), 3)] == [
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
        start = (await store.load()).revision
        names = sorted(f"ranges/{n}" for n in range(5000))
        first = await put(store, *names)
        assert await keys(store) == names
        # Not in step with any page that a store may read in.
        second = await put(store, *names[:3000])
        third = await put(store, *names[3000:])
        expected = [(first, names), (second, names[:3000]), (third, names[3000:])]
        for skipped, after in enumerate((start, first, second)):
            batches = await take(store.follow(after), 3 - skipped)
            found = [(batch.revision, [each.key for each in batch.changes]) for batch in batches]
            assert found == expected[skipped:]

    async def test_expect_passes_at_the_revision_of_the_key(self, store: Store) -> None:
        await put(store, "other")
        first = await store.commit([Put("a", b"1")], ALICE, [Expect("a", 0)])
        await put(store, "other")
        assert await store.commit([Put("a", b"2")], ALICE, [Expect("a", first)]) > first

    @pytest.mark.parametrize(("offset", "key"), [(None, "a"), (1, "a"), (-1, "a"), (0, "absent")])
    async def test_a_conflict_names_key_and_revisions_and_writes_nothing(
        self, store: Store, offset: int | None, key: str
    ) -> None:
        revision = await put(store, "a")
        wanted = 0 if offset is None else revision + offset
        with pytest.raises(Conflict) as refused:
            await store.commit([Put("b", b""), Delete("a")], ALICE, [Expect(key, wanted)])
        actual = revision if key == "a" else 0
        assert f"{key} is at revision {actual}, expected {wanted}" in str(refused.value)
        contents = await store.load()
        assert (contents.revision, contents.items) == (revision, (Item("a", b"a", revision, 0),))
        assert len(await store.history()) == 1

    async def test_several_conflicts_are_told_at_once(self, store: Store) -> None:
        await put(store, *(f"k{n}" for n in range(9)))
        wanted = [Expect(f"k{n}", 1 << 40) for n in range(9)]
        with pytest.raises(Conflict, match=r"^k0 is at .*; k1 is at .*; and 4 more$"):
            await store.commit([Put("a", b"")], ALICE, wanted)

    async def test_a_deleted_key_is_expected_at_0(self, store: Store) -> None:
        revision = await put(store, "a")
        deleted = await store.commit([Delete("a")], ALICE)
        with pytest.raises(Conflict):
            await store.commit([Put("a", b"")], ALICE, [Expect("a", revision)])
        assert await store.commit([Put("a", b"")], ALICE, [Expect("a", 0)]) > deleted

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
        assert (await store.load()).items == ()
        assert await store.history() == ()

    async def test_at_the_bounds_is_accepted(self, store: Store) -> None:
        start = (await store.load()).revision
        key, value = "ä" * 256, b"\xff" * (1 << 20)
        revision = await store.commit([Put(key, value)], ALICE)
        assert (await store.load()).items == (Item(key, value, revision, 0),)
        assert (await take(store.follow(start), 1))[0].changes[0].value == value

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
        assert len(await store.history()) == 3

    async def test_follow_from_every_revision(self, store: Store) -> None:
        start = (await store.load()).revision
        first = await put(store, "a", "b")
        second = await store.commit([Delete("a"), Put("c", b"c")], ALICE)
        third = await put(store, "a")
        batches = [
            Batch(first, (Change("a", b"a", 0), Change("b", b"b", 0))),
            Batch(second, (Change("a", None, 0), Change("c", b"c", 0))),
            Batch(third, (Change("a", b"a", 0),)),
        ]
        for skipped, after in enumerate((start, first, second)):
            assert await take(store.follow(after), 3 - skipped) == batches[skipped:]

    async def test_follow_waits_for_what_comes(self, store: Store) -> None:
        start = await put(store, "a")
        waiting = asyncio.ensure_future(take(store.follow(start), 2))
        revisions = [await put(store, "b"), await put(store, "c")]
        assert [batch.revision for batch in await waiting] == revisions

    async def test_followers_miss_nothing_and_hear_nothing_twice(self, store: Store) -> None:
        writers, commits = 8, 40
        start = (await store.load()).revision
        made: list[int] = []
        has_joined = asyncio.Event()

        async def write(writer: int) -> None:
            for n in range(commits):
                made.append(await put(store, f"w{writer}/{n}", f"last/{writer}"))

        async def join_later() -> list[Batch]:
            await until(lambda: _holds(store, writers * commits // 2))
            revision = (await store.load()).revision
            has_joined.set()
            return await _take_to_end(store.follow(revision))

        follows = asyncio.gather(*(_take_to_end(store.follow(start)) for _ in range(3)))
        joined = asyncio.ensure_future(join_later())
        await asyncio.gather(*(write(n) for n in range(writers)))
        await has_joined.wait()
        made.append(await put(store, "end"))
        first, *others = await follows
        assert others == [first, first]
        assert [batch.revision for batch in first] == sorted(made)
        later = await joined
        assert later == first[len(first) - len(later) :]
        replayed = {change.key: change.value for batch in first for change in batch.changes}
        assert replayed == {item.key: item.value for item in (await store.load()).items}

    async def test_a_slow_follower_holds_nobody_up_and_misses_nothing(self, store: Store) -> None:
        follower = store.follow((await store.load()).revision)
        first = await put(store, "a")
        assert [batch.revision for batch in await take(follower, 1)] == [first]
        made: list[int] = []
        for start in range(0, 3000, 50):
            made += await asyncio.gather(*(put(store, f"k{start + n}") for n in range(50)))
        batches = await take(follower, 3000)
        assert [batch.revision for batch in batches] == sorted(made)

    @pytest.mark.parametrize("after", [-1, None, 1 << 62])
    async def test_what_never_was_cannot_be_followed(self, store: Store, after: int | None) -> None:
        await store.load()
        next_one = await put(store, "a") + 1
        with pytest.raises(Compacted):
            await take(store.follow(next_one if after is None else after), 1)

    async def test_old_history_goes_and_its_followers_are_told(self, opens: Opens) -> None:
        store = await opens(keep_revisions=10)
        slow = store.follow((await store.load()).revision)
        made = [await put(store, "k0", "same")]
        await take(slow, 1)
        made += [await put(store, f"k{n}", "same") for n in range(1, 50)]
        async with running(store):
            await self.forget(store, made[37])
            await until(lambda: _has_entries(store, 11))
        batches = await take(store.follow(made[39]), 10)
        assert [batch.revision for batch in batches] == made[40:]
        # What was on its way to it already still comes.
        with contextlib.suppress(Compacted):
            assert [batch.revision for batch in await take(slow, 49)] == made[1:]
        assert len(await store.history(1000)) in (10, 11)
        assert len(await keys(store)) == 51
        assert await put(store, "more") > made[-1]

    async def test_every_write_is_audited_newest_first(self, store: Store, clock: Clock) -> None:
        first = await store.commit([Put("a", b"1"), Put("b", b"1")], Author("alice", "add"))
        await clock.advance(1)
        second = await store.commit([Put("a", b"2"), Delete("b")], Author("bob", "change"))
        edits = (
            (Edit("a", b"1", b"2"), Edit("b", b"1", None)),
            (Edit("a", None, b"1"), Edit("b", None, b"1")),
        )
        assert await store.history() == (
            AuditEntry(second, 1001.0, "bob", "change", edits[0]),
            AuditEntry(first, 1000.0, "alice", "add", edits[1]),
        )

    async def test_history_comes_in_pages(self, store: Store) -> None:
        made = [await put(store, f"k{n}") for n in range(7)]

        async def page(limit: int, before: int | None = None) -> list[int]:
            return [entry.revision for entry in await store.history(limit, before)]

        assert await page(3) == made[:3:-1]
        assert await page(3, made[4]) == made[3:0:-1]
        assert await page(3, made[1]) == made[:1]
        assert await page(3, made[0]) == []
        assert await page(0) == await page(-1) == []
        assert await page(1 << 62, 1 << 70) == made[::-1]

    async def test_the_audit_of_writes_that_came_together(self, store: Store) -> None:
        await put(store, "a")
        await asyncio.gather(*(store.commit([Put("a", b"%d" % n)], ALICE) for n in range(50)))
        entries = (await store.history(100))[::-1]
        afters = [entry.edits[0].after for entry in entries]
        assert [entry.edits[0].before for entry in entries] == [None, *afters[:-1]]
        assert (await store.load()).items[0].value == afters[-1]

    async def test_head_is_the_newest_revision(self, store: Store) -> None:
        start = (await store.load()).revision
        assert await store.head() == start
        revision = await put(store, "a")
        assert await store.head() == revision

    async def test_restamped_it_is_another_store(self, store: Store) -> None:
        before = (await store.load()).store_id
        revision = await put(store, "a")
        made = await store.restamp(ALICE)
        contents = await store.load()
        assert contents.store_id == store.store_id == made != before
        assert [item.key for item in contents.items] == ["a"]
        assert await put(store, "b") > revision

    async def test_after_close_all_is_unavailable(self, store: Store) -> None:
        waiting = asyncio.ensure_future(take(store.follow((await store.load()).revision), 1))
        await asyncio.sleep(0)
        await store.close()
        await store.close()
        with pytest.raises(Unavailable):
            await waiting
        calls = (store.load(), put(store, "a"), store.grant(3.0), store.renew(1), store.history())
        more = (store.head(), store.revoke(1), store.restamp(ALICE), take(store.follow(0), 1))
        for call in (*calls, *more):
            with pytest.raises(Unavailable):
                await call


async def _take_to_end(follower: AsyncIterator[Batch]) -> list[Batch]:
    batches: list[Batch] = []
    while not batches or batches[-1].changes[0].key != "end":
        batches += await take(follower, 1)
    return batches


async def _holds(store: Store, count: int) -> bool:
    return len(await keys(store)) >= count


async def _has_entries(store: Store, most: int) -> bool:
    return len(await store.history(most + 1)) <= most
