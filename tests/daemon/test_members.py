"""Membership in a store: keys under leases, names that are taken, and what is no core."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from meshd.core.errors import Malformed
from meshd.daemon.members import LIVE_S, MOST_MEMBERS, PREFIX, Kept, Members, node_of
from meshd.daemon.store.base import Author, Batch, Change, Contents, Delete, Item, Put
from meshd.daemon.store.memory import MemoryStore
from meshd.v1.cluster_pb2 import Node, NodeState
from tests.daemon.cores import until

TEST = Author("test", "test")
LEASE_S = 1.0


def node(name: str, session: str = "1", address: str = "10.0.0.1:7700") -> Node:
    return Node(name=name, address=address, version="1", session=session)


def put(made: Node, lease: int = 0) -> Put:
    return Put(PREFIX + made.name, made.SerializeToString(), lease)


@dataclass
class Store:
    """A memory store, and members that hear of what it commits."""

    store: MemoryStore = field(default_factory=MemoryStore)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    async def start(self, own: Node, **more: str) -> Members:
        members = Members(self.store, own, lease_s=LEASE_S, **more)  # type: ignore[arg-type]
        contents = await self.store.load()
        members.loaded(contents)
        self.tasks += [
            asyncio.create_task(members.run()),
            asyncio.create_task(self._follow(members, contents.revision)),
        ]
        return members

    async def _follow(self, members: Members, revision: int) -> None:
        async for batch in self.store.follow(revision):
            members.changed(batch)

    async def held(self, name: str) -> Node | None:
        items = {item.key: item for item in (await self.store.load()).items}
        item = items.get(PREFIX + name)
        return Node.FromString(item.value) if item else None


@asynccontextmanager
async def store() -> AsyncIterator[Store]:
    made = Store()
    made.tasks.append(asyncio.create_task(made.store.run()))
    try:
        yield made
    finally:
        for task in made.tasks:
            task.cancel()
        await asyncio.gather(*made.tasks, return_exceptions=True)
        await made.store.close()


async def test_members_see_each_other_and_go_with_their_lease() -> None:
    async with store() as made:
        a, b = await made.start(node("a")), await made.start(node("b"))
        await until("both joined", lambda: a.has_joined and b.has_joined)
        assert a.others == {"b": node("b")}
        assert b.others == {"a": node("a")}
        # It dies, and is still heard: it stays for as long.
        b.hear("a", time.monotonic())
        made.tasks[1].cancel()
        await until("its lease has run out", lambda: not a.has_joined)
        assert "a" in b.others
        assert b.live(time.monotonic() + LIVE_S) == frozenset()
        assert b.others == {}


async def test_a_lost_lease_is_made_anew() -> None:
    async with store() as made:
        a = await made.start(node("a"))
        await until("joined", lambda: a.has_joined)
        await made.store.commit([Delete(PREFIX + "a")], TEST)
        await until("gone", lambda: not a.has_joined)
        await until("joined again", lambda: a.has_joined)
        await made.store.revoke(a._lease)
        await until("gone", lambda: not a.has_joined)
        await until("joined again", lambda: a.has_joined)


async def test_a_store_that_is_away_changes_nothing() -> None:
    async with store() as made:
        a, b = await made.start(node("a")), await made.start(node("b"))
        await until("both joined", lambda: a.has_joined and b.has_joined)
        with made.store.away():
            await asyncio.sleep(2 * LEASE_S)
            assert a.others.keys() == {"b"}
            assert a.has_joined
        await until("still members", lambda: a.has_joined and b.has_joined)


async def test_of_two_with_one_name_the_second_waits() -> None:
    async with store() as made:
        first = await made.start(node("a", "first"))
        await until("joined", lambda: first.has_joined)
        second = await made.start(node("a", "second", "10.0.0.2:7700"))
        await until("it says so", lambda: "another core is called a" in second.alarm)
        assert not second.has_joined
        assert (first.has_joined, first.alarm) == (True, "")
        await first.leave()
        made.tasks[1].cancel()
        await until("it is its turn", lambda: second.has_joined)
        assert not second.alarm


async def test_the_name_of_its_predecessor_is_taken_at_once() -> None:
    async with store() as made:
        await made.store.commit([put(node("a", "before"))], TEST)
        a = await made.start(node("a", "now"), predecessor="before")
        await until("joined", lambda: a.has_joined)
        assert await made.held("a") == node("a", "now")


async def test_one_that_is_alone_writes_nothing() -> None:
    async with store() as made:
        members = Members(made.store, node("a"), is_alone=True)
        await members.run()
        assert members.has_joined
        assert (await made.store.load()).items == ()


def test_what_is_no_core_is_ignored() -> None:
    members = Members(MemoryStore(), node("a"))
    values = [
        b"\xff", b"", b"x" * 100_000, node("c").SerializeToString(),
        node("b", session="").SerializeToString(), node("b", address="").SerializeToString(),
        node("b", address="x" * 5000).SerializeToString(), node("b", "\n").SerializeToString(),
    ]  # fmt: skip
    for number, value in enumerate(values, start=1):
        with pytest.raises(Malformed):
            node_of(PREFIX + "b", value)
        members.changed(Batch(number, (Change(PREFIX + "b", value, 0),)))
    assert members.others == {}
    assert members.ignored == len(values)
    for number in range(2 * MOST_MEMBERS):
        name = f"n{number}"
        value = node(name).SerializeToString()
        members.changed(Batch(100 + number, (Change(PREFIX + name, value, 0),)))
    assert len(members.others) == MOST_MEMBERS


def test_others_are_known_from_disk(tmp_path: Path) -> None:
    kept = Kept(tmp_path / "nodes")
    before = Members(MemoryStore(), node("a"), kept=kept)
    for name in ("a", "b", "c"):
        value = node(name).SerializeToString()
        before.changed(Batch(1, (Change(PREFIX + name, value, 0),)))
    after = Members(MemoryStore(), node("a", "2"), kept=kept)
    assert after.others == {"b": node("b"), "c": node("c")}
    assert not after.has_joined
    after.loaded(Contents("x", 2, (Item(PREFIX + "b", node("b").SerializeToString(), 1, 1),)))
    assert after.live(9.0) == frozenset()
    assert after.others == {"b": node("b")}
    assert list(kept.read()) == [node("b")]
    (tmp_path / "nodes").write_bytes(b"\xff")
    assert list(kept.read()) == []


def test_duties_go_to_who_knows_and_reaches_the_store() -> None:
    members = Members(MemoryStore(), node("a"))
    own, now = NodeState(store_age_s=0.5, is_settled=True), 1.0

    def able(**states: NodeState) -> tuple[str, ...]:
        for name, state in states.items():
            members.hear(name, now, state)
        return members.able(states, own, now)

    good = NodeState(store_age_s=1.0, is_settled=True)
    assert able(b=good, c=good) == ("a", "b", "c")
    assert able(b=good, c=NodeState(store_age_s=1.0)) == ("a", "b")
    assert able(b=good, c=NodeState(store_age_s=6.0, is_settled=True)) == ("a", "b")
    assert able(b=good, c=NodeState(is_settled=True)) == ("a", "b")
    own = NodeState(store_age_s=0.5)
    assert able(b=good) == ("b",), "who has just come leaves it to the others"
    own = NodeState(store_age_s=9.0, is_settled=True)
    assert able(b=good) == ("b",)
    away = NodeState(store_age_s=9.0, is_settled=True)
    assert able(b=away, c=away) == ("a", "b", "c"), "with the store away they go on"
    now = 2.0
    assert able(b=good, c=away) == ("a", "b", "c"), "who reaches it last has some time to"
    now = 8.0
    assert able(b=good, c=away) == ("b",)
    own = NodeState()
    assert able(b=NodeState()) == ("a",), "where nobody knows, each goes by what it has"
