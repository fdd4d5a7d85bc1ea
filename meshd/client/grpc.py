"""gRPC over the mesh: a channel that has one channel to each instance, and picks one for each call.

async with channel("api.mesh.internal", port="grpc") as spread:
    await ApiStub(spread).Get(request, timeout=1.0)
"""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from functools import partialmethod
from typing import Any, Unpack

import grpc

from meshd.client.calls import Call
from meshd.client.endpoint import Endpoint, Outcome
from meshd.client.kept import Slot
from meshd.client.mesh import Mesh, Ways

_CONNECT_S = 2.0
_OPTIONS = (
    # What one channel learnt of an address that is gone must not delay the next.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
)
# What is no word of the program that was called, or means that it cannot do its work.
_FAILURES = frozenset(
    (
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DATA_LOSS,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    )
)


@asynccontextmanager
async def channel(
    name: str,
    *,
    credentials: grpc.ChannelCredentials | None = None,
    options: Sequence[tuple[str, Any]] = (),
    idempotent: bool = False,
    **ways: Unpack[Ways],
) -> AsyncIterator["MeshChannel"]:
    """A channel to a service, for stubs. Authority and certificate are of the service's name.

    A unary call that finds no connection goes to the next instance; with `idempotent` also one
    that ends with UNAVAILABLE. Streams are not repeated. Unresolved or Denied as for Mesh.
    """
    if "port" not in ways:
        ways["port"] = "grpc"
    mesh = Mesh(name, **ways)
    made = MeshChannel(mesh, credentials, options, idempotent=idempotent)
    try:
        async with mesh:
            yield made
    finally:
        await made.settled()


class MeshChannel:
    """The part of grpc.aio.Channel that stubs use; made by `channel`."""

    def __init__(
        self,
        mesh: Mesh,
        credentials: grpc.ChannelCredentials | None,
        options: Sequence[tuple[str, Any]],
        *,
        idempotent: bool,
    ) -> None:
        authority = ("grpc.default_authority", mesh.name)
        self.mesh = mesh
        self.idempotent = idempotent
        self.kept = mesh.keep(self._to, grpc.aio.Channel.close)
        self._credentials = credentials
        self._options = (*_OPTIONS, authority, *options)
        self._followed: set[asyncio.Task[None]] = set()

    def unary_unary(self, *method: Any, **how: Any) -> "UnaryMethod":
        """A method with one request and one reply."""
        return UnaryMethod(self, method, how)

    def _streaming(self, kind: str, *method: Any, **how: Any) -> "StreamMethod":
        return StreamMethod(self, kind, method, how)

    unary_stream = partialmethod(_streaming, "unary_stream")
    stream_unary = partialmethod(_streaming, "stream_unary")
    stream_stream = partialmethod(_streaming, "stream_stream")

    def follow(self, work: Coroutine[Any, Any, None]) -> None:
        """Wait in the background for how a stream ends."""
        task = asyncio.create_task(work)
        self._followed.add(task)
        task.add_done_callback(self._followed.discard)

    async def settled(self) -> None:
        """Wait until all that was followed has ended."""
        if self._followed:
            await asyncio.wait(self._followed)

    def _to(self, endpoint: Endpoint) -> Any:
        is_v6 = ":" in endpoint.address
        host = f"ipv6:[{endpoint.address}]" if is_v6 else f"ipv4:{endpoint.address}"
        target = f"{host}:{endpoint.port}"
        if self._credentials is None:
            return grpc.aio.insecure_channel(target, options=self._options)
        return grpc.aio.secure_channel(target, self._credentials, options=self._options)


class UnaryMethod:
    """A method with one request and one reply; called, it returns a task."""

    def __init__(self, channel: MeshChannel, method: Sequence[Any], how: dict[str, Any]) -> None:
        self._channel = channel
        self._method = method
        self._how = how

    def __call__(
        self, request: Any, *, timeout: float | None = None, **how: Any
    ) -> "asyncio.Task[Any]":
        """Call it; of a grpc call the task has await, cancel and add_done_callback."""
        loop = asyncio.get_running_loop()
        until = None if timeout is None else loop.time() + timeout
        return loop.create_task(self._called(request, until, how))

    async def _called(self, request: Any, until: float | None, how: dict[str, Any]) -> Any:
        mesh, kept = self._channel.mesh, self._channel.kept
        tried: set[str] = set()
        failure: grpc.aio.AioRpcError | None = None
        while call := mesh.calls.begin(tried):
            tried.add(call.endpoint.key)
            slot = kept.take(call.endpoint)
            try:
                return await self._once(call, slot, request, until, how)
            except _NotConnected as error:
                failure = _unavailable(str(error))
            except grpc.aio.AioRpcError as error:
                is_away = error.code() is grpc.StatusCode.UNAVAILABLE
                if not (is_away and self._channel.idempotent):
                    raise
                failure = error
            finally:
                call.abandon()
                kept.give(slot)
        raise failure or _unavailable(f"{mesh.name}: no endpoint is known")

    async def _once(
        self, call: Call, slot: Slot[Any], request: Any, until: float | None, how: dict[str, Any]
    ) -> Any:
        """Call one instance."""
        try:
            await _connected(slot.held, _left_s(until))
        except (ConnectionError, TimeoutError) as error:
            call.end(Outcome.CONNECT_ERROR)
            raise _NotConnected(f"{call.endpoint.key}: not connected") from error
        method = slot.held.unary_unary(*self._method, **self._how)
        try:
            reply = await method(request, timeout=_left_s(until), **how)
        except grpc.aio.AioRpcError as error:
            _settle(call, error.code(), is_connected=True)
            raise
        call.end(Outcome.OK)
        return reply


class StreamMethod:
    """A method with a stream on either side; called, it returns the call of grpc."""

    def __init__(
        self, channel: MeshChannel, kind: str, method: Sequence[Any], how: dict[str, Any]
    ) -> None:
        self._channel = channel
        self._kind = kind
        self._method = method
        self._how = how

    def __call__(self, *request: Any, **how: Any) -> Any:
        """Call it at the instance that is best now. Unresolved if there are no endpoints."""
        call = self._channel.mesh.begin()
        slot = self._channel.kept.take(call.endpoint)
        method = getattr(slot.held, self._kind)(*self._method, **self._how)
        rpc = method(*request, **how)
        self._channel.follow(self._followed(rpc, call, slot))
        return rpc

    async def _followed(self, rpc: Any, call: Call, slot: Slot[Any]) -> None:
        try:
            await rpc.initial_metadata()
            call.replied()
            code = await rpc.code()
            is_connected = slot.held.get_state() is grpc.ChannelConnectivity.READY
            _settle(call, code, is_connected=is_connected)
        finally:
            call.abandon()
            self._channel.kept.give(slot)


class _NotConnected(ConnectionError):
    """An instance could not be connected to: nothing was sent."""


async def _connected(to: Any, left_s: float | None) -> None:
    """Wait for a connection. ConnectionError, TimeoutError.

    A channel that failed before stays in that state until it is connected (gRFC A62); one that
    comes to it now is refused.
    """
    state = to.get_state(try_to_connect=True)
    async with asyncio.timeout(_CONNECT_S if left_s is None else min(_CONNECT_S, left_s)):
        while state is not grpc.ChannelConnectivity.READY:
            await to.wait_for_state_change(state)
            state = to.get_state(try_to_connect=True)
            if state is grpc.ChannelConnectivity.TRANSIENT_FAILURE:
                raise ConnectionRefusedError


def _left_s(until: float | None) -> float | None:
    return None if until is None else max(0.0, until - asyncio.get_running_loop().time())


def _settle(call: Call, code: grpc.StatusCode, *, is_connected: bool) -> None:
    """End a call by its status."""
    if code is grpc.StatusCode.CANCELLED:
        call.abandon()
    elif code is grpc.StatusCode.DEADLINE_EXCEEDED:
        call.end(Outcome.TIMEOUT)
    elif code is grpc.StatusCode.UNAVAILABLE and not is_connected:
        call.end(Outcome.CONNECT_ERROR)
    else:
        call.end(Outcome.FAILURE if code in _FAILURES else Outcome.OK)


def _unavailable(details: str) -> grpc.aio.AioRpcError:
    nothing = grpc.aio.Metadata()
    return grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, nothing, nothing, details)
