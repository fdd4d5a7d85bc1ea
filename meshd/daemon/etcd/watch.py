"""A watch that goes on: at another endpoint, without a gap, without hearing anything twice."""

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import grpc

from meshd.core.errors import Compacted, Unavailable
from meshd.daemon.etcd.client import Client, Metadata
from meshd.daemon.etcd.faults import is_stale_text, is_stale_token, meaning
from meshd.daemon.etcd.span import Span
from meshd.etcdwire import etcd_pb2 as pb

log = logging.getLogger(__name__)

# A stream that is silent for so long is asked if it lives, and left if it does not answer.
_IDLE_S = 2.0
_PROBE_S = 1.5
_PAUSE_S = 0.05
# A stream that lived so long, or brought something, was not for nothing.
_LIVED_S = 1.0

# Looks, within a deadline, if the store is still the one that is watched; Compacted. It comes
# before each stream, and by a call: a login that ran out is then made anew.
Look = Callable[[float], Awaitable[object]]


class _Lost(Exception):
    """The stream is of no more use."""


@dataclass(slots=True)
class Watch:
    """Follows a span from after a revision."""

    client: Client
    span: Span
    after: int
    look: Look
    # Of deletions only, each with the value that went.
    only_deletions: bool = False

    async def changes(self) -> AsyncGenerator[list[Any], None]:
        """Events in order, those of one revision never apart; Compacted, Unavailable."""
        clock = asyncio.get_running_loop().time
        until = self.client.deadline()
        while True:
            await self.look(until)
            metadata = await self.client.metadata(until)
            began, after = clock(), self.after
            try:
                async with contextlib.aclosing(self._stream(metadata)) as stream:
                    async for events in stream:
                        yield events
            except _Lost as lost:
                why = str(lost)
            self._check_closed()
            if self.after > after or clock() > began + _LIVED_S:
                # It worked until now, so the time begins now.
                until = self.client.deadline()
            await self._pause(until, why)

    def _check_closed(self) -> None:
        if self.client.is_closed:
            raise Unavailable("the store is closed")

    async def _pause(self, until: float, why: str) -> None:
        self.client.resumes += 1
        log.info("watch resumes: after=%d error=%s", self.after, why)
        await asyncio.sleep(_PAUSE_S * random.uniform(0.5, 1))
        if asyncio.get_running_loop().time() > until:
            raise Unavailable(f"etcd cannot be watched: {why}")

    async def _stream(self, metadata: Metadata) -> AsyncGenerator[list[Any], None]:
        """One stream until it is lost."""
        clock = asyncio.get_running_loop().time
        endpoint = self.client.endpoints.pick(clock())
        call = endpoint.method("Watch")(metadata=metadata)
        try:
            async with contextlib.aclosing(_replies(call, self._request())) as replies:
                async for events in self._heard(replies):
                    yield events
        except grpc.aio.AioRpcError as error:
            if not is_stale_token(error):
                self._raise_for_good(error)
                self.client.endpoints.failed(endpoint, str(error.details()), clock())
            raise _Lost(error.details() or error.code().name) from None
        except _Lost as lost:
            if not is_stale_text(str(lost)):
                self.client.endpoints.failed(endpoint, f"watch: {lost}", clock())
            raise
        finally:
            call.cancel()

    async def _heard(self, replies: AsyncIterator[Any]) -> AsyncIterator[list[Any]]:
        part: list[Any] = []
        async for reply in replies:
            self._check(reply)
            part.extend(reply.events)
            if reply.fragment:
                # The last revision in it is not whole yet.
                continue
            # Servers may send again what was sent.
            events = [event for event in part if event.kv.mod_revision > self.after]
            part = []
            if events:
                # Not the header's revision: that is of the whole etcd, far ahead of old events.
                self.after = events[-1].kv.mod_revision
                yield events

    def _check(self, reply: Any) -> None:
        if reply.compact_revision:
            raise Compacted(f"etcd: history begins at {reply.compact_revision}, not {self.after}")
        if reply.canceled:
            raise _Lost(reply.cancel_reason or "cancelled by etcd")

    def _raise_for_good(self, error: grpc.aio.AioRpcError) -> None:
        if final := meaning(error):
            raise final from None

    def _request(self) -> Any:
        create = pb.WatchCreateRequest(
            key=self.span.start,
            range_end=self.span.end,
            start_revision=self.after + 1,
            progress_notify=True,
            fragment=True,
        )
        if self.only_deletions:
            create.prev_kv = True
            create.filters.append(pb.WatchCreateRequest.NOPUT)
        return pb.WatchRequest(create_request=create)


async def _replies(call: Any, request: Any) -> AsyncGenerator[Any, None]:
    """What a stream brings; _Lost when it ends, or is silent even when asked."""
    reader: asyncio.Future[Any] | None = None
    is_asked = True
    try:
        await call.write(request)
        while True:
            # Never wait_for: to cancel a read ends the stream.
            reader = reader or asyncio.ensure_future(call.read())
            done, _ = await asyncio.wait({reader}, timeout=_PROBE_S if is_asked else _IDLE_S)
            if not done:
                if is_asked:
                    raise _Lost("silent")
                is_asked = True
                # Whether it lives, no more: what it answers may run ahead of events (etcd 3.4).
                await call.write(pb.WatchRequest(progress_request=pb.WatchProgressRequest()))
                continue
            if reader.cancelled():
                raise _Lost("closed")
            reply, reader, is_asked = reader.result(), None, False
            if reply is grpc.aio.EOF:
                raise _Lost("ended by etcd")
            yield reply
    except (asyncio.InvalidStateError, grpc.aio.UsageError) as error:
        # Written to a stream that had just ended.
        raise _Lost(repr(error)) from None
    finally:
        if reader is not None:
            call.cancel()
            reader.cancel()
            with contextlib.suppress(asyncio.CancelledError, grpc.aio.AioRpcError):
                await reader
