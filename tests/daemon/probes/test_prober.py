"""The prober with a real pump, state and memory store, and real listeners on loopback."""

import asyncio
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import grpc
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from meshd.core.guard import STRICT, Guard
from meshd.core.model import Check, Force, Instance, Override, Port, Record, Service
from meshd.core.selector import Version
from meshd.core.signals import Signal
from meshd.core.topology import Kind, kind_of
from meshd.core.verdict import Verdict
from meshd.daemon.probes.own import guard_of, is_local
from meshd.daemon.probes.prober import Prober
from meshd.daemon.pump import Pump, snapshot_of
from meshd.daemon.server import start_server
from meshd.daemon.settings import CoreSettings, ProbeSettings
from meshd.daemon.state import State
from meshd.daemon.store.base import Author, Delete, Put
from meshd.daemon.store.memory import MemoryStore
from meshd.v1 import records_pb2, registry_pb2, registry_pb2_grpc, topology_pb2, topology_pb2_grpc
from meshd.wire.messages import record_to_message
from meshd.wire.records import key_of, value_of
from tests.servers.processes import Meshd, free_port, wait_until
from tests.tcp import TcpServer

LOOPBACK = Guard((ip_network("127.0.0.0/8"),))


@dataclass
class Listener:
    """An HTTP server on every loopback address that says what it is told, and counts."""

    port: int = 0
    status: int = 200
    requests: int = 0
    paths: list[str] = field(default_factory=list)
    at: list[float] = field(default_factory=list)
    # Cleared: whoever asks waits.
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.requests += 1
        self.at.append(asyncio.get_running_loop().time())
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            self.paths.append(head.split()[1].decode())
            await self.gate.wait()
            writer.write(b"HTTP/1.1 %d x\r\nContent-Length: 0\r\n\r\n" % self.status)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass


@asynccontextmanager
async def listener(host: str = "0.0.0.0") -> AsyncIterator[Listener]:
    made = Listener()
    made.gate.set()
    async with TcpServer(made.talk, host) as port:
        made.port = port.port
        yield made
        made.gate.set()


@dataclass
class Core:
    store: MemoryStore
    state: State
    pump: Pump
    prober: Prober

    async def put(self, *records: Record) -> None:
        """Write as another core would: nothing is looked at."""
        writes = [Put(key_of(kind_of(r), r.name), value_of(r)) for r in records]
        revision = await self.store.commit(writes, Author("test", "put"))
        await self.state.reached(revision)

    async def delete(self, kind: Kind, name: str) -> None:
        revision = await self.store.commit([Delete(key_of(kind, name))], Author("test", "delete"))
        await self.state.reached(revision)

    def verdict(self, name: str = "web-1") -> Verdict:
        snapshot = self.state.snapshot
        return snapshot.verdict(snapshot.topology.instances[name])

    def metrics(self) -> str:
        registry = CollectorRegistry()
        registry.register(self.prober.metrics)
        return generate_latest(registry).decode()


@asynccontextmanager
async def core(
    guard: Guard = LOOPBACK, *records: Record, signals: dict[str, Signal] | None = None, **more: Any
) -> AsyncIterator[Core]:
    store = MemoryStore()
    if records:
        writes = [Put(key_of(kind_of(r), r.name), value_of(r)) for r in records]
        await store.commit(writes, Author("test", "before"))
    snapshot, revision = snapshot_of(await store.load())
    state = State(snapshot.advance(signals=signals or {}), revision)
    pump = Pump(store, state)
    settings = CoreSettings(
        node="one", data=Path("unused"), grpc="127.0.0.1:1", http="127.0.0.1:2",
        probes=ProbeSettings(**more),
    )  # fmt: skip
    prober = Prober(state, pump, settings, guard)
    runs = (store.run(), pump.run_store(), pump.run_signals(), pump.run_ticks(), prober.run())
    work = [asyncio.create_task(each) for each in runs]
    try:
        yield Core(store, state, pump, prober)
        assert not [task for task in work if task.done()], "a task of the core ended"
    finally:
        for task in work:
            task.cancel()
        await asyncio.gather(*work, return_exceptions=True)
        await store.close()


async def until(what: str, check: Callable[[], bool], timeout_s: float = 20.0) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            while not check():  # noqa: ASYNC110 - what is waited for has no event
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"not seen: {what}") from None


def web(port: int, check: Check | None, name: str = "web") -> Service:
    return Service(name, f"{name}.mesh.internal.", (Port("http", port),), check=check)


def http(every_s: float, **more: Any) -> Check:
    return Check("http", "/healthz", every_s=every_s, timeout_s=min(every_s, 10.0), **more)


def at(address: str, name: str = "web-1", service: str = "web", **more: Any) -> Instance:
    return Instance(name, service, Version("1.0"), "eu", (ip_address(address),), **more)


async def test_the_way_down_and_up_again() -> None:
    seen: list[Verdict] = []

    async def watch(made: Core) -> None:
        while True:
            await made.state.moved()
            if made.verdict() not in seen[-1:]:
                seen.append(made.verdict())

    async with listener() as server, core() as made:
        # In one commit, as a document makes it: it is not up before it was probed.
        server.gate.clear()
        await made.put(web(server.port, http(2.0, rise=4, fall=4)), at("127.0.0.1"))
        seen.append(made.verdict())
        watching = asyncio.create_task(watch(made))
        server.gate.set()
        await until("up", lambda: made.verdict() is Verdict.UP)
        assert made.prober.reason("web-1") == ""
        server.status = 503
        await until("down", lambda: made.verdict() is Verdict.DOWN)
        assert made.prober.reason("web-1") == "status 503"
        server.status = 200
        await until("up again", lambda: made.verdict() is Verdict.UP)
        watching.cancel()
        text = made.metrics()
    assert seen == [
        Verdict.RECOVERING, Verdict.UP, Verdict.FAILING, Verdict.DOWN, Verdict.RECOVERING,
        Verdict.UP,
    ]  # fmt: skip
    passed = 'meshd_probes_total{kind="http",outcome="passed"}'
    assert passed in text
    assert 'meshd_probes_total{kind="http",outcome="status"}' in text
    assert 'meshd_probe_seconds_count{kind="http"}' in text
    assert "meshd_probes_refused 0.0" in text


async def test_a_crash_is_down_in_about_an_interval() -> None:
    """With fall 3 and an interval of 20 s: one interval and two eighths, not three."""
    async with listener() as server, core() as made:
        await made.put(web(server.port, http(20.0, fall=3, jitter=0.0)), at("127.0.0.1"))
        await until("up", lambda: made.verdict() is Verdict.UP)
        loop = asyncio.get_running_loop()
        began, server.status = loop.time(), 500
        await until("down", lambda: made.verdict() is Verdict.DOWN, 60)
        assert loop.time() - began < 35


async def test_news_is_probed_at_once() -> None:
    """With an hour between probes: newcomers, and what a change of check or address makes new."""
    async with listener() as server, core() as made:
        await made.put(web(server.port, http(3600)), at("127.0.0.1"))
        await until("up", lambda: made.verdict() is Verdict.UP)
        await made.put(at("127.0.0.2", "web-2"))
        assert made.verdict("web-2") is Verdict.RECOVERING
        await until("the second up", lambda: made.verdict("web-2") is Verdict.UP)
        assert server.requests == 2
        # What changes nothing of a probe makes none.
        await made.put(at("127.0.0.1", tags=("blue",)))
        made.pump.beat("web-1", made.pump.observed.told.setdefault("web-1", _told()), 0.5)
        await until("the load", lambda: made.state.snapshot.signals["web-1"].load == 0.5)
        assert server.requests == 2
        await made.put(at("127.0.0.3"))
        await until("another address", lambda: server.requests == 3)
        await made.put(web(server.port, Check("http", "/other", every_s=3600, timeout_s=10)))
        await until("another check", lambda: server.requests == 5)
        assert sorted(server.paths) == ["/healthz"] * 3 + ["/other"] * 2


def _told() -> Any:
    from meshd.daemon.told import Told

    return Told()


async def test_at_a_start_everything_is_probed_at_once() -> None:
    async with listener() as server:
        service = web(server.port, http(3600))
        names = [f"web-{number}" for number in range(1, 9)]
        instances = [at(f"127.0.0.{n}", name) for n, name in enumerate(names, start=1)]
        saved = {"web-1": Signal(verdict=Verdict.DOWN), "web-2": Signal(verdict=Verdict.FAILING)}
        async with core(LOOPBACK, service, *instances, signals=saved) as made:
            await until("all probed", lambda: server.requests == len(names))
            await until("all up", lambda: {made.verdict(name) for name in names} == {Verdict.UP})


async def test_what_no_check_judges_any_more_is_up() -> None:
    async with listener() as server:
        server.status = 500
        service = web(server.port, http(0.2))
        async with core(LOOPBACK, service, at("127.0.0.1")) as made:
            await until("down", lambda: made.verdict() is Verdict.DOWN)
            await made.put(web(server.port, None))
            await until("up without check", lambda: made.verdict() is Verdict.UP)
            assert made.prober.reason("web-1") == ""
            await made.put(service)
            await until("down again", lambda: made.verdict() is Verdict.DOWN)
            await made.delete(Kind.INSTANCES, "web-1")
            seen = server.requests
            await asyncio.sleep(0.5)
            assert server.requests <= seen + 1
            assert made.pump.observed.votes.own == {}
            assert dict(made.state.snapshot.signals) == {}
        # It was down when the core stopped, and lost its check meanwhile.
        unchecked = web(server.port, None)
        saved = {"web-1": Signal(verdict=Verdict.FAILING)}
        async with core(LOOPBACK, unchecked, at("127.0.0.1"), signals=saved) as made:
            await until("up", lambda: made.verdict() is Verdict.UP)


async def test_what_went_while_it_was_probed_leaves_nothing() -> None:
    async with listener() as server, core() as made:
        await made.put(web(server.port, http(0.1)))
        server.gate.clear()
        await made.put(at("127.0.0.1"))
        await until("it is being probed", lambda: server.requests == 1)
        await made.delete(Kind.INSTANCES, "web-1")
        server.gate.set()
        await until("the probe ended", lambda: "in_flight 0.0" in made.metrics())
        await asyncio.sleep(0.3)
        assert server.requests == 1
        assert made.pump.observed.votes.own == {}
        assert dict(made.state.snapshot.signals) == {}


async def test_an_instance_that_moves_to_another_service() -> None:
    async with listener() as one, listener() as two, core() as made:
        await made.put(web(one.port, http(3600)), web(two.port, http(3600), "app"), at("127.0.0.1"))
        await until("up", lambda: made.verdict() is Verdict.UP)
        await made.put(at("127.0.0.1", service="app"))
        await until("probed there", lambda: two.requests == 1)
        # And back: whichever of the two services is looked at first.
        await made.put(at("127.0.0.1"))
        await until("probed here", lambda: one.requests == 2)
        await made.put(at("127.0.0.1", service="app"))
        await until("probed there again", lambda: two.requests == 2)
        await made.delete(Kind.SERVICES, "web")
        assert set(made.prober.targets.by_name) == {"web-1"}
        await made.delete(Kind.SERVICES, "app")
        await until("not probed", lambda: not made.prober.targets.by_name)


async def test_forced_instances_are_probed_and_forced() -> None:
    async with listener() as server, core() as made:
        server.status = 500
        await made.put(web(server.port, http(0.2)), at("127.0.0.1"), Override("web-1", Force.UP))
        await until("seen down", lambda: made.prober.reason("web-1") == "status 500")
        assert made.verdict() is Verdict.FORCED_UP
        await made.delete(Kind.OVERRIDES, "web-1")
        await until("down", lambda: made.verdict() is Verdict.DOWN)


async def test_no_more_at_once_than_allowed() -> None:
    async with listener() as server, core(in_flight=4) as made:
        server.gate.clear()
        instances = [at(f"127.0.1.{n}", f"web-{n}") for n in range(1, 21)]
        await made.put(web(server.port, http(3600)), *instances)
        await until("four wait", lambda: server.requests == 4)
        assert "meshd_probes_in_flight 4.0" in made.metrics()
        await asyncio.sleep(0.5)
        assert server.requests == 4
        server.gate.set()
        await until("all were there", lambda: server.requests == 20)
        await until("none waits", lambda: "meshd_probes_in_flight 0.0" in made.metrics())


async def test_many_on_one_address_are_no_flood() -> None:
    async with listener() as server, core() as made:
        instances = [at("127.0.0.1", f"web-{n}") for n in range(1, 1001)]
        await made.put(web(server.port, http(0.2)), *instances)
        await until("forty probes", lambda: server.requests >= 40)
        # Two seconds' worth; what was accepted late may lie closer together.
        took = server.at[39] - server.at[0]
        assert took > 1.5


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("127.0.0.1", "loopback"),
        ("::1", "loopback"),
        ("169.254.169.254", "metadata"),
        ("64:ff9b::7f00:1", "loopback"),
    ],
)
async def test_what_others_wrote_is_not_probed(address: str, why: str) -> None:
    """Nobody knocks, it counts as up, and it shows; another is probed all the while."""
    guard = Guard((ip_network("127.0.0.2/32"),))
    host = "::1" if address == "::1" else "0.0.0.0"
    async with listener(host) as inside, listener() as server, core(guard) as made:
        await made.put(
            web(inside.port, http(0.1)),
            web(server.port, http(0.1), "app"),
            at(address),
            at("127.0.0.2", "app-1", "app"),
        )
        await until("the other is probed", lambda: server.requests > 5)
        assert inside.requests == 0
        assert made.verdict() is Verdict.UP
        assert why in made.prober.reason("web-1")
        assert "not probed" in made.prober.reason("web-1")
        assert "meshd_probes_refused 1.0" in made.metrics()


async def test_a_mapped_address_is_no_address_at_all() -> None:
    """It cannot even be written; the guard would not let it through either."""
    with pytest.raises(Exception, match="cannot be the address"):
        record_to_instance("::ffff:127.0.0.1")
    assert "loopback" in STRICT.refusal(ip_address("::ffff:127.0.0.1"), 80, {80})


def record_to_instance(address: str) -> Any:
    from meshd.wire.messages import instance_from_message

    message = records_pb2.Instance(name="a", service="b", version="1", pop="eu")
    message.addresses.append(address)
    return instance_from_message(message)


async def test_other_ports_are_not_probed() -> None:
    async with listener() as inside, listener() as server, core() as made:
        check = http(0.1, port=str(inside.port))
        await made.put(
            web(server.port, check),
            web(server.port, http(0.1), "app"),
            at("127.0.0.1"),
            at("127.0.0.2", "app-1", "app"),
        )
        await until("the other is probed", lambda: server.requests > 5)
        assert inside.requests == 0
        assert "probe-ports" in made.prober.reason("web-1")
        # The instance says itself that it serves there.
        await made.put(at("127.0.0.1", ports=(("http", inside.port),)))
        await until("probed there", lambda: inside.requests > 0)


async def test_a_redirecting_instance_leads_nowhere() -> None:
    async with listener() as inside, listener() as server, core() as made:

        async def redirect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            where = b"http://127.0.0.1:%d/secret" % inside.port
            writer.write(b"HTTP/1.1 307 x\r\nContent-Length: 0\r\nLocation: " + where + b"\r\n\r\n")
            await writer.drain()

        async with TcpServer(redirect) as away:
            await made.put(web(away.port, http(0.1)), at("127.0.0.1"))
            await until("down", lambda: made.verdict() is Verdict.DOWN)
            assert made.prober.reason("web-1") == "status 307"
            assert (inside.requests, server.requests) == (0, 0)


async def test_not_on_its_own_ports() -> None:
    settings = CoreSettings(
        node="one", data=Path("unused"), grpc="127.0.0.1:7700", http="[::1]:7780",
        probes=ProbeSettings(allow=(ip_network("127.0.0.0/8"),), ports=(22,)),
    )  # fmt: skip
    guard = guard_of(settings)
    assert guard.refusal(ip_address("127.0.0.1"), 80, {80}) == ""
    assert guard.refusal(ip_address("127.0.0.1"), 22, {80}) == ""
    for port in (7700, 7780):
        assert "meshd itself" in guard.refusal(ip_address("127.0.0.1"), port, {port})
        assert guard.refusal(ip_address("192.0.2.1"), port, {port}) == ""
    assert is_local(ip_address("127.0.0.9"))
    assert not is_local(ip_address("192.0.2.1"))
    assert not is_local(ip_address("2001:db8::1"))


async def test_who_flaps_comes_up_late() -> None:
    async with listener() as server, core() as made:
        await made.put(web(server.port, http(0.1, rise=1, fall=1)))
        await made.put(at("127.0.0.1"))
        for _ in range(2):
            server.status = 200
            await until("up", lambda: made.verdict() is Verdict.UP)
            server.status = 500
            await until("down", lambda: made.verdict() is Verdict.DOWN)
        server.status = 200
        await until("recovering", lambda: made.verdict() is Verdict.RECOVERING)
        passes = server.requests
        await until("more passes", lambda: server.requests > passes + 5)
        assert made.verdict() is Verdict.RECOVERING


DOCUMENT = """\
zones:
  mesh.internal: {ns: [ns1.example.com], contact: a@mesh.internal}
pops:
  eu: {}
services:
  web: {name: web.mesh.internal, ports: {http: 8080}, check: {http: /healthz}}
  old: {name: old.mesh.internal, ports: {http: 8080}}
instances:
  old-1: {service: old, version: 1.0.0, pop: eu, address: 127.0.0.1}
  web-1: {service: web, version: 1.0.0, pop: eu, address: 10.0.0.1}
"""
BAD = """\
  web-2: {service: web, version: 1.0.0, pop: eu, address: 169.254.169.254}
  web-3: {service: web, version: 1.0.0, pop: mars, address: "::1"}
  web-4: {service: web, version: 1.0.0, pop: eu, address: 127.0.0.1, ports: {htp: 1}}
"""


@dataclass
class Api:
    topology: topology_pb2_grpc.TopologyStub
    registry: registry_pb2_grpc.RegistryStub

    async def refused(self, call: Any) -> list[str]:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await call
        assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        return (error.value.details() or "").splitlines()

    def apply(self, document: str) -> Any:
        return self.topology.Apply(topology_pb2.ApplyRequest(document=document), timeout=10)

    def plan(self, document: str) -> Any:
        return self.topology.Plan(topology_pb2.PlanRequest(document=document), timeout=10)

    def commit(self, record: Record) -> Any:
        edit = topology_pb2.Edit(
            kind=kind_of(record), name=record.name, record=record_to_message(record)
        )
        return self.topology.Commit(topology_pb2.CommitRequest(edits=[edit]), timeout=10)

    async def register(self, address: str, service: str) -> Any:
        told = records_pb2.Instance(
            name="new-1", service=service, version="1.0.0", pop="eu", addresses=[address]
        )
        call = self.registry.Register(timeout=10)
        await call.write(registry_pb2.RegisterRequest(hello=registry_pb2.Hello(instance=told)))
        reply = await call.read()
        call.cancel()
        return reply


@asynccontextmanager
async def api(path: Path, guard: Guard) -> AsyncIterator[Api]:
    async with core(guard) as made:
        address = f"unix:{path}/core.sock"
        server = await start_server([address], made.store, made.state, made.pump, guard)
        try:
            async with grpc.aio.insecure_channel(address) as channel:
                yield Api(
                    topology_pb2_grpc.TopologyStub(channel), registry_pb2_grpc.RegistryStub(channel)
                )
        finally:
            await server.stop(0)


async def test_writes_are_refused_with_every_fault_and_its_line(tmp_path: Path) -> None:
    async with api(tmp_path, STRICT) as made:
        for call in (made.plan, made.apply):
            lines = await made.refused(call(DOCUMENT + BAD))
            assert [line.split(":")[:2] for line in lines] == [
                ["line 11", " instances.web-2.address"],
                ["line 12", " instances.web-3.address"],
                ["line 12", " instances.web-3.pop"],
                ["line 13", " instances.web-4.address"],
                ["line 13", " instances.web-4.ports"],
            ]
            assert "cloud metadata" in lines[0]
            assert "probe-allow" in lines[0]
        # Form and guard are complained about together.
        lines = await made.refused(made.apply(DOCUMENT + BAD + "  web-5: {}\n"))
        assert len([line for line in lines if "probe-allow" in line]) == 3
        assert len(lines) > 5
        await made.apply(DOCUMENT)
        assert "metadata" in (await made.refused(made.commit(at("169.254.169.254"))))[0]
        assert "loopback" in (await made.refused(made.register("127.0.0.1", "web")))[0]
        assert (await made.register("10.0.0.7", "web")).HasField("welcome")


async def test_writes_that_are_allowed(tmp_path: Path) -> None:
    async with api(tmp_path, LOOPBACK) as made:
        lines = await made.refused(made.apply(DOCUMENT + BAD))
        assert [line.split(":")[1] for line in lines] == [
            " instances.web-2.address",
            " instances.web-3.address",
            " instances.web-3.pop",
            " instances.web-4.ports",
        ]
        await made.apply(DOCUMENT)
        await made.commit(at("127.0.0.7", "web-7"))
        assert (await made.register("127.0.0.1", "web")).HasField("welcome")


@pytest.mark.integration
def test_meshd_serve_probes(tmp_path: Path) -> None:
    """The flags of `meshd serve` reach the prober, and the guard stands without them."""
    port = free_port()
    document = DOCUMENT.replace("8080", str(port)).replace("10.0.0.1", "127.0.0.1")
    document = document.replace("http: /healthz", "tcp: , every: 500ms, timeout: 500ms")
    strict = Meshd(tmp_path)
    strict.start_ready()
    try:
        with pytest.raises(grpc.RpcError, match="probe-allow"):
            strict.apply(document)
    finally:
        strict.stop()
    folder = tmp_path / "allowed"
    folder.mkdir()
    made = Meshd(folder, 1, "--probe-allow", "127.0.0.0/8")
    made.start_ready()

    def metrics() -> str:
        with urllib.request.urlopen(f"http://{made.http}/metrics", timeout=5) as reply:
            return str(reply.read().decode())

    try:
        made.apply(document)
        refused = 'meshd_probes_total{kind="tcp",outcome="refused"}'
        wait_until("probed", lambda: refused in metrics())
        down = 'meshd_instances{service="web",verdict="down"} 1.0'
        wait_until("down", lambda: down in metrics())
        said = made.meshctl("explain", "web.mesh.internal", "--client", "10.0.0.1")
        assert "connection refused" in said.stdout
        # The core itself is never probed, whatever is allowed.
        own = int(made.grpc.rpartition(":")[2])
        with pytest.raises(grpc.RpcError, match="meshd itself"):
            made.apply(document.replace(str(port), str(own)))
    finally:
        assert made.stop() == 0
