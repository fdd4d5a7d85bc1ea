"""Clients that honour TTLs, four real servers, and one that is stopped: at once, or when it may."""

import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import dns.message
import dns.query
import pytest

from meshd.v1.resolver_pb2 import SafeToStopRequest
from tests.servers.processes import Meshd, free_port

pytestmark = pytest.mark.integration

NAME = "shop.mesh.internal"
HOSTS = [f"127.0.5.{number}" for number in range(1, 5)]
_CLIENTS = 24


class _Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(204)
        self.end_headers()

    def log_request(self, code: object = "-", size: object = "-") -> None:
        """Nothing: what went wrong shows at the client."""


class _Web(ThreadingHTTPServer):
    # It stops as a process that ends does: nobody listens from then on.
    block_on_close = False
    allow_reuse_address = True


@contextmanager
def servers(port: int) -> Iterator[dict[str, _Web]]:
    running = {host: _Web((host, port), _Page) for host in HOSTS}
    for server in running.values():
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield running
    finally:
        for server in running.values():
            server.shutdown()
            server.server_close()


@dataclass
class Client:
    """Asks as one address, keeps each answer for its TTL, and uses the first address of it."""

    number: int
    dns_port: int
    web_port: int
    served: dict[str, int] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    _first: str = ""
    _until: float = 0.0

    def request(self) -> None:
        host = self._host()
        try:
            with urllib.request.urlopen(f"http://{host}:{self.web_port}/", timeout=5):
                self.served[host] = self.served.get(host, 0) + 1
        except (OSError, urllib.error.URLError) as error:
            self.errors.append(f"{host}: {error}")

    def _host(self) -> str:
        if time.monotonic() >= self._until:
            query = dns.message.make_query(NAME, "A")
            reply = dns.query.udp(
                query, "127.0.0.1", timeout=5, port=self.dns_port, source=f"127.0.1.{self.number}"
            )
            # The first answer is kept for a part of it, so that not all clients ask as one.
            part = 1 if self._first else self.number / _CLIENTS
            self._first = str(reply.answer[0][0])
            self._until = time.monotonic() + part * reply.answer[0].ttl
        return self._first

    def run(self, stop: threading.Event) -> None:
        while not stop.is_set():
            self.request()
            time.sleep(0.04)


@contextmanager
def clients(meshd: Meshd, port: int) -> Iterator[list[Client]]:
    made = [Client(number, meshd.dns_port, port) for number in range(1, _CLIENTS + 1)]
    stop = threading.Event()
    threads = [threading.Thread(target=client.run, args=(stop,)) for client in made]
    for thread in threads:
        thread.start()
    try:
        yield made
    finally:
        stop.set()
        for thread in threads:
            thread.join(20)


def document(port: int) -> str:
    lines = "\n".join(
        f"  shop-{number}: {{service: shop, version: 1.0.0, pop: here, address: {host}}}"
        for number, host in enumerate(HOSTS, start=1)
    )
    return f"""
zones: {{mesh.internal: {{ns: [{{ns1.mesh.internal: [127.0.0.1]}}], contact: a@mesh.internal}}}}
pops: {{here: {{}}}}
ranges: {{127.0.0.0/8: here}}
services:
  shop: {{name: {NAME}, ports: {{http: {port}/tcp}}, ttl: {{min: 1, max: 4}}, slow_start: 0s}}
instances:
{lines}
"""


@pytest.fixture
def port(tmp_path: Path) -> int:
    return free_port()


@pytest.fixture
def meshd(tmp_path: Path, port: int) -> Iterator[Meshd]:
    made = Meshd(tmp_path)
    try:
        made.start_ready()
        made.apply(document(port))
        yield made
    finally:
        made.stop()


def busiest(made: list[Client]) -> str:
    """The host that most clients use first: stopping it is sure to be seen."""
    deadline = time.monotonic() + 20
    while any(not client.served for client in made):
        assert time.monotonic() < deadline, "not every client was served"
        time.sleep(0.05)
    firsts = [next(iter(client.served)) for client in made]
    return max(set(firsts), key=firsts.count)


def errors(made: list[Client]) -> list[str]:
    return [error for client in made for error in client.errors]


def stop(server: _Web) -> None:
    server.shutdown()
    server.server_close()


def test_nobody_notices_a_drained_instance_that_stops(meshd: Meshd, port: int) -> None:
    with servers(port) as running, clients(meshd, port) as made:
        host = busiest(made)
        name = f"shop-{HOSTS.index(host) + 1}"
        done = meshd.meshctl("instance", "drain", name, "--wait")
        assert done.returncode == 0, done.stderr
        assert "safe to stop at" in done.stdout
        stop(running[host])
        before = sum(sum(client.served.values()) for client in made)
        time.sleep(6)
        assert sum(sum(client.served.values()) for client in made) > before + _CLIENTS
    assert errors(made) == []


def test_clients_notice_one_that_stops_at_once(meshd: Meshd, port: int) -> None:
    """That the test above can fail: the same clients, without a drain."""
    with servers(port) as running, clients(meshd, port) as made:
        host = busiest(made)
        stop(running[host])
        deadline = time.monotonic() + 10
        while not errors(made) and time.monotonic() < deadline:
            time.sleep(0.05)
    assert any(error.startswith(host) for error in errors(made))


def test_a_drain_without_waiting_is_too_short(meshd: Meshd, port: int) -> None:
    """The time that is told is not there for nothing: answers live on after the drain."""
    with servers(port) as running, clients(meshd, port) as made:
        host = busiest(made)
        name = f"shop-{HOSTS.index(host) + 1}"
        assert meshd.meshctl("instance", "drain", name, "--notice", "0s").returncode == 0
        stop(running[host])
        time.sleep(3)
    assert errors(made) != []


def test_after_a_restart_of_the_core_everything_counts_as_answered(meshd: Meshd, port: int) -> None:
    done = meshd.meshctl("instance", "drain", "shop-1", "--wait")
    assert done.returncode == 0, done.stderr
    meshd.kill_core()
    with meshd.stubs() as (_, resolver, _):
        request = SafeToStopRequest(instance="shop-1")
        reply = resolver.SafeToStop(request, timeout=20, wait_for_ready=True)
    (told,) = reply.instances
    assert (told.verdict, told.is_answered) == ("draining", False)
    assert told.safe_in_s > 0
