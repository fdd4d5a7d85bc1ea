"""Moving from store to store: what is copied, in what order and what sizes, and what is not."""

from meshd.core.topology import Kind
from meshd.daemon import migrate
from meshd.daemon.migrate import move, plan_move, running_cores, unequal
from meshd.daemon.store.base import Author, Delete, Put
from meshd.daemon.store.memory import MemoryStore
from meshd.wire.records import GUARD_KEY, key_of, value_of
from tests import samples

AUTHOR = Author("test", "migrate")
RECORDS = [
    (key_of(kind, record.name), value_of(record))
    for kind in Kind
    for record in samples.snapshot().topology.records(kind)
    if kind is not Kind.PRESENCE
]


async def filled() -> MemoryStore:
    """A store with records, a guard, something unknown, and what lives by a lease."""
    store = MemoryStore()
    lease = await store.grant(60)
    writes = [Put(key, value) for key, value in RECORDS]
    leased = [Put("presence/api-eu-1", b"x", lease), Put("nodes/n1", b"y", lease)]
    await store.commit([*writes, Put("rollouts/api", b"step 1"), *leased], AUTHOR)
    await store.commit([Put(GUARD_KEY, b"1")], AUTHOR)
    return store


async def copy(source: MemoryStore, target: MemoryStore) -> list[int]:
    """Move, and how many writes each commit had."""
    steps: list[int] = []
    plan = plan_move(await source.load(), await target.load())
    await move(plan.writes, target, AUTHOR, steps.append)
    return steps


async def test_what_lasts_is_copied() -> None:
    source, target = await filled(), MemoryStore()
    plan = plan_move(await source.load(), await target.load())
    assert (plan.left, plan.copied["rollouts"]) == ({"presence": 1, "nodes": 1}, 1)
    await copy(source, target)
    contents = await target.load()
    assert {item.key: item.value for item in contents.items} == {
        **dict(RECORDS),
        "rollouts/api": b"step 1",
    }
    assert unequal(await source.load(), contents) == []
    assert (await target.history())[0].what == "migrate"
    assert await copy(source, target) == []


async def test_what_is_referred_to_comes_first() -> None:
    plan = plan_move(await (await filled()).load(), await MemoryStore().load())
    kinds = [write.key.partition("/")[0] for write in plan.writes]
    order = [*map(str, Kind), "rollouts"]
    assert kinds == sorted(kinds, key=order.index)


async def test_commits_are_small() -> None:
    source, target = MemoryStore(), MemoryStore()
    writes = [Put(f"pops/p{number}", b"x" * 1000) for number in range(1300)]
    await source.commit([*writes, Put("pops/big", b"x" * 500_000)], AUTHOR)
    steps = await copy(source, target)
    assert sum(steps) == 1301
    assert max(steps) <= migrate._BATCH_BYTES // 1000
    assert steps[0] == 1


async def test_a_target_that_is_not_empty_becomes_equal() -> None:
    source, target = await filled(), MemoryStore()
    await target.commit([Put("pops/old", b"z"), Put(*RECORDS[0]), Put(GUARD_KEY, b"7")], AUTHOR)
    plan = plan_move(await source.load(), await target.load())
    assert plan.writes[-1] == Delete("pops/old")
    assert RECORDS[0][0] not in {write.key for write in plan.writes}
    await copy(source, target)
    contents = await target.load()
    assert unequal(await source.load(), contents) == []
    assert GUARD_KEY in {item.key for item in contents.items}
    await target.commit([Delete("rollouts/api"), Put("pops/new", b"z")], AUTHOR)
    assert unequal(await source.load(), await target.load()) == ["pops/new", "rollouts/api"]


async def test_cores_that_run_are_seen() -> None:
    assert running_cores(await (await filled()).load()) == ["n1"]
    assert running_cores(await MemoryStore().load()) == []
