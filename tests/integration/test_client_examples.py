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
services: {{api: {{name: {NAME}, ports: {{http: 80/tcp, grpc: 81/tcp}}, ttl: {{min: 1, max: 3}}}}}}
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


@contextmanager
def client(folder: Path, meshd: Meshd, program: str, *told: str) -> Iterator[Server]:
    """A program of examples/ that calls a hundred times; it must end by itself."""
    command: list[str | Path] = [sys.executable, ROOT / "examples" / program, *told]
    where = ["--dns", f"127.0.0.1:{meshd.dns_port}", "--core", meshd.grpc]
    server = Server(program, [*command, *where, "--count", "100", "--every", "0.05"], folder)
    try:
        server.start()
        yield server
        wait_until(f"{program} has ended", lambda: not server.is_running, 60)
        assert server.stop() == 0, server.tail()
    finally:
        server.kill()


def assert_heard(meshd: Meshd) -> None:
    """The core heard of a hundred calls, and of those that were made again."""
    with urllib.request.urlopen(f"http://{meshd.http}/metrics", timeout=5) as reply:
        (found,) = re.findall(r"^meshd_outcomes_total (\S+)", reply.read().decode(), re.MULTILINE)
    assert 100 <= float(found) <= 110


def test_http_client(folder: Path, meshd: Meshd) -> None:
    """It goes on when one of three instances is killed, and the core hears of its calls."""
    with services(folder, meshd, free_port()) as servers:
        with client(folder, meshd, "http_client.py", f"http://{NAME}/") as program:
            wait_until("two were called", lambda: len(set(program.log.read_text().split())) > 2)
            victim = program.log.read_text().split()[-1]
            servers[victim].kill()
        lines = program.log.read_text().splitlines()
        assert len(lines) == 100
        assert all(line.startswith("200 api-") for line in lines), lines
        assert lines[-1] != f"200 {victim}"
    assert_heard(meshd)


def test_grpc_client(folder: Path, meshd: Meshd) -> None:
    """The same for a channel over three servers that have nothing of meshd."""
    port = free_port()
    stub = ROOT / "tests/integration/stubs/health.py"
    servers = [
        Server(name, [sys.executable, stub, host, str(port)], folder)
        for name, host in HOSTS.items()
    ]
    instances = "\n".join(
        f"  {name}: {{service: api, version: 1.0.0, pop: here, address: {host}, "
        f"ports: {{grpc: {port}}}}}"
        for name, host in HOSTS.items()
    )
    meshd.apply(f"{DOCUMENT}instances:\n{instances}\n")
    try:
        for server in servers:
            server.start()
        with client(folder, meshd, "grpc_client.py", NAME) as program:
            wait_until("all were called", lambda: all("check" in s.tail() for s in servers))
            servers[0].kill()
        assert program.log.read_text().splitlines() == ["SERVING"] * 100
    finally:
        for server in servers:
            server.kill()
    assert_heard(meshd)
