"""What becomes of the store in etcd while members die, hang, or are cut off."""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from meshd.core.errors import Compacted, Conflict, Unavailable
from meshd.daemon.etcd.faults import Unsure
from meshd.daemon.settings import EtcdSettings
from meshd.daemon.store.base import Author, Expect, Put
from meshd.daemon.store.etcd import EtcdStore
from tests.daemon.store.drive import ALICE, keys, put, running, take, until
from tests.daemon.store.etcd_drive import LIMIT_S, Replica, opened, passes
from tests.servers.etcd import Etcd, Member, program

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(program("etcd") is None, reason="etcd-server is not installed"),
]


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcd]:
    cluster = Etcd(tmp_path_factory.mktemp("etcd"), 3)
    try:
        cluster.start_ready()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture
def whole(etcd: Etcd) -> Iterator[Etcd]:
    """The cluster, all members well, before and after."""
    for member in etcd.members:
        if member.is_paused:
            member.resume()
    etcd.start_ready()
    yield etcd


class Writers:
    """Write keys, each once, and count up; they remember what they were told."""

    def __init__(self, store: EtcdStore) -> None:
        self.store = store
        self.made: dict[str, int] = {}
        self.unsure: set[str] = set()
        self.refused: set[str] = set()
        self.counted = Counter[str]()
        self.slowest_s = 0.0
        self.is_over = False

    async def run(self, writer: int) -> None:
        turn = 0
        while not self.is_over:
            turn += 1
            await self._write(f"w{writer}/{turn}")
            await self._count(f"count/{turn % 2}", f"{writer}-{turn}")
            await asyncio.sleep(0.005)

    async def _write(self, key: str) -> None:
        began = time.monotonic()
        try:
            self.made[key] = await self.store.commit(
                [Put(key, key.encode())], Author(key, "once"), [Expect(key, 0)]
            )
        except Unsure:
            self.unsure.add(key)
        except Unavailable:
            self.refused.add(key)
        self.slowest_s = max(self.slowest_s, time.monotonic() - began)

    async def _count(self, key: str, nonce: str) -> None:
        try:
            items = {item.key: item for item in (await self.store.load()).items}
            held = items.get(key)
            number = int(held.value.split()[0]) + 1 if held else 1
            value = f"{number} {nonce}".encode()
            await self.store.commit(
                [Put(key, value)], ALICE, [Expect(key, held.revision if held else 0)]
            )
            self.counted[key] += 1
        except Unsure:
            self.unsure.add(f"{key} {nonce}")
        except (Unavailable, Conflict):
            pass


async def _kill(member: Member) -> None:
    await asyncio.to_thread(member.kill)
    await asyncio.sleep(1)


async def _hang(member: Member) -> None:
    member.pause()
    # Longer than it takes to find a silent watch out.
    await asyncio.sleep(4.5)
    member.resume()


async def _disturb_each(
    etcd: Etcd, followed: EtcdStore, disturb: Callable[[Member], Awaitable[None]]
) -> None:
    """First the member that is watched, then the one that leads."""

    def watched() -> Member:
        return next(m for m in etcd.members if m.endpoint == followed.endpoint)

    for find in (watched, etcd.leader):
        await asyncio.sleep(0.3)
        await disturb(await asyncio.to_thread(find))
        await asyncio.to_thread(etcd.start_ready)


@pytest.mark.parametrize("disturb", [_kill, _hang])
async def test_nothing_is_lost_or_done_twice(
    whole: Etcd, disturb: Callable[[Member], Awaitable[None]]
) -> None:
    prefix = f"/{disturb.__name__}/"
    async with (
        opened(*whole.endpoints, prefix=prefix) as store,
        opened(*whole.endpoints, prefix=prefix) as followed,
    ):
        await store.load()
        replica, writers = Replica(followed), Writers(store)
        following = asyncio.ensure_future(replica.run())
        writing = asyncio.gather(*(writers.run(n) for n in range(8)))
        await _disturb_each(whole, followed, disturb)
        writers.is_over = True
        await writing
        contents = await store.load()
        held = {item.key: item.value for item in contents.items}
        await until(lambda: _is(lambda: replica.held == held))
        await _end(following)
        assert replica.loads == 1
        _check_written(writers, {item.key: item.revision for item in contents.items})
        for key, counted in writers.counted.items():
            unsure = sum(each.startswith(f"{key} ") for each in writers.unsure)
            assert counted <= int(held[key].split()[0]) <= counted + unsure
        entries = await store.history(100_000)
        audited = Counter(entry.who for entry in entries if entry.what == "once")
        assert audited == Counter(key for key in held if key.startswith("w"))
        assert writers.slowest_s < LIMIT_S
        assert store.retries > 0
        assert followed.watch_resumes > 0


def _check_written(writers: Writers, held: dict[str, int]) -> None:
    assert len(writers.made) > 100
    for key, revision in writers.made.items():
        assert held[key] == revision
    assert not writers.refused & set(held)
    written = {key for key in held if key.startswith("w")}
    assert written <= set(writers.made) | writers.unsure


async def _is(holds: Callable[[], bool]) -> bool:
    return holds()


async def _end(task: asyncio.Future[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def test_the_leader_is_killed_amid_500_writes(whole: Etcd) -> None:
    leader = await asyncio.to_thread(whole.leader)
    async with opened(*whole.endpoints, prefix="/amid/") as store:
        await store.load()
        # Each of several writes is for the same key: of those that are told, one passes.
        wanted = [f"k{n // 5}" for n in range(500)]
        told: list[int] = []

        async def write(n: int) -> None:
            # Some before, some after it dies.
            await asyncio.sleep(n / 1000)
            writes = [Put(wanted[n], b"%d" % n)]
            try:
                told.append(await store.commit(writes, Author(f"{n}", ""), [Expect(wanted[n], 0)]))
                made[wanted[n]] = n
            except Unsure:
                unsure.add(n)
            except (Unavailable, Conflict):
                refused.add(n)

        made: dict[str, int] = {}
        unsure: set[int] = set()
        refused: set[int] = set()
        writing = asyncio.gather(*map(write, range(500)))
        await asyncio.sleep(0.25)
        await asyncio.to_thread(leader.kill)
        await writing
        await until(lambda: passes(store.load))
        held = {item.key: int(item.value) for item in (await store.load()).items}
        authors = Counter(int(entry.who) for entry in await store.history(1000))
        assert made.items() <= held.items()
        assert len(told) == len(made), "two were told that they made the same key"
        assert set(held.values()) <= set(made.values()) | unsure
        assert authors == Counter(held.values())
        assert not refused & set(authors)
        assert len(made) + len(unsure) + len(refused) == 500
        assert made
        assert refused


async def _opened_at(member: Member, etcd: Etcd, prefix: str) -> EtcdStore:
    """A store whose endpoint in use is that of a member: it draws one."""
    for _ in range(200):
        store = EtcdStore(EtcdSettings(endpoints=etcd.endpoints, prefix=prefix))
        if store.endpoint == member.endpoint:
            return store
        await store.close()
    raise AssertionError("never drawn")


@pytest.mark.parametrize("harm", [Member.kill, Member.pause])
async def test_a_member_that_is_gone_is_left_for_another(
    whole: Etcd, harm: Callable[[Member], None]
) -> None:
    gone = (await asyncio.to_thread(whole.followers))[0]
    store = await _opened_at(gone, whole, f"/left/{harm.__name__}/")
    lease = await store.grant(60.0)
    follower = store.follow((await store.load()).revision)
    await put(store, "a")
    await take(follower, 1)
    assert store.endpoint == gone.endpoint
    await asyncio.to_thread(harm, gone)
    calls = (put(store, "b"), store.load(), store.renew(lease), store.history(), store.head())
    await asyncio.gather(*calls)
    assert [batch.changes[0].key for batch in await take(follower, 1)] == ["b"]
    # Nobody goes back to it, only to be late again.
    await asyncio.sleep(2.5)
    retries = store.retries
    for n in range(20):
        await put(store, f"k{n}")
    assert store.retries == retries
    assert store.endpoint != gone.endpoint
    await store.close()


async def _timed(call: Coroutine[Any, Any, Any]) -> float:
    """How long a call takes to be Unavailable."""
    began = time.monotonic()
    try:
        await call
    except Unavailable:
        return time.monotonic() - began
    raise AssertionError(f"{call} passed")


async def test_without_a_quorum_every_call_is_unavailable_in_time(whole: Etcd) -> None:
    async with opened(*whole.endpoints, prefix="/quorum/") as store:
        start = (await store.load()).revision
        lease = await store.grant(60.0)
        await put(store, "a", lease=lease)
        follower = store.follow(start)
        await take(follower, 1)
        leader = await asyncio.to_thread(whole.leader)
        for member in whole.members:
            if member is not leader:
                member.pause()
        # Now, while the leader still believes in itself, and once it does not.
        # Leases are renewed by the leader alone: only the second time has nobody who would.
        for renewals in ((), (lease,)):
            calls = (
                *(store.renew(each) for each in renewals),
                store.load(),
                put(store, "b"),
                store.grant(60.0),
                store.revoke(lease),
                store.history(1),
                store.head(),
                _two_after(store, start),
            )
            assert max(await asyncio.gather(*map(_timed, calls))) < LIMIT_S
            await until(lambda: _is_refused(lambda: store.renew(lease)))
        with pytest.raises(Unavailable):
            await take(follower, 1)
        for member in whole.members:
            if member.is_paused:
                member.resume()
        await until(lambda: passes(lambda: put(store, "c")))
        await until(lambda: passes(lambda: store.renew(lease)))
        held = await keys(store)
        batches = await take(store.follow(start), len(held))
        assert {change.key for batch in batches for change in batch.changes} == set(held)


async def _is_refused(call: Callable[[], Awaitable[Any]]) -> bool:
    return not await passes(call)


async def _two_after(store: EtcdStore, revision: int) -> None:
    await take(store.follow(revision), 2)


async def test_nothing_is_there(whole: Etcd) -> None:
    for member in whole.members:
        await asyncio.to_thread(member.kill)
    async with opened(*whole.endpoints, prefix="/gone/") as store:
        calls = (store.load(), put(store, "b"), store.renew(7), store.history(1))
        assert max(await asyncio.gather(*map(_timed, calls))) < LIMIT_S
        async with running(store):
            await asyncio.to_thread(whole.start_ready)
            await until(lambda: passes(store.load))
            await put(store, "a")
        assert await keys(store) == ["a"]


async def test_a_wiped_etcd_is_another_store(whole: Etcd) -> None:
    async with opened(*whole.endpoints, prefix="/wiped/") as store:
        before = await store.load()
        revision = await put(store, "a")
        follower = store.follow(before.revision)
        await take(follower, 1)
        await asyncio.to_thread(whole.wipe)
        with pytest.raises(Unavailable, match="another store"):
            await put(store, "b")
        with pytest.raises(Compacted):
            await take(follower, 1)
        with pytest.raises(Compacted):
            await take(store.follow(revision), 1)
        contents = await store.load()
        assert contents.items == ()
        assert contents.store_id not in ("", before.store_id)
        await put(store, "b")
        assert await keys(store) == ["b"]


async def test_an_older_state_is_the_same_store_at_an_earlier_revision(
    whole: Etcd, tmp_path: Path
) -> None:
    async with opened(*whole.endpoints, prefix="/older/") as store:
        start = await put(store, "a")
        before = await store.load()
        follower = store.follow(start)
        await asyncio.to_thread(whole.save, tmp_path / "saved")
        for n in range(20):
            await put(store, f"late/{n}")
        (await take(follower, 20))[-1]
        await asyncio.to_thread(whole.restore, tmp_path / "saved")
        # However many others write meanwhile, it is not the history that was followed.
        async with opened(*whole.endpoints, prefix="/others/") as others:
            for n in range(40):
                await put(others, f"k{n}")
        with pytest.raises(Compacted):
            await take(follower, 1)
        contents = await store.load()
        assert contents.store_id == before.store_id
        assert [item.key for item in contents.items] == ["a"]
