"""A core in this process for tests: its parts over the memory store, served on a unix socket."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest

from meshd.core.model import Force, Override
from meshd.core.topology import Kind
from meshd.core.verdict import Verdict
from meshd.daemon.observed import Observed
from meshd.daemon.pump import Pump, snapshot_of
from meshd.daemon.server import Server, start_server
from meshd.daemon.state import State
from meshd.daemon.store.memory import MemoryStore
from meshd.v1 import (
    records_pb2,
    registry_pb2,
    registry_pb2_grpc,
    resolver_pb2_grpc,
    rollout_pb2_grpc,
    topology_pb2,
    topology_pb2_grpc,
)
from meshd.wire.messages import record_to_message

DOCUMENT = (Path(__file__).parent.parent.parent / "examples/quickstart/mesh.yaml").read_text()


@dataclass
class Core:
    """A core: its parts, and stubs that reach it over a unix socket."""

    store: MemoryStore
    state: State
    pump: Pump
    address: str
    server: Server
    channel: grpc.aio.Channel

    def __post_init__(self) -> None:
        self.topology = topology_pb2_grpc.TopologyStub(self.channel)
        self.resolver = resolver_pb2_grpc.ResolverStub(self.channel)
        self.registry = registry_pb2_grpc.RegistryStub(self.channel)
        self.rollouts = rollout_pb2_grpc.RolloutsStub(self.channel)

    async def apply(self, document: str = DOCUMENT, **more: Any) -> Any:
        request = topology_pb2.ApplyRequest(document=document, author="test", **more)
        return await self.topology.Apply(request, timeout=5)

    async def force(
        self, name: str, force: Force | None, *, is_forced: bool = False, **more: Any
    ) -> int:
        """Put an override, or clear it; returns the revision."""
        edit = topology_pb2.Edit(kind=Kind.OVERRIDES, name=name, **more)
        if force is not None:
            edit.record.CopyFrom(record_to_message(Override(name, force)))
        request = topology_pb2.CommitRequest(edits=[edit], author="test", force=is_forced)
        return int((await self.topology.Commit(request, timeout=5)).revision)

    async def register(self, name: str = "api-eu-9", **more: Any) -> "Process":
        """A process that is registered."""
        process = Process(self, name)
        await process.hello(**more)
        return process

    async def serve(self) -> None:
        """Serve again after `server.stop`."""
        self.server = await start_server([self.address], self.store, self.state, self.pump)

    def verdict(self, name: str = "api-eu-9") -> Verdict | None:
        """The verdict on an instance now; None if there is none."""
        snapshot = self.state.snapshot
        instance = snapshot.topology.instances.get(name)
        return snapshot.verdict(instance) if instance else None


@dataclass
class Process:
    """A process that registers, speaking by hand, so that it can be silent and wrong."""

    core: Core
    name: str
    welcome: Any = None
    call: Any = field(init=False)

    def __post_init__(self) -> None:
        self.call = self.core.registry.Register()

    async def hello(self, lease_s: float = 1.0, epoch: int = 0, **more: Any) -> None:
        """Say hello; more is of the instance."""
        told = {"service": "api", "version": "1.2.0", "addresses": ["10.1.0.99"], **more}
        instance = records_pb2.Instance(**{"name": self.name, **told})
        said = registry_pb2.Hello(instance=instance, lease_s=lease_s, epoch=epoch)
        await self.say(hello=said)
        self.welcome = (await self.hear()).welcome

    async def beat(self, load: float | None = None, **more: Any) -> Any:
        """Beat, and what is answered."""
        await self.say(beat=registry_pb2.Heartbeat(load=load, **more))
        return (await self.hear()).beaten

    async def say(self, **said: Any) -> None:
        await self.call.write(registry_pb2.RegisterRequest(**said))

    async def hear(self) -> Any:
        async with asyncio.timeout(10):
            return await self.call.read()

    async def leave(self) -> None:
        """Leave, and wait for the end of the stream."""
        await self.say(leave=registry_pb2.Leave())
        assert await self.call.code() is grpc.StatusCode.OK

    def vanish(self) -> None:
        """End as a crash would."""
        self.call.cancel()


@asynccontextmanager
async def core(path: Path, hold_down_s: float = 30.0) -> AsyncIterator[Core]:
    store = MemoryStore()
    state = State(*snapshot_of(await store.load()))
    pump = Pump(store, state, Observed(hold_down_s=hold_down_s))
    address = f"unix:{path}/core.sock"
    server = await start_server([address], store, state, pump)
    work = [
        asyncio.create_task(each)
        for each in (
            store.run(),
            pump.run_store(),
            pump.run_signals(),
            pump.run_ticks(),
            server.rollouts.advancing.run(),
        )
    ]
    channel = grpc.aio.insecure_channel(address)
    made = Core(store, state, pump, address, server, channel)
    try:
        yield made
    finally:
        await channel.close()
        await made.server.stop(0)
        for task in work:
            task.cancel()
        await asyncio.gather(*work, return_exceptions=True)
        await store.close()


async def until(what: str, check: Callable[[], bool]) -> None:
    try:
        async with asyncio.timeout(10):
            while not check():  # noqa: ASYNC110 - what is waited for has no event
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"not seen: {what}") from None


async def code_of(call: Any) -> tuple[str, str]:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call
    return refused.value.code().name, refused.value.details() or ""
