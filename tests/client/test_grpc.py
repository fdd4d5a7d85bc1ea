"""gRPC over the mesh, against real servers."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

import meshd.client.grpc
from meshd.client import Strategy
from meshd.client.grpc import MeshChannel, channel
from tests.client.names import NAME, Place, answering
from tests.client.test_calls import Notebook
from tests.client.test_mesh import certificate
from tests.daemon.cores import until


@dataclass
class Grpc:
    """One instance: says who it is, or fails with the status asked for."""

    name: str
    address: str
    port: int = 0
    credentials: Any = None
    mood: str = ""
    asked: list[str] = field(default_factory=list)
    _server: Any = None

    @property
    def place(self) -> Place:
        return Place(self.name, self.address, self.port)

    async def start(self) -> None:
        self._server = grpc.aio.server()
        methods = {
            "Ask": grpc.unary_unary_rpc_method_handler(self._ask),
            "Count": grpc.unary_stream_rpc_method_handler(self._count),
            "Sum": grpc.stream_unary_rpc_method_handler(self._sum),
            "Echo": grpc.stream_stream_rpc_method_handler(self._echo),
        }
        handler = grpc.method_handlers_generic_handler("Who", methods)
        self._server.add_generic_rpc_handlers((handler,))
        health_pb2_grpc.add_HealthServicer_to_server(health.aio.HealthServicer(), self._server)
        where = f"{self.address}:{self.port}"
        if self.credentials is None:
            self.port = self._server.add_insecure_port(where)
        else:
            self.port = self._server.add_secure_port(where, self.credentials)
        await self._server.start()

    async def stop(self) -> None:
        await self._server.stop(0)

    async def _ask(self, request: bytes, context: Any) -> bytes:
        self.asked.append(request.decode())
        mood = request.decode() or self.mood
        if mood == "hangs":
            await asyncio.sleep(30)
        if mood:
            await context.abort(grpc.StatusCode[mood], "as asked")
        return self.name.encode()

    async def _count(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        for _ in range(int(request)):
            yield self.name.encode()

    async def _sum(self, requests: AsyncIterator[bytes], context: Any) -> bytes:
        return str(sum([int(each) async for each in requests])).encode()

    async def _echo(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        async for each in requests:
            yield each


@asynccontextmanager
async def serving(
    count: int = 3, **more: Any
) -> AsyncIterator[tuple[list[Grpc], MeshChannel, Notebook]]:
    """Instances, and a channel to them."""
    made = [Grpc(f"api-eu-{n}", f"127.0.1.{n}") for n in range(1, count + 1)]
    async with AsyncExitStack() as stack:
        for each in made:
            await each.start()
            stack.push_async_callback(each.stop)
        names = await stack.enter_async_context(answering(*(each.place for each in made)))
        notebook, more = Notebook(), {"strategy": Strategy.ROUND_ROBIN, **more}
        under_test = channel(NAME, dns=names.address, report=notebook, **more)
        yield made, await stack.enter_async_context(under_test), notebook


async def ask(spread: MeshChannel, request: str = "", timeout_s: float = 10.0) -> str:
    reply: bytes = await spread.unary_unary("/Who/Ask")(request.encode(), timeout=timeout_s)
    return reply.decode()


async def status(call: Any) -> str:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call
    return str(refused.value.code().name)


async def test_calls_are_spread() -> None:
    async with serving() as (_, spread, notebook):
        found = Counter([await ask(spread) for _ in range(9)])
        assert set(found.values()) == {3}
        assert {what for what, _ in notebook.lines} == {"began", "OK"}


async def test_generated_stubs_work_on_it() -> None:
    async with serving() as (_, spread, _):
        stub = health_pb2_grpc.HealthStub(spread)
        reply = await stub.Check(health_pb2.HealthCheckRequest(), timeout=10)
        assert reply.status == health_pb2.HealthCheckResponse.SERVING
        call = stub.Watch(health_pb2.HealthCheckRequest(), timeout=10)
        assert (await call.read()).status == health_pb2.HealthCheckResponse.SERVING
        call.cancel()


async def test_who_cannot_be_connected_to_is_passed_by(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving() as (made, spread, notebook):
        await made[0].stop()
        with monkeypatch.context() as patched:
            # Who refuses is not waited for.
            patched.setattr(meshd.client.grpc, "_CONNECT_S", 60.0)
            async with asyncio.timeout(20):
                assert {await ask(spread) for _ in range(9)} == {"api-eu-2", "api-eu-3"}
        assert ("CONNECT_ERROR", "api-eu-1") in notebook.lines
        for each in made[1:]:
            await each.stop()
        assert await status(ask(spread)) == "UNAVAILABLE"
        await made[0].start()
        async with asyncio.timeout(30):
            while True:
                try:
                    assert await ask(spread) == "api-eu-1"
                except grpc.aio.AioRpcError:
                    await asyncio.sleep(0.1)
                else:
                    return


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("NOT_FOUND", "OK"),
        ("INTERNAL", "FAILURE"),
        ("UNAVAILABLE", "FAILURE"),
        ("RESOURCE_EXHAUSTED", "FAILURE"),
        ("INVALID_ARGUMENT", "OK"),
    ],
)
async def test_what_a_status_says_of_an_instance(code: str, told: str) -> None:
    async with serving() as (made, spread, notebook):
        assert await status(ask(spread, code)) == code
        assert [what for what, _ in notebook.lines] == ["began", told]
        assert sum(len(each.asked) for each in made) == 1


async def test_time_outs_and_calls_given_up() -> None:
    async with serving(1) as (_, spread, notebook):
        assert await status(ask(spread, "hangs", timeout_s=0.5)) == "DEADLINE_EXCEEDED"
        assert notebook.lines[-1] == ("TIMEOUT", "api-eu-1")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await ask(spread, "hangs")
        assert notebook.lines[-1] == ("ended", "api-eu-1")


async def test_what_is_idempotent_goes_elsewhere() -> None:
    async with serving(idempotent=True) as (made, spread, _):
        made[0].mood = "UNAVAILABLE"
        assert {await ask(spread) for _ in range(9)} == {"api-eu-2", "api-eu-3"}
        assert made[0].asked
        for each in made:
            each.mood = "UNAVAILABLE"
        assert await status(ask(spread)) == "UNAVAILABLE"


async def test_streams() -> None:
    async def numbers() -> AsyncIterator[bytes]:
        for each in (b"1", b"2", b"3"):
            yield each

    async with serving(2) as (_, spread, notebook):
        counted = [each async for each in spread.unary_stream("/Who/Count")(b"3", timeout=10)]
        assert len(counted) == 3
        assert len(set(counted)) == 1
        assert await spread.stream_unary("/Who/Sum")(numbers(), timeout=10) == b"6"
        call = spread.stream_stream("/Who/Echo")(timeout=10)
        await call.write(b"a")
        assert await call.read() == b"a"
        await asyncio.sleep(0.5)
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF
        await until("all are settled", lambda: len(notebook.lines) == 6)
        told = Counter(what for what, _ in notebook.lines)
        assert told == {"began": 3, "OK": 3}
        # How long a stream lasts is not its latency.
        assert notebook.latencies_s[-1] < 0.5
        call = spread.stream_stream("/Who/Echo")(timeout=10)
        call.cancel()
        await until("it is settled", lambda: notebook.lines[-1][0] == "ended")
        assert [slot.uses for slot in spread.kept._slots.values()] == [0, 0]


async def test_a_stream_that_finds_no_connection_tells_so() -> None:
    async with serving(2) as (made, spread, notebook):
        await made[0].stop()
        await made[1].stop()
        call = spread.unary_stream("/Who/Count")(b"3", timeout=10)
        assert await status(call.read()) == "UNAVAILABLE"
        await until("it is told", lambda: len(notebook.lines) == 2)
        assert notebook.lines[-1][0] == "CONNECT_ERROR"


async def test_channels_go_with_their_instance() -> None:
    async with AsyncExitStack() as stack:
        made = [Grpc(f"api-eu-{n}", f"127.0.1.{n}") for n in (1, 2)]
        for each in made:
            await each.start()
            stack.push_async_callback(each.stop)
        names = await stack.enter_async_context(answering(*(each.place for each in made)))
        under_test = channel(NAME, dns=names.address, strategy=Strategy.ROUND_ROBIN)
        spread = await stack.enter_async_context(under_test)
        assert {await ask(spread) for _ in range(4)} == {"api-eu-1", "api-eu-2"}
        names.put(made[1].place)
        await until("its channel is gone", lambda: len(spread.kept) == 1)
        assert {await ask(spread) for _ in range(4)} == {"api-eu-2"}


async def test_tls_is_spoken_as_the_service(tmp_path: Path) -> None:
    key, cert = certificate(tmp_path)
    pair = ((key.read_bytes(), cert.read_bytes()),)
    made = Grpc("api-eu-1", "127.0.1.1", credentials=grpc.ssl_server_credentials(pair))
    await made.start()
    trusting = grpc.ssl_channel_credentials(cert.read_bytes())
    try:
        async with (
            answering(made.place) as names,
            channel(NAME, dns=names.address, credentials=trusting) as spread,
        ):
            assert await ask(spread) == "api-eu-1"
    finally:
        await made.stop()
