"""Several cores over one store, each served on a unix socket."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from meshd.core.snapshot import Snapshot
from meshd.core.topology import Topology
from meshd.daemon.gate import Gate
from meshd.daemon.pump import Pump, snapshot_of
from meshd.daemon.server import Server, start_server
from meshd.daemon.state import State
from meshd.v1 import topology_pb2, topology_pb2_grpc
from tests.daemon.cores import DOCUMENT
from tests.daemon.stores import FaultyStore


@dataclass
class Core:
    """A core that serves, and stubs."""

    state: State
    pump: Pump
    server: Server
    channel: grpc.aio.Channel
    address: str

    @property
    def topology(self) -> Any:
        return topology_pb2_grpc.TopologyStub(self.channel)

    async def apply(self, document: str = DOCUMENT, **more: Any) -> Any:
        request = topology_pb2.ApplyRequest(document=document, author="test", **more)
        return await self.topology.Apply(request, timeout=10)

    def most(self) -> int:
        return self.state.snapshot.topology.services["api"].max_answers


@asynccontextmanager
async def core(
    path: Path, store: FaultyStore, name: str = "a", *, is_empty: bool = False
) -> AsyncIterator[Core]:
    if is_empty:
        state = State(Snapshot.build(Topology()), 0)
        pump = Pump(store, state)
    else:
        contents = await store.load()
        state = State(*snapshot_of(contents))
        pump = Pump(store, state)
        pump.begin(contents)
    pump.following.relist_s = 600
    address = f"unix:{path / name}.sock"
    server = await start_server([address], Gate(store, pump, 1.0), state, pump)
    work = [
        asyncio.create_task(each)
        for each in (
            pump.run_store(),
            pump.run_signals(),
            pump.reach.run(store),
            server.tell_health(state),
        )
    ]
    try:
        async with grpc.aio.insecure_channel(address) as channel:
            yield Core(state, pump, server, channel, address)
    finally:
        await server.stop(0)
        for task in work:
            task.cancel()
        await asyncio.gather(*work, return_exceptions=True)
