"""The programs in examples/ against a real meshd: a service, and clients that call it."""

import json
import os
import re
import signal
import sys
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.servers.processes import ROOT, Meshd, Server, free_port, wait_until
from tests.servers.queries import Asker, addresses

pytestmark = pytest.mark.integration

NAME = "api.mesh.internal"
HOSTS = {f"api-{number}": f"127.0.79.{number}" for number in range(1, 4)}
DOCUMENT = f"""
zones: {{mesh.internal: {{ns: [{{ns1.mesh.internal: [127.0.0.1]}}], contact: a@mesh.internal}}}}
pops: {{here: {{}}}}
ranges: {{127.0.0.0/8: here}}
services: {{api: {{name: {NAME}, ports: {{http: 80/tcp}}, ttl: {{min: 1, max: 3}}}}}}
"""


@pytest.fixture
def meshd(folder: Path) -> Iterator[Meshd]:
    made = Meshd(folder, 1)
    try:
        made.start_ready()
        made.apply(DOCUMENT)
        yield made
    finally:
        made.stop()


@contextmanager
def services(folder: Path, meshd: Meshd, port: int) -> Iterator[dict[str, Server]]:
    """examples/service.py, once for each host; back when all are answered."""
    servers = {}
    for name, host in HOSTS.items():
        told = ["--name", name, "--version", "1.2.0", "--address", host, "--port", str(port)]
        program: list[str | Path] = [sys.executable, ROOT / "examples/service.py"]
        servers[name] = Server(name, [*program, "--core", meshd.grpc, *told], folder)
    try:
        for server in servers.values():
            server.start()
        wait_until("all are answered", lambda: answered(meshd) == set(HOSTS.values()), 40)
        yield servers
    finally:
        for server in servers.values():
            server.kill()


def answered(meshd: Meshd) -> set[str]:
    return set(addresses(Asker("127.0.0.1").ask(meshd.dns_port, NAME)))


def load(meshd: Meshd, name: str) -> float:
    """The load that the core knows of an instance."""
    done = meshd.meshctl("top", "--once", "--json")
    assert done.returncode == 0, done.stderr
    (service,) = json.loads(done.stdout)["services"]
    (told,) = [each for each in service["instances"] if each["instance"] == name]
    return float(told["load"])


def test_service(folder: Path, meshd: Meshd) -> None:
    """It is answered, its load is told, and it goes without an error for anybody."""
    port = free_port()
    with services(folder, meshd, port) as servers:
        name, host = next(iter(HOSTS.items()))
        url = f"http://{host}:{port}/?work=6"
        with ThreadPoolExecutor(6) as pool:
            busy = [pool.submit(urllib.request.urlopen, url, timeout=20) for _ in range(6)]
            wait_until("the load is told", lambda: load(meshd, name) >= 0.7)
            assert all(each.result().read() == f"{name}\n".encode() for each in busy)
        os.kill(servers[name].pid, signal.SIGTERM)
        wait_until("it has ended", lambda: not servers[name].is_running, 40)
        assert servers[name].stop() == 0
        assert host not in answered(meshd)
        assert re.search(r"registered at .*, draining", servers[name].tail())
