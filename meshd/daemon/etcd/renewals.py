"""Renewals of thousands of leases: those that come together share one stream.

That a renewal passed is no proof that the keys of its lease are there (etcd before 3.4.38).
"""

import asyncio
from collections.abc import Iterable

from meshd.core.errors import LeaseLost, MeshError, Unavailable
from meshd.daemon.etcd.client import Client, Metadata
from meshd.daemon.etcd.endpoints import Endpoint
from meshd.etcdwire import etcd_pb2 as pb

_AT_ONCE = 1000


class Renewals:
    """Collects leases to renew in one turn of the event loop, and asks for all of them."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._waiting: dict[int, asyncio.Future[None]] = {}
        self._work: set[asyncio.Future[None]] = set()

    async def renew(self, lease: int) -> None:
        """Let a lease live for its whole time again; LeaseLost, Unavailable."""
        if not self._waiting:
            # Not now: those who come in this turn of the loop share the stream.
            asyncio.get_running_loop().call_soon(self._start)
        if lease not in self._waiting:
            self._waiting[lease] = asyncio.get_running_loop().create_future()
        # Others may wait for the same lease.
        await asyncio.shield(self._waiting[lease])

    def _start(self) -> None:
        waiting, self._waiting = self._waiting, {}
        leases = list(waiting)
        for first in range(0, len(leases), _AT_ONCE):
            batch = {lease: waiting[lease] for lease in leases[first : first + _AT_ONCE]}
            work = asyncio.ensure_future(self._run(batch))
            self._work.add(work)
            work.add_done_callback(self._work.discard)

    async def _run(self, batch: dict[int, asyncio.Future[None]]) -> None:
        async def work(endpoint: Endpoint, timeout_s: float, metadata: Metadata) -> None:
            # Of a stream that broke, what was answered counts; the rest is asked for again.
            left = [lease for lease, answered in batch.items() if not answered.done()]
            requests = (pb.LeaseKeepAliveRequest(ID=lease) for lease in left)
            send = endpoint.method("LeaseKeepAlive")
            async for reply in send(requests, timeout=timeout_s, metadata=metadata):
                _settle(batch[reply.ID], reply.ID, reply.TTL)

        try:
            await self._client.attempt(work, self._client.deadline())
            _fail(batch.values(), Unavailable("etcd did not answer to a renewal"))
        except MeshError as error:
            _fail(batch.values(), error)
        finally:
            _fail(batch.values(), Unavailable("the store is closed"))


def _settle(answered: asyncio.Future[None], lease: int, ttl_s: int) -> None:
    if answered.done():
        return
    if ttl_s > 0:
        answered.set_result(None)
    else:
        _fail((answered,), LeaseLost(f"lease {lease} is not known"))


def _fail(futures: Iterable[asyncio.Future[None]], error: MeshError) -> None:
    for future in futures:
        if not future.done():
            future.set_exception(error)
            # Whoever waited may have been cancelled meanwhile.
            future.exception()
