"""Twenty real HTTP instances in three Pops, and clients that ask for them without a pause."""

import sys
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import dns.exception

from tests.servers.processes import ROOT, Meshd, Server, free_port
from tests.servers.queries import Asker, addresses

NAME = "api.mesh.internal"
# Pop -> how many instances it has; they listen on 127.30.<net>.<number>.
SIZES = {"eu": 7, "us": 7, "ap": 6}
NETS = {pop: 31 + at for at, pop in enumerate(SIZES)}
# These register themselves, the others are in the document and only probed.
REGISTERED = ("api-eu-1", "api-us-1")
CLIENTS = {"eu": Asker("127.0.1.9"), "us": Asker("127.0.2.9"), "ap": Asker("127.0.3.9")}


def names(pop: str = "") -> list[str]:
    """The instances of a Pop, or all."""
    return [f"api-{p}-{n + 1}" for p, size in SIZES.items() for n in range(size) if pop in ("", p)]


def address(name: str) -> str:
    """Where an instance listens."""
    _, pop, number = name.split("-")
    return f"127.30.{NETS[pop]}.{number}"


def document(port: int) -> str:
    """The topology: default checks, default TTLs."""
    listed = "\n".join(
        f"  {name}: {{service: api, version: 1.0.0, pop: {name.split('-')[1]}, "
        f"address: {address(name)}}}"
        for name in names()
        if name not in REGISTERED
    )
    return f"""
zones:
  mesh.internal: {{ns: [{{ns1.mesh.internal: [127.0.0.1]}}], contact: h@mesh.internal}}
pops: {{eu: {{fallback: [us]}}, us: {{fallback: [ap]}}, ap: {{}}}}
ranges: {{127.0.1.0/24: eu, 127.0.2.0/24: us, 127.0.3.0/24: ap}}
services:
  api: {{name: {NAME}, ports: {{http: {port}/tcp}}, check: {{http: /healthz}}, max_answers: 8}}
instances:
{listed}
"""


class Watch:
    """Asks one server as one client without a pause, and remembers what came when."""

    def __init__(self, port: int, asker: Asker) -> None:
        # (monotonic seconds, addresses, TTL); addresses are empty where no good answer came.
        self.seen: list[tuple[float, tuple[str, ...], int]] = []
        self._port = port
        self._asker = asker
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._stop.wait(0.02):
            found: tuple[str, ...] = ()
            ttl = 0
            try:
                reply = self._asker.ask(self._port, NAME, timeout_s=2)
                found, ttl = tuple(addresses(reply)), min(r.ttl for r in reply.answer)
            except (dns.exception.DNSException, ValueError):
                pass
            self.seen.append((time.monotonic(), found, ttl))

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(10)

    def last_seen(self, wanted: str, since: float) -> float:
        """Seconds after `since` at which an address was last in an answer; 0: not after it."""
        times = [at - since for at, found, _ in self.seen if at >= since and wanted in found]
        return max(times, default=0.0)

    def answers(self, wanted: str) -> bool:
        """True if an address is in the newest answer."""
        return wanted in self.now[0]

    def lacks(self, unwanted: str) -> bool:
        """True if the newest answer is one, and an address is not in it."""
        return bool(self.now[0]) and unwanted not in self.now[0]

    def stays_in(self, wanted: Collection[str]) -> bool:
        """True if the newest answer is one, and all of it among some addresses."""
        return bool(self.now[0]) and set(self.now[0]) <= set(wanted)

    @property
    def now(self) -> tuple[tuple[str, ...], int]:
        """The newest answer and its TTL."""
        return self.seen[-1][1:] if self.seen else ((), 0)


class Fleet:
    """The instances, each a process of its own."""

    def __init__(self, folder: Path, meshd: Meshd, port: int) -> None:
        self.port = port
        self._folder = folder
        self._meshd = meshd
        self._running: dict[str, Server] = {}

    def start(self, wanted: Sequence[str]) -> None:
        """Start instances."""
        for name in wanted:
            self._running[name] = Server(name, self._command(name), self._folder)
            self._running[name].start()

    def _command(self, name: str) -> list[str | Path]:
        if name not in REGISTERED:
            stub = ROOT / "tests/integration/stubs/web.py"
            return [sys.executable, "-S", stub, address(name), str(self.port), name]
        told = ["--name", name, "--version", "1.0.0", "--pop", name.split("-")[1]]
        place = ["--address", address(name), "--port", str(self.port), "--core", self._meshd.grpc]
        return [sys.executable, ROOT / "examples/demo/instance.py", *told, *place]

    def kill(self, name: str) -> float:
        """kill -9; when that was (monotonic seconds)."""
        at = time.monotonic()
        self._running.pop(name).kill()
        return at

    def stop(self) -> None:
        """End all that still run."""
        for name in list(self._running):
            self.kill(name)


@contextmanager
def running(folder: Path) -> Iterator[tuple[Meshd, Fleet]]:
    """meshd with the document, a table for dnsdist, and the whole fleet up."""
    with ExitStack() as stack:
        table = str(folder / "data" / "answers")
        meshd = Meshd(folder, 2, "--table", table, "--probe-allow", "127.0.0.0/8")
        stack.callback(meshd.stop)
        meshd.start_ready()
        port = free_port()
        fleet = Fleet(folder, meshd, port)
        stack.callback(fleet.stop)
        fleet.start(names())
        meshd.apply(document(port))
        yield meshd, fleet
