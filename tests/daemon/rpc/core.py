"""A core in this process over the memory store, with stubs that reach it over a real socket."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest

from meshd.core.model import Force, Override
from meshd.core.topology import Kind
from meshd.daemon.pump import Pump, snapshot_of
from meshd.daemon.server import start_server
from meshd.daemon.state import State
from meshd.daemon.store.memory import MemoryStore
from meshd.v1 import resolver_pb2_grpc, topology_pb2, topology_pb2_grpc
from meshd.wire.messages import record_to_message

DOCUMENT = """
zones: {mesh.internal: {ns: [{ns1.mesh.internal: [127.0.0.1]}], contact: a@mesh.internal}}
pops: {eu: {}, us: {}}
ranges: {10.1.0.0/16: eu, 10.2.0.0/16: us}
services:
  api: {name: api.mesh.internal, ports: {http: 80/tcp}, ttl: {min: 2, max: 40}}
  old: {name: old.mesh.internal, ports: {http: 80/tcp}}
instances:
  api-eu-1: {service: api, version: 1.2.0, pop: eu, address: 10.1.0.1}
  api-eu-2: {service: api, version: 1.2.0, pop: eu, address: 10.1.0.2}
  api-us-1: {service: api, version: 1.2.0, pop: us, address: 10.2.0.1}
  api-us-2: {service: api, version: 1.2.0, pop: us, address: 10.2.0.2}
  old-1: {service: old, version: 1.0.0, pop: us, address: 10.2.0.9}
"""


@dataclass
class Core:
    """Its parts, and what is asked of it."""

    store: MemoryStore
    state: State
    pump: Pump
    channel: grpc.aio.Channel

    def __post_init__(self) -> None:
        self.topology = topology_pb2_grpc.TopologyStub(self.channel)
        self.resolver = resolver_pb2_grpc.ResolverStub(self.channel)

    async def force(self, name: str, force: Force | None, **more: Any) -> int:
        """Put an override, or clear it; returns the revision."""
        is_forced = more.pop("is_forced", False)
        edit = topology_pb2.Edit(kind=Kind.OVERRIDES, name=name, **more)
        if force is not None:
            edit.record.CopyFrom(record_to_message(Override(name, force)))
        request = topology_pb2.CommitRequest(edits=[edit], author="test", force=is_forced)
        return int((await self.topology.Commit(request, timeout=5)).revision)

    def verdict(self, name: str) -> str:
        """The verdict that counts now."""
        snapshot = self.state.snapshot
        return snapshot.verdict(snapshot.topology.instances[name])


@asynccontextmanager
async def core(path: Path, document: str = DOCUMENT) -> AsyncIterator[Core]:
    """A core with a document applied."""
    store = MemoryStore()
    state = State(*snapshot_of(await store.load()))
    pump = Pump(store, state)
    address = f"unix:{path}/core.sock"
    server = await start_server([address], store, state, pump)
    runs = (store.run(), pump.run_store(), pump.run_signals())
    work = [asyncio.create_task(each) for each in runs]
    try:
        async with grpc.aio.insecure_channel(address) as channel:
            made = Core(store, state, pump, channel)
            request = topology_pb2.ApplyRequest(document=document, author="test")
            await made.topology.Apply(request, timeout=5)
            yield made
    finally:
        await server.stop(0)
        for task in work:
            task.cancel()
        await asyncio.gather(*work, return_exceptions=True)
        await store.close()


async def until(what: str, check: Callable[[], bool]) -> None:
    """Wait until `check` holds."""
    try:
        async with asyncio.timeout(10):
            while not check():  # noqa: ASYNC110 - what is waited for has no event
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"not seen: {what}") from None


async def code_of(call: Any) -> tuple[str, str]:
    """The code and the details that a call fails with."""
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call
    return refused.value.code().name, refused.value.details() or ""
