"""The store in etcd by size: keys and bytes, loading, a change on its way, the core's memory."""

import asyncio
import json
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from statistics import median, quantiles

import grpc
from rich.console import Console
from rich.table import Table

from meshd.core.model import (
    Instance,
    NameServer,
    Pop,
    Port,
    Prefix,
    Presence,
    Range,
    Record,
    Service,
    Zone,
)
from meshd.core.selector import Version
from meshd.core.topology import kind_of
from meshd.daemon.settings import EtcdSettings
from meshd.daemon.store.base import Author, Batch, Put, Write
from meshd.daemon.store.etcd import EtcdStore
from meshd.v1 import topology_pb2, topology_pb2_grpc
from meshd.wire.records import key_of, value_of
from tests.bench.measure import Row
from tests.servers.etcd import Etcd, program
from tests.servers.processes import Meshd, wait_until

_SIZES = (1_000, 10_000, 100_000)
_IN_SERVICE = 50
_POPS = ("eu", "us", "ap")
_BATCH = 500
_CHANGES = 200
_EVERY_S = 0.02
_READY_S = 120.0
_PROMISED_MS = 500
_AUTHOR = Author("bench", "sizing")
_COLUMNS = (
    "instances", "keys", "bytes/record", "etcd db", "load", "core ready", "core", "answerer",
    "store p50", "p99", "answerer p50", "p99",
)  # fmt: skip


@dataclass(frozen=True)
class Sizing:
    """What one size needs; times in seconds, memory and disk in bytes."""

    instances: int
    keys: int
    record_bytes: float
    db_bytes: int
    load_s: float
    ready_s: float
    core_bytes: int
    answerer_bytes: int
    # From the start of a commit until a follower of the store has it, and one of the core.
    at_store_s: Sequence[float]
    at_core_s: Sequence[float]


def etcd_rows(seconds: float, folder: Path) -> list[Row]:
    """Each size on an etcd of its own; prints the whole table."""
    if program("etcd") is None or program("etcdctl") is None:
        raise RuntimeError("skipped: etcd-server and etcd-client are not installed")
    found = [measure(count, folder / str(count)) for count in _SIZES]
    _print(found)
    return list(map(_row, found))


def measure(count: int, folder: Path) -> Sizing:
    """One size: etcd, a core with one answerer on it, and changes that both followers see."""
    with ExitStack() as stack:
        etcd = Etcd(folder / "etcd")
        stack.callback(etcd.stop)
        etcd.start_ready()
        settings = EtcdSettings(endpoints=etcd.endpoints)
        asyncio.run(_fill(settings, records(count)))
        keys, value_bytes, load_s = asyncio.run(_load(settings))
        meshd = Meshd(folder, 1, "--store", "etcd", "--etcd", ",".join(etcd.endpoints))
        stack.callback(meshd.stop)
        began = time.perf_counter()
        meshd.start()
        wait_until("meshd is ready", meshd.is_ready, _READY_S)
        ready_s = time.perf_counter() - began
        at_store_s, at_core_s = asyncio.run(_lags(settings, meshd.grpc, count))
        return Sizing(
            count,
            keys,
            value_bytes / keys,
            _db_bytes(etcd),
            load_s,
            ready_s,
            _resident(meshd.core_pid),
            _resident(meshd.answerer_pids[0]),
            at_store_s,
            at_core_s,
        )


def records(count: int) -> Iterator[Record]:
    """Services of 50 instances that registered themselves, in three Pops with a Range each."""
    yield Zone("bench.", (NameServer("ns.bench.", (IPv4Address("127.0.0.1"),)),), "ops@bench")
    yield from map(Pop, _POPS)
    for number, pop in enumerate(_POPS):
        yield Range(Prefix(4, (10 << 24) + (number << 16), 16), pop)
    for number in range(count // _IN_SERVICE):
        yield Service(f"s{number}", f"s{number}.bench.", (Port("http", 8080),))
    for number in range(count):
        yield instance(number, count)
        yield Presence(f"i{number}", 1)


def instance(number: int, count: int, version: str = "1.2.0") -> Instance:
    """One instance of `count`."""
    service = f"s{number % (count // _IN_SERVICE)}"
    address = IPv4Address((10 << 24) + number + 1)
    return Instance(
        f"i{number}",
        service,
        Version(version),
        _POPS[number % 3],
        (address,),
        registered=True,
        epoch=1,
    )


def _put(record: Record) -> Put:
    return Put(key_of(kind_of(record), record.name), value_of(record))


async def _fill(settings: EtcdSettings, made: Iterable[Record]) -> None:
    store = EtcdStore(settings)
    try:
        await store.load()
        writes: list[Write] = list(map(_put, made))
        for at in range(0, len(writes), _BATCH):
            await store.commit(writes[at : at + _BATCH], _AUTHOR)
    finally:
        await store.close()


async def _load(settings: EtcdSettings) -> tuple[int, int, float]:
    """Keys, bytes in them and their values, and seconds for a whole load."""
    store = EtcdStore(settings)
    try:
        took = []
        for _ in range(3):
            began = time.perf_counter()
            contents = await store.load()
            took.append(time.perf_counter() - began)
    finally:
        await store.close()
    size = sum(len(item.key) + len(item.value) for item in contents.items)
    return len(contents.items), size, median(took)


async def _lags(settings: EtcdSettings, core: str, count: int) -> tuple[list[float], list[float]]:
    """How long changes take to a follower of the store, and to one of a core."""
    writer, reader = EtcdStore(settings), EtcdStore(settings)
    began: dict[str, float] = {}
    at_store: list[float] = []
    at_core: list[float] = []
    try:
        revision = (await reader.load()).revision
        await writer.load()
        async with grpc.aio.insecure_channel(core) as channel, asyncio.TaskGroup() as tasks:
            has_begun = asyncio.Event()
            tasks.create_task(_watch_store(reader, revision, began, at_store))
            tasks.create_task(_watch_core(channel, has_begun, began, at_core))
            await has_begun.wait()
            for number in range(_CHANGES):
                changed = instance(number, count, "1.2.1")
                began[changed.name] = time.perf_counter()
                await writer.commit([_put(changed)], _AUTHOR)
                await asyncio.sleep(_EVERY_S)
    finally:
        await writer.close()
        await reader.close()
    return at_store, at_core


async def _watch_store(
    store: EtcdStore, revision: int, began: dict[str, float], took: list[float]
) -> None:
    batch: Batch
    async for batch in store.follow(revision):
        now = time.perf_counter()
        names = [change.key.removeprefix("instances/") for change in batch.changes]
        took += [now - began[name] for name in names if name in began]
        if len(took) == _CHANGES:
            return


async def _watch_core(
    channel: grpc.aio.Channel,
    has_begun: asyncio.Event,
    began: dict[str, float],
    took: list[float],
) -> None:
    stub = topology_pb2_grpc.TopologyStub(channel)
    async for event in stub.Follow(topology_pb2.FollowRequest(node="bench")):
        if event.HasField("end"):
            has_begun.set()
        now = time.perf_counter()
        took += [now - began[edit.name] for edit in event.changes.edits if edit.name in began]
        if len(took) == _CHANGES:
            return


def _db_bytes(etcd: Etcd) -> int:
    (status,) = json.loads(etcd.etcdctl("endpoint", "status", "-w", "json"))
    return int(status["Status"]["dbSize"])


def _resident(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) << 10


def _cuts_ms(took: Sequence[float]) -> tuple[float, float]:
    cuts = quantiles(took, n=100)
    return cuts[49] * 1000, cuts[98] * 1000


def _row(found: Sizing) -> Row:
    p50, p99 = _cuts_ms(found.at_core_s)
    detail = f"p50 {p50:.0f} ms, p99 {p99:.0f} ms of {_CHANGES} changes"
    name = f"{found.instances // 1000} k instances in etcd: change at answerers, p99 : 500 ms"
    return Row(name, p99 / _PROMISED_MS, "<= 1", p99 <= _PROMISED_MS, detail)


def _print(sizings: Iterable[Sizing]) -> None:
    table = Table(*_COLUMNS)
    for found in sizings:
        lags = [f"{each:.1f} ms" for took in (found.at_store_s, found.at_core_s)
                for each in _cuts_ms(took)]  # fmt: skip
        table.add_row(
            f"{found.instances:,}",
            f"{found.keys:,}",
            f"{found.record_bytes:.0f}",
            f"{found.db_bytes / (1 << 20):.1f} MiB",
            f"{found.load_s:.2f} s",
            f"{found.ready_s:.1f} s",
            f"{found.core_bytes / (1 << 20):.0f} MiB",
            f"{found.answerer_bytes / (1 << 20):.0f} MiB",
            *lags,
        )
    Console(width=160).print(table)
