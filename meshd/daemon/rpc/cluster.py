"""The Cluster service: other cores speak here, and operators ask how each core is."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from meshd.core.errors import Invalid, Refused, Unavailable
from meshd.daemon.exchange import Exchange
from meshd.daemon.rpc.status import unary
from meshd.daemon.state import State
from meshd.v1 import cluster_pb2 as pb
from meshd.v1 import cluster_pb2_grpc

# Other cores give a sign of life each half second.
_SILENCE_S = 10.0

# Author -> takes the store as it is; returns its new id and revision.
Accept = Callable[[str], Awaitable[tuple[str, int]]]


async def _nothing_to_accept(author: str) -> tuple[str, int]:
    raise Refused("there is nothing to accept: the store is as it was")


class Cluster(cluster_pb2_grpc.ClusterServicer):
    """Hears other cores, and tells of all."""

    def __init__(
        self,
        state: State,
        exchange: Exchange,
        store: str = "embedded",
        accept: Accept = _nothing_to_accept,
    ) -> None:
        self._state = state
        self._exchange = exchange
        self._store = store
        self._accept = accept
        self._streams: set[asyncio.Timeout] = set()

    @unary
    async def Exchange(self, _: Any, context: Any) -> None:  # noqa: N802
        try:
            async with asyncio.timeout(_SILENCE_S) as silence:
                self._streams.add(silence)
                await self._hear(context, silence)
        except TimeoutError:
            raise Unavailable("this core ends, or nothing was said for long") from None
        finally:
            self._streams.discard(silence)

    async def _hear(self, context: Any, silence: asyncio.Timeout) -> None:
        hearing, loop = self._exchange.hearing, asyncio.get_running_loop()
        message = await context.read()
        if message is grpc.aio.EOF:
            raise Invalid("nothing was said")
        speaker = hearing.admit(message, time.monotonic())
        try:
            while message is not grpc.aio.EOF:
                hearing.take(speaker, message, time.monotonic())
                silence.reschedule(loop.time() + _SILENCE_S)
                await context.write(pb.ExchangeResponse())
                message = await context.read()
        finally:
            hearing.end(speaker)

    def end(self) -> None:
        """Hear nobody any more: the process is about to end."""
        for silence in self._streams:
            silence.reschedule(0.0)

    @unary
    async def Nodes(self, request: pb.NodesRequest, context: Any) -> pb.NodesResponse:  # noqa: N802
        members, now = self._exchange.members, time.monotonic()
        made = pb.NodesResponse(store=self._store, store_id=self._state.snapshot.topology.store_id)
        made.nodes.add(
            node=members.own, state=self._exchange.own_state(now), heard_age_s=0.0, is_asked=True
        )
        for name, node in sorted(members.others.items()):
            heard_at = members.heard_at.get(name)
            made.nodes.add(
                node=node,
                state=members.states.get(name),
                heard_age_s=None if heard_at is None else max(0.0, now - heard_at),
            )
        return made

    @unary
    async def AcceptStore(  # noqa: N802
        self, request: pb.AcceptStoreRequest, context: Any
    ) -> pb.AcceptStoreResponse:
        store_id, revision = await self._accept(request.author or "unknown")
        return pb.AcceptStoreResponse(store_id=store_id, revision=revision)
