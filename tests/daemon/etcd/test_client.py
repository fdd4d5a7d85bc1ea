"""Reading many keys in pages, while others write and etcd forgets."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest

from meshd.daemon.etcd.access import access_of
from meshd.daemon.etcd.client import Client
from meshd.daemon.etcd.requests import put
from meshd.daemon.etcd.span import Span
from meshd.daemon.settings import EtcdSettings
from meshd.etcdwire import etcd_pb2 as pb
from tests.servers.etcd import Etcd, program

pytestmark = pytest.mark.skipif(program("etcd") is None, reason="etcd-server is not installed")

KEYS = [b"pages/%02d" % n for n in range(20)] + [b"pages/\xff", b"pages/\xff\xff"]


class Interrupted(Client):
    """Does something after its second page."""

    between: Callable[[], Awaitable[Any]]
    pages = 0

    async def call(self, method: str, request: Any, until: float | None = None) -> Any:
        reply = await super().call(method, request, until)
        if method == "Range":
            self.pages += 1
            if self.pages == 2:
                await self.between()
        return reply


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcd]:
    cluster = Etcd(tmp_path_factory.mktemp("etcd"))
    try:
        cluster.start_ready()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture
async def client(etcd: Etcd) -> AsyncIterator[Interrupted]:
    client = Interrupted(access_of(EtcdSettings(endpoints=etcd.endpoints)))
    await _write(client, b"1")
    yield client
    await client.close()


async def _write(client: Client, value: bytes) -> None:
    await client.call("Txn", pb.TxnRequest(success=[put(key, value) for key in KEYS]))


async def test_pages_are_of_one_revision(client: Interrupted) -> None:
    client.between = lambda: _write(client, b"2")
    revision, kvs = await client.read(Span.under(b"pages/"), page=3)
    assert [(kv.key, kv.value) for kv in kvs] == [(key, b"1") for key in KEYS]
    assert {kv.mod_revision for kv in kvs} == {revision}


async def test_what_is_forgotten_meanwhile_is_read_anew(etcd: Etcd, client: Interrupted) -> None:
    async def forget() -> None:
        await _write(client, b"2")
        await asyncio.to_thread(etcd.compact)

    client.between = forget
    _, kvs = await client.read(Span.under(b"pages/"), page=3)
    assert [(kv.key, kv.value) for kv in kvs] == [(key, b"2") for key in KEYS]


async def test_no_more_than_wanted_is_read(client: Interrupted) -> None:
    client.between = lambda: asyncio.sleep(0)
    for most in (1, 3, 7, 100):
        _, kvs = await client.read(Span.under(b"pages/"), keys_only=True, most=most, page=3)
        assert [(kv.key, kv.value) for kv in kvs] == [(key, b"") for key in KEYS[:most]]
