"""Several cores in this process over one memory store, each at its own port on loopback.

What one core tells another goes through a wire that can be cut, or made deaf.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from itertools import permutations
from pathlib import Path

import grpc

from meshd.core.guard import STRICT, Guard
from meshd.core.signals import NO_SIGNAL, Signal
from meshd.daemon.duties import Duties
from meshd.daemon.exchange import Exchange
from meshd.daemon.members import PREFIX, Members
from meshd.daemon.node import OwnState
from meshd.daemon.observed import Observed
from meshd.daemon.probes.prober import Prober
from meshd.daemon.pump import Pump, snapshot_of
from meshd.daemon.rpc.cluster import Cluster
from meshd.daemon.server import start_server
from meshd.daemon.settings import CoreSettings
from meshd.daemon.state import State
from meshd.daemon.store.base import Batch, Contents
from meshd.daemon.store.memory import MemoryStore
from meshd.v1.cluster_pb2 import Node
from tests.daemon.cores import Core, until
from tests.servers.processes import free_port
from tests.tcp import Relay

LEASE_S = 10.0


class Wire(Relay):
    """Hands connections to a port of this host, as long as it is not cut or deaf."""

    def __init__(self, to: int) -> None:
        super().__init__(("127.0.0.1", to))
        self._hears = asyncio.Event()
        self._hears.set()

    async def asked(self, data: bytes) -> bytes:
        await self._hears.wait()
        return data

    async def answered(self, data: bytes) -> bytes:
        await self._hears.wait()
        return data

    def cut(self) -> None:
        """End all connections, and take no more."""
        self.is_cut = True
        self.reset()

    def deafen(self) -> None:
        """Hold everything up."""
        self._hears.clear()

    def heal(self) -> None:
        self.is_cut = False
        self._hears.set()


@dataclass
class Several:
    """Cores by name, and the wires between them: (who tells, whom)."""

    store: MemoryStore
    cores: dict[str, "Member"] = field(default_factory=dict)
    wires: dict[tuple[str, str], Wire] = field(default_factory=dict)

    def __iter__(self) -> Iterator["Member"]:
        return iter(self.cores.values())

    def between(self, name: str) -> list[Wire]:
        """The wires from and to a core."""
        return [wire for pair, wire in self.wires.items() if name in pair]

    def wire(self, by: str, to: Node) -> str:
        """The address at which a core reaches another."""
        return f"127.0.0.1:{self.wires[by, to.name].port}" if to.name in self.cores else to.address

    @property
    def is_settled(self) -> bool:
        """True if all know of all, and share the duties."""
        names = tuple(sorted(each.name for each in self.running))
        return all(each.pump.observed.duties.able == names for each in self.running)

    @property
    def are_equal(self) -> bool:
        """True if all have the same signals at the same revision."""
        topologies = {each.state.snapshot.topology.revision for each in self.running}
        first, *others = [each.signals() for each in self.running]
        return len(topologies) == 1 and all(first == other for other in others)

    @property
    def running(self) -> list["Member"]:
        """Those that were not killed."""
        return [each for each in self if each.is_running]

    def decider(self, service: str) -> "Member":
        """The core that decides on a service."""
        return self.cores[self.running[0].pump.observed.duties.decider(service)]


@dataclass(kw_only=True)
class Member(Core):
    """One of several cores."""

    name: str
    members: Members
    exchange: Exchange
    prober: Prober
    work: list[asyncio.Task[None]]
    is_running: bool = True

    def signals(self) -> dict[str, Signal]:
        """What is known of each instance, swapped in."""
        known = self.state.snapshot.signals
        names = self.state.snapshot.topology.instances
        return {name: known.get(name, NO_SIGNAL) for name in names}

    async def kill(self) -> None:
        """End as a crash would, for the others."""
        self.is_running = False
        assert not any(task.done() for task in self.work), self.work
        for task in self.work:
            task.cancel()
        await asyncio.gather(*self.work, return_exceptions=True)
        await self.channel.close()
        await self.server.stop(0)


@asynccontextmanager
async def several(
    path: Path, names: Sequence[str] = ("a", "b", "c"), guard: Guard | None = None
) -> AsyncIterator[Several]:
    """Cores that know of each other."""
    made = Several(MemoryStore())
    ports = {name: free_port() for name in names}
    made.wires = {(by, to): Wire(ports[to]) for by, to in permutations(names, 2)}
    for wire in made.wires.values():
        await wire.start()
    run = asyncio.create_task(made.store.run())
    try:
        for name in names:
            made.cores[name] = await start(made, path, name, ports[name], guard)
        await until("all know of all", lambda: made.is_settled)
        yield made
    finally:
        for member in made.running:
            await member.kill()
        for wire in made.wires.values():
            await wire.end()
        run.cancel()
        await asyncio.gather(run, return_exceptions=True)
        await made.store.close()


async def start(
    among: Several, path: Path, name: str, port: int, guard: Guard | None = None
) -> Member:
    """One more core, or one that comes back; with a guard it probes."""
    store = among.store
    contents = await store.load()
    state = State(*snapshot_of(contents))
    observed = Observed.resume(state.snapshot, Duties(name, 2))
    pump = Pump(store, state, observed)
    own = Node(name=name, address=f"127.0.0.1:{port}", version="1", session=f"{name} {time.time()}")
    members = Members(store, own, lease_s=LEASE_S)
    pump.on_batch = lambda batch: members.changed(_rewired(among, name, batch))
    pump.on_load = lambda contents: members.loaded(_rewired_whole(among, name, contents))
    pump.begin(contents)
    settings = CoreSettings(node=name, data=path, grpc=own.address, http="127.0.0.1:0")
    prober = Prober(state, pump, settings, guard or STRICT)
    exchange = Exchange(state, pump, members, OwnState(state, pump, prober, lambda: 0))
    cluster = Cluster(state, exchange, "memory")
    address = own.address
    server = await start_server([address], store, state, pump, guard or STRICT, cluster)
    loops = [
        pump.reach.run(store),
        pump.run_store(),
        pump.run_signals(),
        pump.run_ticks(),
        server.rollouts.advancing.run(),
        members.run(),
        exchange.run(),
    ]
    if guard is not None:
        loops.append(prober.run())
    work = [asyncio.create_task(each) for each in loops]
    channel = grpc.aio.insecure_channel(address)
    return Member(
        store, state, pump, address, server, channel,
        name=name, members=members, exchange=exchange, prober=prober, work=work,
    )  # fmt: skip


def _rewired(among: Several, by: str, batch: Batch) -> Batch:
    """A batch as a core sees it for whom others are at the ends of wires."""
    changes = [
        replace(change, value=_through(among, by, change.key, change.value))
        for change in batch.changes
    ]
    return replace(batch, changes=tuple(changes))


def _rewired_whole(among: Several, by: str, contents: Contents) -> Contents:
    items = [
        replace(item, value=_through(among, by, item.key, item.value)) for item in contents.items
    ]
    return replace(contents, items=tuple(items))


def _through(among: Several, by: str, key: str, value: bytes | None) -> bytes:
    if value is None or not key.startswith(PREFIX):
        return value  # type: ignore[return-value]
    node = Node.FromString(value)
    if (by, node.name) in among.wires:
        node.address = f"127.0.0.1:{among.wires[by, node.name].port}"
    return node.SerializeToString()
