"""A burst of registrations: seconds until all are present, and what DNS clients notice of it."""

import socket
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import dns.message

from tests.bench.measure import Row, complaint
from tests.servers.fleet import Fleet
from tests.servers.processes import Meshd, wait_until

COUNT = 10_000
_SERVICES = [f"s{number}" for number in range(20)]
_PAUSE_S = 0.002
_LOST_S = 1.0


def document() -> str:
    """Twenty services, each with four instances that do not register."""
    services = "".join(
        f"  {name}: {{name: {name}.b., ports: {{http: 80/tcp}}}}\n" for name in _SERVICES
    )
    said = "service: {0}, version: 1.2.0, pop: eu, address: 10.0.{1}.{2}"
    instances = "".join(
        f"  {name}-{at}: {{{said.format(name, number, at)}}}\n"
        for number, name in enumerate(_SERVICES)
        for at in range(1, 5)
    )
    zone = "zones: {b: {ns: [ns.x.], contact: h@b}}\npops: {eu: {}}\nranges: {0.0.0.0/0: eu}\n"
    return f"{zone}services:\n{services}instances:\n{instances}"


class Asker(threading.Thread):
    """One client that asks one question after the other until told to stop."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self._port = port
        self._stopping = threading.Event()
        self.took_s: list[float] = []
        self.wrong: list[str] = []

    def run(self) -> None:
        queries = [dns.message.make_query(f"{name}.b.", "A", id=7).to_wire() for name in _SERVICES]
        with socket.socket(type=socket.SOCK_DGRAM) as sock:
            sock.settimeout(_LOST_S)
            sock.connect(("127.0.0.1", self._port))
            while not self._stopping.is_set():
                began = time.perf_counter()
                sock.send(queries[len(self.took_s) % len(queries)])
                try:
                    reply = sock.recv(4096)
                except TimeoutError:
                    reply = b""
                self.took_s.append(time.perf_counter() - began)
                wrong = complaint(reply) if reply else "no answer"
                self.wrong += [wrong] if wrong else []
                time.sleep(_PAUSE_S)

    def finish(self) -> "Asker":
        """Stop asking."""
        self._stopping.set()
        self.join()
        return self


def p99_ms(took_s: Sequence[float]) -> float:
    """The 99th percentile in milliseconds."""
    return sorted(took_s)[len(took_s) * 99 // 100] * 1000


def present(meshd: Meshd) -> int:
    """How many instances the core knows as present."""
    return len(meshd.meshctl("get", "presence", "-o", "name").stdout.splitlines())


def burst(meshd: Meshd, count: int, quiet_s: float) -> tuple[float, Asker, Asker]:
    """Seconds until all are in, and what a client saw before and meanwhile. RuntimeError."""
    before = Asker(meshd.dns_port)
    before.start()
    time.sleep(quiet_s)
    before.finish()
    fleet, during = Fleet(meshd.grpc, count, _SERVICES), Asker(meshd.dns_port)
    try:
        during.start()
        fleet.start()
        entered = fleet.entered()
        during.finish()
        if entered["failed"]:
            raise RuntimeError(f"not registered: {entered['failed']}")
        wait_until("all are present", lambda: present(meshd) == count, 60)
        return entered["seconds"], before, during
    finally:
        fleet.stop()


def registration_rows(seconds: float, folder: Path) -> list[Row]:
    """Ten thousand at once, and DNS beside it."""
    meshd = Meshd(folder, 1)
    try:
        meshd.start_ready()
        meshd.apply(document(), timeout_s=60)
        took, before, during = burst(meshd, COUNT, 2 * seconds)
    finally:
        meshd.stop()
    wrong = before.wrong + during.wrong
    if wrong:
        raise RuntimeError(f"{len(wrong)} answers failed: {sorted(set(wrong))[:3]}")
    quiet, loud = p99_ms(before.took_s), p99_ms(during.took_s)
    ratio = loud / quiet
    detail = f"{quiet:.2f} ms, {loud:.2f} ms in the burst, {len(during.took_s)} answers, 0 failed"
    return [
        Row("10 k register : 20 s", took / 20, "<= 1", took <= 20, f"all present in {took:.1f} s"),
        Row("DNS p99, burst : before", ratio, "-", True, detail),
    ]
