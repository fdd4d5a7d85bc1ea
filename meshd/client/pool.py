"""Connections to the instances of a service: idle ones used again, those of gone ones let go."""

import asyncio
import ssl
from collections import deque
from collections.abc import AsyncIterator, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Self

from meshd.client.calls import Call, Calls, settled
from meshd.client.choose import Strategy
from meshd.client.dial import Streams, dial
from meshd.client.endpoint import Endpoint, Outcome
from meshd.client.kept import Kept, Slot
from meshd.client.lookup import Unresolved


@dataclass(frozen=True, slots=True)
class Limits:
    """Of connections to each instance: how many, how many idle and how long; how long one takes."""

    connections: int = 100
    idle: int = 10
    # Less than what servers and firewalls forgive.
    idle_s: float = 30.0
    connect_s: float = 2.0


@dataclass(frozen=True, slots=True)
class Connection:
    """An open connection to an instance; whoever has it has it alone."""

    endpoint: Endpoint
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


class _Full(TimeoutError):
    """None came free in time: that is no fault of the instance."""


class _InstancePool:
    """The connections to one instance."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._free = asyncio.Semaphore(limits.connections)
        self._idle: deque[tuple[float, Streams]] = deque()
        self._is_closed = False

    async def get(self, endpoint: Endpoint, tls: ssl.SSLContext | None) -> Streams:
        """One that is idle or a new one; waits while too many are used. OSError, TimeoutError."""
        wait_s = self._limits.connect_s
        try:
            async with asyncio.timeout(wait_s):
                await self._free.acquire()
        except TimeoutError:
            raise _Full(f"all connections to {endpoint.key} are in use") from None
        try:
            async with asyncio.timeout(wait_s):
                return self._pop() or await dial(endpoint, tls)
        except BaseException:
            self._free.release()
            raise

    def put(self, streams: Streams, *, is_clean: bool) -> None:
        """It is used no more; a clean one may be used again."""
        self._free.release()
        if self._is_closed or not is_clean or not _is_good(streams):
            streams.writer.close()
            return
        self._idle.append((asyncio.get_running_loop().time(), streams))
        if len(self._idle) > self._limits.idle:
            self._idle.popleft()[1].writer.close()

    async def close(self) -> None:
        """Close the idle ones; those in use are closed when they come back."""
        self._is_closed = True
        while self._idle:
            self._idle.pop()[1].writer.close()

    def _pop(self) -> Streams | None:
        """The one used last, if any is still good."""
        oldest = asyncio.get_running_loop().time() - self._limits.idle_s
        while self._idle:
            since, streams = self._idle.pop()
            if since > oldest and _is_good(streams):
                return streams
            streams.writer.close()
        return None


class Pools:
    """A pool of connections for each endpoint, and what is known of each. For one event loop."""

    def __init__(
        self,
        endpoints: Iterable[Endpoint] = (),
        *,
        calls: Calls | None = None,
        limits: Limits | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.calls = calls or Calls(endpoints)
        self._limits = limits or Limits()
        self._tls = tls
        self._kept = Kept(lambda _: _InstancePool(self._limits), _InstancePool.close)

    def __repr__(self) -> str:
        return f"<Pools of {len(self._kept)} instances, {self.calls!r}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._kept.close()

    def replace(self, endpoints: Iterable[Endpoint]) -> None:
        """Use these from now on; what is in use with others goes on until it is given back."""
        self.calls.replace(endpoints)
        self._kept.keep(self.calls.state.endpoints)

    @asynccontextmanager
    async def connect(self, strategy: Strategy | None = None) -> AsyncIterator[Connection]:
        """A connection to whom it is best made, or, if that fails, to the next.

        It is used again if the block ends well: leave it with the reply read to its end.
        Unresolved if there are no endpoints, else the last OSError or TimeoutError.
        """
        call, slot, streams = await self._connected(strategy)
        is_clean = False
        try:
            with settled(call):
                yield Connection(call.endpoint, *streams)
            is_clean = True
        finally:
            slot.held.put(streams, is_clean=is_clean)
            self._kept.give(slot)

    async def _connected(
        self, strategy: Strategy | None
    ) -> tuple[Call, Slot[_InstancePool], Streams]:
        """Each endpoint is tried once at most."""
        tried: set[str] = set()
        failure: Exception = Unresolved("no endpoint is known")
        while call := self.calls.begin(tried, strategy):
            slot = self._kept.take(call.endpoint)
            try:
                return call, slot, await slot.held.get(call.endpoint, self._tls)
            except BaseException as error:
                self._kept.give(slot)
                if isinstance(error, OSError) and not isinstance(error, _Full):
                    call.end(Outcome.CONNECT_ERROR)
                call.abandon()
                if not isinstance(error, OSError):
                    raise
                tried.add(call.endpoint.key)
                failure = error
        raise failure


def select_connection(
    pools: Pools, strategy: Strategy = Strategy.PREFERENCE
) -> AbstractAsyncContextManager[Connection]:
    """A connection out of pools by a strategy, as a context."""
    return pools.connect(strategy)


def _is_good(streams: Streams) -> bool:
    return not streams.writer.is_closing() and not streams.reader.at_eof()
