"""A shop that gets a new version: its instances are processes, PowerDNS is in front of meshd.

Its clients are programs with the library, each at an address of its own, and clients that honour
nothing but TTLs.
"""

import asyncio
import json
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from meshd.client import Reporter
from meshd.client.httpx import MeshTransport
from tests.integration.loop import Loop
from tests.servers.fronts import PowerDns
from tests.servers.processes import ROOT, Meshd, Server, free_port, wait_until
from tests.servers.queries import Asker, addresses

NAME = "shop.mesh.internal"
# From the start of one program to that of the next.
_APART_S = 0.04
OLD, NEW = "1.2.0", "1.3.0"
# Instance -> (its address, its version).
INSTANCES = {
    **{f"old-{n}": (f"127.0.90.{n}", OLD) for n in range(1, 5)},
    **{f"new-{n}": (f"127.0.91.{n}", NEW) for n in range(1, 4)},
}
VERSIONS = {host: version for host, version in INSTANCES.values()}
# Each with a /24 of its own, as resolvers name them (RFC 7871).
PREFIXES = [f"10.{16 + n // 256}.{n % 256}.0" for n in range(20_000)]


def document(port: int, names: Sequence[str], more: str = "") -> str:
    """The shop with some of its instances."""
    listed = "\n".join(
        f"  {name}: {{service: shop, version: {INSTANCES[name][1]}, pop: here,"
        f" address: {INSTANCES[name][0]}}}"
        for name in names
    )
    return f"""
zones: {{mesh.internal: {{ns: [{{ns1.mesh.internal: [127.0.0.1]}}], contact: a@mesh.internal}}}}
pops: {{here: {{}}}}
ranges: {{127.0.0.0/8: here, 10.0.0.0/8: here}}
services:
  shop:
    name: {NAME}
    ports: {{http: {port}/tcp}}
    check: {{http: /healthz, every: 1s}}
    ttl: {{min: 1, max: 4}}
    slow_start: 0s
    {more}
instances:
{listed}
"""


class Shop:
    """meshd, PowerDNS and all instances."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.meshd = Meshd(folder, 1, "--probe-allow", "127.0.0.0/8")
        self.dns = PowerDns(folder, self.meshd.bridge)
        stub = ROOT / "tests/integration/stubs/web.py"
        self.instances = {
            name: Server(name, [sys.executable, "-S", stub, host, str(self.port), name], folder)
            for name, (host, _) in INSTANCES.items()
        }

    def start(self, more: str = "") -> None:
        """Start everything; the document has the old instances only."""
        self.meshd.start_ready()
        for instance in self.instances.values():
            instance.start()
        self.deploy(OLD, more=more)
        self.dns.start_ready()
        wait_until("it is answered", lambda: bool(self.answer(Asker("127.0.2.1"))), 60)

    def stop(self) -> None:
        """End everything."""
        for server in (*self.instances.values(), self.dns):
            server.kill()
        self.meshd.stop()

    def deploy(self, *versions: str, more: str = "") -> None:
        """Instances of these versions are in the document from now on."""
        names = [name for name, (_, version) in INSTANCES.items() if version in versions]
        self.meshd.apply(document(self.port, names, more), force=True)

    def fail(self, version: str, rate: float) -> None:
        """From now on so many requests to a version fail; its health checks pass."""
        for host, its_version in INSTANCES.values():
            if its_version == version:
                url = f"http://{host}:{self.port}/fail/{rate}"
                urllib.request.urlopen(url, data=b"", timeout=5).close()

    def answer(self, asker: Asker) -> list[str]:
        """What a client is answered by PowerDNS."""
        return addresses(asker.ask(self.dns.port, NAME))

    def rollout(self, *words: str) -> subprocess.CompletedProcess[str]:
        """`meshctl rollout ...`."""
        return self.meshd.meshctl("rollout", *words)

    def status(self) -> dict[str, Any]:
        """The newest rollout as it is."""
        done = self.rollout("status", "shop", "--json")
        assert done.returncode == 0, done.stderr
        told: dict[str, Any] = json.loads(done.stdout)
        return told

    def versions(self) -> dict[str, str]:
        """Which version each of 20,000 clients is answered first, by PowerDNS."""
        return {
            prefix: VERSIONS[first] for prefix, first in firsts(self.dns.port, PREFIXES).items()
        }


@contextmanager
def running(folder: Path, more: str = "") -> Iterator[Shop]:
    """A shop, all up."""
    shop = Shop(folder)
    try:
        shop.start(more)
        yield shop
    finally:
        shop.stop()


def _question(number: int, prefix: str) -> bytes:
    """A query for NAME A with ECS prefix/24 (RFC 1035 4.1, RFC 7871 6)."""
    qname = b"".join(bytes([len(p)]) + p.encode() for p in NAME.split(".")) + b"\0"
    subnet = struct.pack("!HBB", 1, 24, 0) + socket.inet_aton(prefix)[:3]
    option = struct.pack("!HH", 8, len(subnet)) + subnet
    opt = b"\0" + struct.pack("!HHIH", 41, 1232, 0, len(option)) + option
    head = struct.pack("!6H", number, 0x0100, 1, 0, 0, 1)
    return head + qname + struct.pack("!HH", 1, 1) + opt


def firsts(port: int, prefixes: Sequence[str], window: int = 100) -> dict[str, str]:
    """The first address that each client is answered; lost datagrams are asked again."""
    found: dict[str, str] = {}
    left = list(prefixes)
    head = len(_question(0, "10.0.0.0")) - 11 - 11
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        sock.connect(("127.0.0.1", port))
        sock.settimeout(2)
        for _ in range(20):
            for at in range(0, len(left), window):
                _ask_window(sock, left[at : at + window], head, found)
            left = [prefix for prefix in left if prefix not in found]
            if not left:
                return found
    raise TimeoutError(f"{len(left)} questions were never answered")


def _ask_window(
    sock: socket.socket, prefixes: Sequence[str], head: int, found: dict[str, str]
) -> None:
    for number, prefix in enumerate(prefixes):
        sock.send(_question(number, prefix))
    for _ in prefixes:
        try:
            reply = sock.recv(4096)
        except TimeoutError:
            return
        number, _, _, answers = struct.unpack("!4H", reply[:8])
        # One question, then A records that point back at its name (RFC 1035 4.1.4).
        assert answers, "an empty answer"
        found[prefixes[number]] = socket.inet_ntoa(reply[head + 12 : head + 16])


class Users(Loop):
    """Programs with the library, each at an address of its own; a few reporters tell for all.

    Together they make `rate` requests a second; `served` counts by instance.
    """

    def __init__(self, shop: Shop, count: int = 60, rate: float = 60, voices: int = 4) -> None:
        super().__init__()
        self.served: Counter[str] = Counter()
        self.failed: list[str] = []
        self._shop = shop
        self._count = count
        self._pause_s = count / rate
        self._reporters = [Reporter(shop.meshd.grpc, voice=f"user-{n}") for n in range(voices)]

    @property
    def requests(self) -> int:
        """How many were made and have ended."""
        return sum(self.served.values()) + len(self.failed)

    async def run(self) -> None:
        """All of them until the end."""
        async with AsyncExitStack() as stack:
            for reporter in self._reporters:
                await stack.enter_async_context(reporter)
            async with asyncio.TaskGroup() as group:
                for number in range(self._count):
                    group.create_task(self._use(number))

    async def _use(self, number: int) -> None:
        reporter = self._reporters[number % len(self._reporters)]
        transport = MeshTransport(
            verify=False,
            cores=self._shop.meshd.grpc,
            client=f"127.0.3.{number + 1}",
            report=reporter,
        )
        # Each has connections of its own: all at once they would wait for each other.
        await asyncio.sleep(number * _APART_S)
        async with httpx.AsyncClient(transport=transport, timeout=5.0) as client:
            while not self.stop.is_set():
                await self._get(client)
                await asyncio.sleep(self._pause_s)

    async def _get(self, client: httpx.AsyncClient) -> None:
        try:
            reply = await client.get(f"http://{NAME}/")
        except httpx.HTTPError as error:
            self.failed.append(repr(error))
            return
        if reply.is_success:
            self.served[reply.text.strip()] += 1
        else:
            self.failed.append(f"status {reply.status_code}")


@dataclass
class Plain:
    """A client that asks PowerDNS, uses the first address for as long as its TTL, and no other."""

    shop: Shop
    number: int
    served: Counter[str] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)
    _first: str = ""
    _until: float = 0.0

    def run(self, stop: threading.Event) -> None:
        """Make requests until the end."""
        while not stop.wait(0.1):
            try:
                host = self._host()
                url = f"http://{host}:{self.shop.port}/"
                with urllib.request.urlopen(url, timeout=5) as reply:
                    self.served[reply.read().decode().strip()] += 1
            except (OSError, urllib.error.URLError) as error:
                self.errors.append(f"{VERSIONS.get(self._first)} {self._first}: {error}")

    def _host(self) -> str:
        if time.monotonic() >= self._until:
            asker = Asker("127.0.0.1", f"10.9.{self.number}.0/24")
            reply = asker.ask(self.shop.dns.port, NAME, timeout_s=5)
            self._first = addresses(reply)[0]
            self._until = time.monotonic() + reply.answer[0].ttl
        return self._first


@contextmanager
def plain(shop: Shop, count: int = 40) -> Iterator[list[Plain]]:
    """So many clients that honour nothing but TTLs."""
    made = [Plain(shop, number) for number in range(count)]
    stop = threading.Event()
    threads = [threading.Thread(target=each.run, args=(stop,)) for each in made]
    for thread in threads:
        thread.start()
    try:
        yield made
    finally:
        stop.set()
        for thread in threads:
            thread.join(20)


def share(versions: Mapping[str, str]) -> float:
    """The part of clients that get the new version, in percent."""
    return 100 * sum(version == NEW for version in versions.values()) / len(versions)
