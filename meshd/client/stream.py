"""One stream to one core: hello, welcome, beats. Errors of gRPC become those of this package."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import grpc

from meshd.client.errors import Refused, Replaced, Unreachable
from meshd.core.errors import MeshError
from meshd.v1 import registry_pb2 as pb
from meshd.v1 import registry_pb2_grpc

_WELCOME_S = 5.0
CHANNEL_OPTIONS = (
    # Each stream tries by itself when it is time to; nothing is remembered of earlier ones.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_retries", 0),
    # A core whose machine is gone; the server allows a question each 10 s.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 20_000),
)
_REFUSALS = (
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.UNIMPLEMENTED,
)


class Stream:
    """An accepted registration, as long as its stream is open; made by `opened`."""

    def __init__(self, core: str, call: Any, welcome: pb.Welcome) -> None:
        self.core = core
        self.welcome = welcome
        self._call = call

    async def beat(self, beat: pb.Heartbeat, timeout_s: float | None = None) -> pb.Beaten:
        """Send a beat and wait for its answer; new terms are in `welcome`."""
        with _translated():
            async with asyncio.timeout(timeout_s):
                if not self._call.done():
                    await self._call.write(pb.RegisterRequest(beat=beat))
                told: pb.RegisterResponse = await _told(self._call)
        if told.HasField("welcome"):
            self.welcome = told.welcome
        return told.beaten

    async def leave(self) -> None:
        """Say good-bye, and wait until it was heard."""
        with contextlib.suppress(MeshError), _translated():
            await self._call.write(pb.RegisterRequest(leave=pb.Leave()))
            await self._call.code()


@asynccontextmanager
async def opened(core: str, hello: pb.Hello, on_end: Callable[[], None]) -> AsyncIterator[Stream]:
    """A registration at a core; Refused, Replaced or Unreachable if there will be none.

    `on_end` is called once its stream has ended, whoever ended it.
    """
    async with grpc.aio.insecure_channel(core, options=CHANNEL_OPTIONS) as channel:
        call = registry_pb2_grpc.RegistryStub(channel).Register()
        call.add_done_callback(lambda _: on_end())
        try:
            with _translated():
                async with asyncio.timeout(_WELCOME_S):
                    await call.write(pb.RegisterRequest(hello=hello))
                    welcome = (await _told(call)).welcome
            yield Stream(core, call, welcome)
        finally:
            call.cancel()


async def _told(call: Any) -> Any:
    told = await call.read()
    if told is not grpc.aio.EOF:
        return told
    code, details = await call.code(), await call.details()
    raise _error(code, details or code.name)


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """Errors of gRPC as errors of this package."""
    try:
        yield
    except grpc.aio.AioRpcError as error:
        raise _error(error.code(), error.details() or error.code().name) from None
    except TimeoutError:
        raise Unreachable("no answer") from None
    except asyncio.InvalidStateError as error:
        # What grpc raises for a write to a stream that has just ended.
        raise Unreachable(str(error)) from None


def _error(code: grpc.StatusCode, details: str) -> MeshError:
    if code is grpc.StatusCode.ABORTED:
        return Replaced(details)
    if code in _REFUSALS:
        return Refused(details.splitlines())
    return Unreachable(f"{code.name}: {details}")
