"""Each program of examples/any_language.md, with meshd in resolv.conf and a dead first instance."""

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dns.message
import dns.query
import pytest

from tests.servers.install import find
from tests.servers.processes import ROOT, Meshd, Server, free_port, wait_until
from tests.servers.queries import addresses

pytestmark = pytest.mark.integration

# resolv.conf knows no ports, so this is port 53, of a loopback address that nobody uses.
SERVER = "127.0.78.53"
NAME = "api.mesh.internal"
HOSTS = {f"api-{number}": f"127.0.78.{number}" for number in range(1, 4)}
PAGE = (ROOT / "examples/any_language.md").read_text()
# What a block is saved as, and what runs it.
RUNS = {
    "sh": ("program.sh", ("bash", "-e")),
    "go": ("main.go", ("go", "run")),
    "java": ("Client.java", ("java",)),
    "js": ("program.js", ("node",)),
    "python": ("program.py", (sys.executable,)),
}
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", PAGE, re.DOTALL)


def _answer() -> list[str]:
    """The addresses that this machine is answered."""
    return addresses(dns.query.udp(dns.message.make_query(NAME, "A"), SERVER, timeout=5))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, str]]:
    """The port of three instances, and the name of one that answers second to a dead one."""
    if os.geteuid() != 0:
        pytest.skip("port 53 and mount namespaces are for root")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((SERVER, 53))
        except OSError as error:
            pytest.skip(f"{SERVER} port 53: {error.strerror}")
    folder = tmp_path_factory.mktemp("any")
    port = free_port()
    servers = {name: _instance(folder, name, port) for name in HOSTS}
    meshd = Meshd(folder, 1, "--dns", f"{SERVER}:53")
    try:
        meshd.start_ready()
        meshd.apply(_document(port))
        # The answerer learns of the document a moment after the core.
        wait_until("it answers", lambda: bool(_answer()))
        first = _answer()[0]
        dead = next(name for name, host in HOSTS.items() if host == first)
        for name, server in servers.items():
            if name != dead:
                server.start()
                wait_until(f"{name} listens", lambda: _listens(HOSTS[name], port))  # noqa: B023
        yield port, dead
    finally:
        meshd.stop()
        for server in servers.values():
            server.kill()


def _instance(folder: Path, name: str, port: int) -> Server:
    stub = ROOT / "tests/integration/stubs/web.py"
    return Server(name, [sys.executable, "-S", stub, HOSTS[name], str(port), name], folder)


def _listens(host: str, port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((host, port)) == 0


def _document(port: int) -> str:
    listed = "\n".join(
        f"  {name}: {{service: api, version: 1.0.0, pop: here, address: {host}}}"
        for name, host in HOSTS.items()
    )
    return f"""
zones: {{mesh.internal: {{ns: [{{ns1.mesh.internal: [127.0.0.1]}}], contact: a@mesh.internal}}}}
pops: {{here: {{}}}}
ranges: {{127.0.0.0/8: here}}
services: {{api: {{name: {NAME}, ports: {{http: {port}/tcp}}}}}}
instances:
{listed}
"""


def run(folder: Path, *command: str | Path) -> str:
    """What a program prints that has meshd in its resolv.conf."""
    (folder / "resolv.conf").write_text(f"nameserver {SERVER}\noptions timeout:2 attempts:2\n")
    script = f'mount --bind {folder}/resolv.conf /etc/resolv.conf && exec "$@"'
    done = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", *command],
        capture_output=True, text=True, timeout=150, check=False, cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("number", range(len(BLOCKS)), ids=[language for language, _ in BLOCKS])
def test_a_program_of_the_page(number: int, place: tuple[int, str], folder: Path) -> None:
    language, text = BLOCKS[number]
    port, dead = place
    file, command = RUNS[language]
    needed = {command[0], *(word for word in ("curl", "dig") if f"{word} " in text)}
    missing = [program for program in needed if not find(program)]
    if missing:
        pytest.skip(f"not installed here: {', '.join(missing)}")
    (folder / file).write_text(text.replace("8080", str(port)))
    # More than once: a draw by weight may spare the dead one.
    told = {run(folder, *command, folder / file) for _ in range(2)}
    assert told <= {f"{name}\n" for name in HOSTS if name != dead}, "one that lives was reached"
