"""The store in etcd through connections that break, lose answers, or are gone for a while."""

import asyncio
import hashlib
import itertools
import random
import time
from collections.abc import AsyncIterator, Iterator

import pytest

from meshd.core.errors import Compacted, Conflict, LeaseLost, Refused, Unavailable
from meshd.daemon.etcd import requests
from meshd.daemon.etcd.access import access_of
from meshd.daemon.etcd.client import Client
from meshd.daemon.settings import EtcdSettings
from meshd.daemon.store.base import Author, Batch, Delete, Expect, Put, Write
from meshd.daemon.store.etcd import EtcdStore
from meshd.etcdwire import etcd_pb2 as pb
from tests.daemon.store.between import Between
from tests.daemon.store.drive import ALICE, keys, put, running, take, until
from tests.daemon.store.etcd_drive import LIMIT_S, opened
from tests.servers.etcd import Etcd, program

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(program("etcd") is None, reason="etcd-server is not installed"),
]


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcd]:
    cluster = Etcd(tmp_path_factory.mktemp("etcd"))
    try:
        cluster.start_ready()
        yield cluster
    finally:
        cluster.stop()


_PREFIXES = itertools.count()


@pytest.fixture
def prefix() -> str:
    return f"/cut{next(_PREFIXES)}/"


@pytest.fixture
async def direct(etcd: Etcd, prefix: str) -> AsyncIterator[EtcdStore]:
    """The store as seen by those who are not cut off."""
    async with opened(*etcd.endpoints, prefix=prefix) as store:
        await store.load()
        yield store


@pytest.fixture
async def between(etcd: Etcd) -> AsyncIterator[Between]:
    async with Between(etcd.endpoints[0]) as between:
        yield between


@pytest.fixture
async def store(between: Between, direct: EtcdStore, prefix: str) -> AsyncIterator[EtcdStore]:
    async with opened(between.endpoint, prefix=prefix) as store:
        await store.load()
        yield store


async def test_cut_again_and_again_while_catching_up(
    between: Between, direct: EtcdStore, store: EtcdStore
) -> None:
    start = await store.head()
    made: list[int] = []
    for first in range(0, 1500, 50):
        made += await asyncio.gather(
            *(direct.commit([Put(f"k{first + n}", b"x" * 300)], ALICE) for n in range(50))
        )
    made.append(await put(direct, *(f"many/{n}" for n in range(2000))))
    # Not one answer of etcd with its 1,000 revisions comes through: that is not hidden.
    between.breaks_after = 100_000
    between.reset()
    heard: list[Batch] = []
    refused = 0
    for _ in range(20):
        try:
            follower = store.follow(heard[-1].revision if heard else start)
            while len(heard) < len(made):
                heard += await take(follower, 1)
        except Unavailable:
            refused += 1
            between.breaks_after += 150_000
    assert [batch.revision for batch in heard] == sorted(made)
    assert len(heard[-1].changes) == 2000
    assert refused
    assert store.watch_resumes > refused


async def test_history_that_went_while_cut_off(
    etcd: Etcd, between: Between, direct: EtcdStore, store: EtcdStore
) -> None:
    start = await put(store, "a")
    follower = store.follow(start)
    await put(direct, "b")
    await take(follower, 1)
    between.is_cut = True
    between.reset()
    with pytest.raises(Unavailable):
        await take(follower, 1)
    await direct.commit([Delete("a")], ALICE)
    last = await put(direct, "c")
    await asyncio.to_thread(etcd.etcdctl, "compact", str(last))
    between.is_cut = False
    with pytest.raises(Compacted):
        await until(lambda: _hears(store, start))
    assert [item.key for item in (await store.load()).items] == ["b", "c"]


async def _hears(store: EtcdStore, after: int) -> bool:
    try:
        await take(store.follow(after), 1)
    except Unavailable:
        return False
    return True


async def test_a_short_cut_is_not_noticed(
    between: Between, direct: EtcdStore, store: EtcdStore
) -> None:
    follower = store.follow(await put(store, "a"))
    for n in range(3):
        between.reset()
        revision = await put(direct, f"k{n}")
        assert [batch.revision for batch in await take(follower, 1)] == [revision]
    assert store.watch_resumes >= 2


@pytest.mark.parametrize("meanwhile", [Put("b", b""), Delete("b")])
async def test_a_write_whose_answer_was_lost_is_told_and_made_once(
    between: Between, direct: EtcdStore, store: EtcdStore, meanwhile: Write
) -> None:
    before = await put(store, "a")
    between.mutes_at = b"a value to know it by"
    writes = [Put("b", b"a value to know it by")]
    writing = asyncio.ensure_future(store.commit(writes, Author("bob", "b"), [Expect("b", 0)]))
    (made,) = await take(direct.follow(before), 1)
    assert not writing.done()
    # Somebody changes what it wrote, before it can ask again.
    await direct.commit([meanwhile], ALICE)
    between.is_mute = False
    between.reset()
    assert await writing == made.revision
    assert [entry.who for entry in await store.history()] == ["alice", "bob", "alice"]
    assert store.retries


async def test_a_write_without_any_answer_may_be_there(
    between: Between, direct: EtcdStore, store: EtcdStore
) -> None:
    await put(store, "a")
    between.mutes_at = b"a value to know it by"
    began = time.monotonic()
    with pytest.raises(Unavailable, match="may have been written"):
        await store.commit([Put("b", b"a value to know it by")], ALICE, [Expect("b", 0)])
    assert time.monotonic() - began < LIMIT_S
    between.is_mute = False
    between.reset()
    assert await keys(direct) == ["a", "b"]
    with pytest.raises(Conflict):
        await store.commit([Put("b", b"")], ALICE, [Expect("b", 0)])


async def test_a_write_that_was_never_sent_is_not_there(
    between: Between, direct: EtcdStore, store: EtcdStore
) -> None:
    between.is_cut = True
    between.reset()
    with pytest.raises(Unavailable) as refused:
        await put(store, "a")
    assert "may have been written" not in str(refused.value)
    assert await keys(direct) == []


async def test_writes_of_many_keys_are_one_revision(direct: EtcdStore) -> None:
    start = await direct.head()
    names = [f"{n:05d}" for n in range(20_000)]
    revision = await direct.commit([Put(name, b"1") for name in names], ALICE, [Expect("x", 0)])
    revision = await direct.commit([Put(name, b"2") for name in names], ALICE, [Expect("x", 0)])
    first, second = await take(direct.follow(start), 2)
    assert second.revision == revision
    assert [len(batch.changes) for batch in (first, second)] == [20_000, 20_000]
    (entry,) = await direct.history(1)
    assert {(edit.before, edit.after) for edit in entry.edits} == {(b"1", b"2")}


async def test_what_a_commit_of_many_keys_expects_is_kept_to(direct: EtcdStore) -> None:
    revision = await put(direct, "guard")
    names = [f"k{n}" for n in range(150)]
    writes = [Put(name, b"") for name in names]
    with pytest.raises(Conflict, match="guard is at revision"):
        await direct.commit(writes, ALICE, [Expect("guard", revision + 1)])
    with pytest.raises(Refused, match="of 62 of them"):
        await direct.commit(writes, ALICE, [Expect(name, 0) for name in names])
    assert await keys(direct) == ["guard"]
    # Several at once: one passes.
    wanted = [Put("guard", b""), *writes], ALICE, [Expect("guard", revision)]
    results = await asyncio.gather(
        *(direct.commit(*wanted) for _ in range(8)), return_exceptions=True
    )
    assert sum(isinstance(result, Conflict) for result in results) == 7
    assert len(await direct.history()) == 2


async def test_what_is_too_large_for_etcd_is_written_in_parts(direct: EtcdStore) -> None:
    start = await put(direct, "guard", "old")
    bodies = [random.Random(n).randbytes(300_000) for n in range(12)]
    writes: list[Write] = [Delete("old"), Put("guard", b"new")]
    writes += [Put(f"k{n}", body) for n, body in enumerate(bodies)]
    last = await direct.commit(writes, ALICE, [Expect("guard", start)])
    held = {item.key: item.value for item in (await direct.load()).items}
    assert held == {"guard": b"new", **{f"k{n}": body for n, body in enumerate(bodies)}}
    batches = await take(direct.follow(start), len(await direct.history()) - 1)
    changed = [change.key for batch in batches for change in batch.changes]
    assert changed == [*(f"k{n}" for n in range(12)), "old", "guard"]
    assert batches[-1].revision == last
    assert len(batches) > 2


async def test_parts_that_were_interrupted_may_be_repeated(
    between: Between, direct: EtcdStore, store: EtcdStore
) -> None:
    start = await put(direct, "guard")
    bodies = [random.Random(n).randbytes(300_000) for n in range(12)]
    writes = [Put("guard", b"new"), *(Put(f"k{n}", body) for n, body in enumerate(bodies))]
    between.mutes_at = bodies[7][:100]
    with pytest.raises(Unavailable, match=r"\d of 13 writes were made before: .* repeated"):
        await store.commit(writes, ALICE, [Expect("guard", start)])
    assert 2 < len(await keys(direct)) < 13
    between.is_mute = False
    between.reset()
    await store.commit(writes, ALICE, [Expect("guard", start)])
    assert len(await keys(direct)) == 13


async def test_a_value_too_long_for_the_audit_stands_in_it_as_a_digest(direct: EtcdStore) -> None:
    body = random.Random(1).randbytes(1 << 20)
    await direct.commit([Put("a", body)], ALICE)
    await direct.commit([Delete("a")], ALICE)
    deleted, made = await direct.history()
    digest = f"1048576 bytes, sha256 {hashlib.sha256(body).hexdigest()}".encode()
    assert [(edit.before, edit.after) for edit in made.edits] == [(None, digest)]
    assert [(edit.before, edit.after) for edit in deleted.edits] == [(body, None)]


async def test_answers_that_are_too_large_are_asked_for_in_smaller_pages(direct: EtcdStore) -> None:
    bodies = {f"k{n:03d}": bytes([n]) * (1 << 20) for n in range(90)}
    for key, body in bodies.items():
        await direct.commit([Put(key, body)], ALICE)
    assert {item.key: item.value for item in (await direct.load()).items} == bodies


async def test_two_cores_note_a_lease_that_ran_out_once(
    etcd: Etcd, direct: EtcdStore, prefix: str
) -> None:
    async with opened(*etcd.endpoints, prefix=prefix) as other, running(direct), running(other):
        # Both have to watch already.
        await asyncio.sleep(0.5)
        leases = [await direct.grant(2.0) for _ in range(3)]
        for n, lease in enumerate(leases):
            await put(direct, f"p{n}", f"q{n}", lease=lease)
        # Deleted by somebody, who stands in the audit already.
        await direct.commit([Delete("p2"), Delete("q2")], ALICE)
        await until(lambda: _has(direct, 6))
        # Longer than either waits before it notes something.
        await asyncio.sleep(0.5)
        told = [entry.what for entry in await direct.history() if entry.who == "lease"]
        assert sorted(told) == sorted(f"lease {lease} expired" for lease in leases[:2])


async def _has(store: EtcdStore, entries: int) -> bool:
    return len(await store.history()) >= entries


async def test_restamped_it_is_another_store(direct: EtcdStore, store: EtcdStore) -> None:
    before = store.store_id
    start = await put(direct, "a")
    follower = store.follow(start)
    await put(direct, "b")
    await take(follower, 1)
    made = await direct.restamp(Author("alice", "accept-store"))
    assert made != before
    with pytest.raises(Compacted):
        await take(follower, 1)
    with pytest.raises(Compacted):
        await take(store.follow(start), 1)
    with pytest.raises(Unavailable, match="another store"):
        await put(store, "c")
    assert (await store.load()).store_id == store.store_id == made
    await put(store, "c")
    assert await keys(store) == ["a", "b", "c"]
    assert (await store.history())[1].what == "accept-store"


async def test_keys_that_are_not_utf_8_are_left_out_and_counted(
    etcd: Etcd, direct: EtcdStore, prefix: str
) -> None:
    start = await put(direct, "a")
    follower = direct.follow(start)
    client = Client(access_of(EtcdSettings(endpoints=etcd.endpoints)))
    bad = f"{prefix}data/".encode() + b"\xff"
    await client.call("Txn", pb.TxnRequest(success=[requests.put(bad, b"")]))
    await client.close()
    revision = await put(direct, "b")
    assert [batch.revision for batch in await take(follower, 1)] == [revision]
    assert await keys(direct) == ["a", "b"]
    assert direct.ignored == 1


async def test_prefixes_keep_out_of_each_other(etcd: Etcd, direct: EtcdStore, prefix: str) -> None:
    async with (
        opened(*etcd.endpoints, prefix=prefix.rstrip("/")) as same,
        opened(*etcd.endpoints, prefix=prefix.rstrip("/") + "0") as other,
    ):
        await put(direct, "a")
        await put(other, "b")
        assert (await keys(same), await keys(other)) == (["a"], ["b"])
        assert same.store_id == direct.store_id != other.store_id


async def test_thousands_of_leases_are_renewed_at_once(direct: EtcdStore) -> None:
    leases = await asyncio.gather(*(direct.grant(60.0) for _ in range(2000)))
    await asyncio.gather(*(direct.renew(lease) for lease in leases))
    await direct.revoke(leases[7])
    results = await asyncio.gather(*map(direct.renew, leases), return_exceptions=True)
    assert [type(each) for each in results if each is not None] == [LeaseLost]


async def test_renewals_go_on_at_the_next_endpoint(
    etcd: Etcd, between: Between, direct: EtcdStore, prefix: str
) -> None:
    async with opened(between.endpoint, etcd.endpoints[0], prefix=prefix) as store:
        leases = [await store.grant(60.0) for _ in range(3)]
        for lease in leases:
            between.is_mute = True
            await asyncio.gather(*map(store.renew, leases))
            between.is_mute = False
            between.reset()
            await store.renew(lease)


async def test_a_lease_that_ran_out_while_nobody_could_see_it_is_noted_after(
    between: Between, direct: EtcdStore, store: EtcdStore
) -> None:
    async with running(store):
        await asyncio.sleep(0.5)
        first, second = await direct.grant(2.0), await direct.grant(4.0)
        await put(direct, "a", lease=first)
        await put(direct, "b", lease=second)
        await until(lambda: _has(direct, 3))
        between.is_cut = True
        between.reset()
        await until(lambda: _are(direct, []))
        between.is_cut = False
        await until(lambda: _has(direct, 4))
    told = [entry.what for entry in await direct.history(2)]
    assert told == [f"lease {lease} expired" for lease in (second, first)]


async def _are(store: EtcdStore, wanted: list[str]) -> bool:
    return await keys(store) == wanted
