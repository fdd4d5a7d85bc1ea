"""The store in etcd with TLS and logins, and with an etcd that has no space left."""

import asyncio
import random
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from meshd.core.errors import Unavailable
from meshd.daemon.store.base import Put
from tests.daemon.store.between import Between
from tests.daemon.store.drive import ALICE, keys, put, running, take, until
from tests.daemon.store.etcd_drive import LIMIT_S, opened, passes
from tests.servers.etcd import Certificates, Etcd, program

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(program("etcd") is None, reason="etcd-server is not installed"),
]


@pytest.fixture
def etcd(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Etcd]:
    """One member, made as the test says."""
    cluster = Etcd(tmp_path, **getattr(request, "param", {}))
    try:
        cluster.start_ready()
        yield cluster
    finally:
        cluster.stop()


def _made(**how: Any) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("etcd", [how], indirect=True)


def _tls(etcd: Etcd) -> Certificates:
    assert etcd.tls is not None
    return etcd.tls


@_made(tls=True)
async def test_tls(etcd: Etcd) -> None:
    tls = _tls(etcd)
    right: dict[str, Any] = {"ca": tls.ca, "cert": tls.client, "key": tls.client_key}
    async with opened(*etcd.endpoints, **right) as store:
        await put(store, "a")
        assert await keys(store) == ["a"]
    wrongs: list[tuple[str, dict[str, Any]]] = [
        ("not signed by the ca", {**right, "ca": tls.stranger}),
        ("client certificate", {"ca": tls.ca}),
        ("ask for TLS", {}),
    ]
    for why, wrong in wrongs:
        async with opened(*etcd.endpoints, **wrong) as store:
            began = time.monotonic()
            with pytest.raises(Unavailable, match=f"etcd cannot be reached: .*{why}"):
                await store.load()
            assert time.monotonic() - began < LIMIT_S
    # What the certificate names is checked.
    async with opened(f"localhost:{etcd.endpoints[0].rpartition(':')[2]}", **right) as store:
        assert await keys(store) == ["a"]
    async with Between(etcd.endpoints[0], "127.0.0.2") as other:
        async with opened(other.endpoint, **right) as store:
            with pytest.raises(Unavailable):
                await store.load()
        assert other.connections


@pytest.fixture
def login(tmp_path: Path) -> dict[str, Any]:
    path = tmp_path / "password"
    path.write_text("right\n")
    path.chmod(0o600)
    return {"user": "meshd", "password_file": path}


@_made(flags=["--auth-token-ttl=2"])
async def test_a_login_that_ran_out_is_made_anew(etcd: Etcd, login: dict[str, Any]) -> None:
    await asyncio.to_thread(etcd.enable_auth, "meshd", "right")
    async with opened(*etcd.endpoints, **login) as store:
        start = (await store.load()).revision
        lease = await store.grant(30.0)
        follower = store.follow(start)
        # etcd looks for old logins each second.
        await asyncio.sleep(3.5)
        # All at once find theirs old: a busy machine may take longer than a call may.
        calls = [partial(put, store, f"many/{n}") for n in range(50)]
        await asyncio.gather(*(until(partial(passes, call)) for call in calls))
        heard = [batch.changes[0].key for batch in await take(follower, 50)]
        assert set(heard) == {f"many/{n}" for n in range(50)}
        await until(partial(passes, partial(store.renew, lease)))
        async with running(store):
            await asyncio.sleep(3.5)
            follower = store.follow(await store.head())
            await until(partial(passes, partial(put, store, "b")))
            assert [batch.changes[0].key for batch in await take(follower, 1)] == ["b"]
            await until(partial(passes, partial(store.revoke, lease)))
        assert len(await keys(store)) == 51


async def test_who_is_not_let_in_is_told_so(etcd: Etcd, login: dict[str, Any]) -> None:
    # A login where none is needed.
    async with opened(*etcd.endpoints, **login) as store:
        with pytest.raises(Unavailable, match="does not let in"):
            await store.load()
    async with opened(*etcd.endpoints) as store:
        start = (await store.load()).revision
        follower = store.follow(start)
        await put(store, "a")
        await take(follower, 1)
        await asyncio.to_thread(etcd.enable_auth, "meshd", "right")
        for call in (store.load(), put(store, "a"), store.history()):
            with pytest.raises(Unavailable, match="does not let in"):
                await call
    async with opened(*etcd.endpoints, **login) as store:
        assert await keys(store) == ["a"]
    async with opened(*etcd.endpoints, prefix="/other/", **login) as store:
        with pytest.raises(Unavailable, match="permission denied"):
            await store.load()
    login["password_file"].write_text("wrong")
    async with opened(*etcd.endpoints, **login) as store:
        began = time.monotonic()
        with pytest.raises(Unavailable, match="authentication failed"):
            await store.load()
        assert time.monotonic() - began < LIMIT_S


@_made(flags=["--quota-backend-bytes=20000000"])
async def test_without_space_writes_are_refused_and_reads_go_on(etcd: Etcd) -> None:
    async with opened(*etcd.endpoints) as store:
        start = (await store.load()).revision
        lease = await store.grant(30.0)
        await put(store, "presence", lease=lease)
        with pytest.raises(Unavailable, match="out of space"):
            for n in range(200):
                value = random.Random(n).randbytes(500_000)
                await store.commit([Put(f"k{n:03d}", value)], ALICE)
        began = time.monotonic()
        with pytest.raises(Unavailable, match="out of space"):
            await put(store, "a")
        assert time.monotonic() - began < 1
        held = await keys(store)
        assert len(await store.history()) == len(held) == await store.head() - start
        assert len(await take(store.follow(start), len(held))) == len(held)
        await store.renew(lease)
        with pytest.raises(Unavailable, match="out of space"):
            await store.grant(30.0)
        # What an operator does then.
        await asyncio.to_thread(etcd.etcdctl, "del", "/meshd/data/k", "--prefix")
        await asyncio.to_thread(etcd.etcdctl, "del", "/meshd/audit/", "--prefix")
        await asyncio.to_thread(etcd.compact)
        await asyncio.to_thread(etcd.etcdctl, "defrag")
        await asyncio.to_thread(etcd.etcdctl, "alarm", "disarm")
        await until(partial(passes, partial(put, store, "a")))
