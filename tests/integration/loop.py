"""Six real HTTP instances behind PowerDNS, and programs with the library that call them."""

import asyncio
import json
import sys
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

import grpc
import httpx

from meshd.client import Endpoint, Outcome, Reporter
from meshd.client.httpx import MeshTransport
from meshd.client.loop_thread import LoopThread
from meshd.v1 import reporter_pb2 as pb
from meshd.v1 import reporter_pb2_grpc
from tests.servers.fronts import PowerDns
from tests.servers.processes import ROOT, Meshd, Server, free_port, wait_until
from tests.servers.queries import Asker, addresses

NAME = "api.mesh.internal"
HOSTS = {f"api-{number}": f"127.0.80.{number}" for number in range(1, 7)}
# Clients without the library, each with a list of its own.
ASKERS = [Asker(f"127.0.{net}.9") for net in range(100, 164)]


def document(port: int) -> str:
    listed = "\n".join(
        f"  {name}: {{service: api, version: 1.0.0, pop: here, address: {host}}}"
        for name, host in HOSTS.items()
    )
    return f"""
zones: {{mesh.internal: {{ns: [{{ns1.mesh.internal: [127.0.0.1]}}], contact: a@mesh.internal}}}}
pops: {{here: {{}}}}
ranges: {{127.0.0.0/8: here}}
services:
  api:
    name: {NAME}
    ports: {{http: {port}/tcp}}
    check: {{http: /healthz}}
    ttl: {{min: 1, max: 4}}
    max_answers: 6
    slow_start: 0s
instances:
{listed}
"""


class Scene:
    """meshd, PowerDNS and the instances, each a process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.meshd = Meshd(folder, 1, "--probe-allow", "127.0.0.0/8")
        self.dns = PowerDns(folder, self.meshd.bridge)
        stub = ROOT / "tests/integration/stubs/web.py"
        self.instances = {
            name: Server(name, [sys.executable, "-S", stub, host, str(self.port), name], folder)
            for name, host in HOSTS.items()
        }

    def start(self) -> None:
        """Start everything; back when all instances are up."""
        self.meshd.start_ready()
        for instance in self.instances.values():
            instance.start()
        self.meshd.apply(document(self.port))
        self.dns.start_ready()
        wait_until("all are up", self.all_up, 60)

    def stop(self) -> None:
        """End everything."""
        for server in (*self.instances.values(), self.dns):
            server.kill()
        self.meshd.stop()

    def fail(self, name: str, rate: float) -> None:
        """From now on so many of its requests fail; its health checks pass."""
        url = f"http://{HOSTS[name]}:{self.port}/fail/{rate}"
        urllib.request.urlopen(url, data=b"", timeout=5).close()

    def firsts(self) -> Counter[str]:
        """How many of the clients without the library have each instance first."""
        lists = (addresses(asker.ask(self.dns.port, NAME)) for asker in ASKERS)
        names = {host: name for name, host in HOSTS.items()}
        return Counter(names[found[0]] for found in lists)

    def lists(self) -> list[list[str]]:
        """What each client without the library is answered, in order."""
        return [addresses(asker.ask(self.dns.port, NAME)) for asker in ASKERS]

    def told(self) -> dict[str, dict[str, object]]:
        """What the core knows of each instance."""
        done = self.meshd.meshctl("top", "--once", "--json")
        services = json.loads(done.stdout)["services"] if done.returncode == 0 else []
        return {each["instance"]: each for service in services for each in service["instances"]}

    def success(self, name: str) -> float:
        """What clients see of an instance: the part of calls that succeed; 0: ejected."""
        return float(str(self.told()[name]["success"]))

    def all_up(self) -> bool:
        """True if all are up, and clients say nothing against any."""
        told = self.told().values()
        return len(told) == len(HOSTS) and all(
            each["verdict"] == "up" and each["success"] == 1 for each in told
        )

    def metric(self, name: str) -> float:
        """The sum of a metric of the core."""
        with urllib.request.urlopen(f"http://{self.meshd.http}/metrics", timeout=5) as reply:
            lines = reply.read().decode().splitlines()
        found = [line for line in lines if line.startswith((f"{name} ", f"{name}{{"))]
        return sum(float(line.split()[-1]) for line in found)


@contextmanager
def running(folder: Path) -> Iterator[Scene]:
    """The scene, all up."""
    scene = Scene(folder)
    try:
        scene.start()
        yield scene
    finally:
        scene.stop()


class Loop:
    """Work of ours in a thread with a loop, from entering to leaving."""

    def __init__(self) -> None:
        self.stop = asyncio.Event()
        self._thread = LoopThread(type(self).__name__)
        self._task: asyncio.Task[None] | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        self._thread.wait(self._begin())
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._thread.wait(self._end())
        finally:
            self._thread.stop()

    async def _begin(self) -> None:
        self._task = asyncio.create_task(self.run())

    async def _end(self) -> None:
        self.stop.set()
        assert self._task is not None, "it was begun"
        await self._task

    async def run(self) -> None:
        """What is done until `stop` is set."""
        raise NotImplementedError


class Voices(Loop):
    """Reporters that say of each instance what they are told to say, without calling any.

    `said`: by instance, how many of ten calls fail. Entered once the core has heard all of them.
    """

    def __init__(self, scene: Scene, name: str, count: int, said: Mapping[str, int]) -> None:
        super().__init__()
        self._said = said
        self._reporters = [
            Reporter(scene.meshd.grpc, voice=f"{name}-{number}") for number in range(count)
        ]

    def __enter__(self) -> Self:
        super().__enter__()
        wait_until("all are heard", lambda: all(each.sent for each in self._reporters))
        return self

    async def run(self) -> None:
        """Say it each second."""
        async with AsyncExitStack() as stack:
            for reporter in self._reporters:
                await stack.enter_async_context(reporter)
            while not self.stop.is_set():
                for reporter in self._reporters:
                    _say(reporter, self._said)
                await asyncio.sleep(1.0)


def _say(reporter: Reporter, said: Mapping[str, int]) -> None:
    for name, host in HOSTS.items():
        endpoint = Endpoint(name, host, 80, NAME)
        for number in range(10):
            outcome = Outcome.FAILURE if number < said.get(name, 0) else Outcome.OK
            reporter.note(endpoint, outcome, 0.01)


class Flood(Loop):
    """One reporter on twenty streams, that says that all is bad as often as the core hears it."""

    def __init__(self, scene: Scene) -> None:
        super().__init__()
        self.batches = 0
        self._core = scene.meshd.grpc

    async def run(self) -> None:
        """All streams until the end."""
        async with grpc.aio.insecure_channel(self._core) as channel:
            stub = reporter_pb2_grpc.ReporterStub(channel)
            await asyncio.gather(*(self._stream(stub.Report()) for _ in range(20)))

    async def _stream(self, call: Any) -> None:
        outcomes = [pb.Outcomes(instance=name, attempts=10, failures=10) for name in HOSTS]
        request = pb.ReportRequest(reporter="flood", window_s=2.0, outcomes=outcomes)
        while not self.stop.is_set():
            await call.write(request)
            assert await call.read() is not grpc.aio.EOF, await call.code()
            self.batches += 1
        call.cancel()


class Callers(Loop):
    """Programs with the library, each a transport and a voice of its own.

    Together they make `rate` requests a second, all of them idempotent.
    """

    def __init__(self, scene: Scene, count: int, rate: float) -> None:
        super().__init__()
        self.ok: Counter[str] = Counter()
        self.failed: list[str] = []
        self.reporters = [Reporter(scene.meshd.grpc, voice=f"caller-{n}") for n in range(count)]
        self._scene = scene
        self._pause_s = count / rate

    async def run(self) -> None:
        """All of them until the end."""
        await asyncio.gather(*map(self._call, self.reporters))

    async def _call(self, reporter: Reporter) -> None:
        """One program: a request each time that one is due, whatever became of those before."""
        transport = MeshTransport(dns=f"127.0.0.1:{self._scene.dns.port}", report=reporter)
        async with (
            reporter,
            httpx.AsyncClient(transport=transport, timeout=5.0) as client,
            asyncio.TaskGroup() as group,
        ):
            while not self.stop.is_set():
                group.create_task(self._get(client))
                await asyncio.sleep(self._pause_s)

    async def _get(self, client: httpx.AsyncClient) -> None:
        try:
            reply = await client.get(f"http://{NAME}/")
        except httpx.HTTPError as error:
            self.failed.append(repr(error))
            return
        if reply.is_success:
            self.ok[reply.text.strip()] += 1
        else:
            self.failed.append(f"status {reply.status_code}")
