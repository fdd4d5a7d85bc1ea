"""Programs' own stub resolvers as clients: glibc, Node (c-ares), aiodns (c-ares), Java.

They get the server by a mount namespace with a resolv.conf of its own, where they take no other.
"""

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.judge import wanted
from tests.integration.topology import running
from tests.servers.install import find
from tests.servers.processes import Meshd
from tests.servers.queries import Asker

pytestmark = pytest.mark.integration

# resolv.conf knows no ports, so this is port 53, of a loopback address that nobody uses.
SERVER = "127.0.77.53"
STUBS = Path(__file__).parent / "stubs"


@pytest.fixture(scope="module")
def meshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Meshd]:
    """meshd with a listener on port 53."""
    if os.geteuid() != 0:
        pytest.skip("port 53 and mount namespaces are for root")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((SERVER, 53))
        except OSError as error:
            pytest.skip(f"{SERVER} port 53: {error.strerror}")
    with running(tmp_path_factory.mktemp("stubs"), 1, dns=(SERVER, 53)) as made:
        yield made


@pytest.fixture
def expected(meshd: Meshd) -> list[str]:
    """The list for 127.0.0.1, from where all of them ask."""
    return wanted(meshd, Asker("127.0.0.1"))["A"]


@pytest.fixture
def targets(meshd: Meshd) -> list[str]:
    """The SRV targets for 127.0.0.1, without the dot at the end."""
    name = "_http._tcp.api.mesh.internal"
    done = meshd.meshctl("resolve", name, "--client", "127.0.0.1", "--type", "SRV", "--json")
    return sorted(line.split()[-1].rstrip(".") for line in json.loads(done.stdout)["answer"])


def run(folder: Path, *command: str | Path) -> str:
    """What a program prints that has meshd in its resolv.conf and nothing in its hosts."""
    (folder / "resolv.conf").write_text(f"nameserver {SERVER}\noptions timeout:2 attempts:2\n")
    (folder / "nsswitch.conf").write_text("hosts: dns\n")
    mounts = " && ".join(
        f"mount --bind {folder / name} /etc/{name}" for name in ("resolv.conf", "nsswitch.conf")
    )
    script = f'{mounts} && exec "$@"'
    done = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", *command],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_glibc(expected: list[str], folder: Path) -> None:
    """It sorts addresses anew (RFC 6724), but loses none."""
    found = json.loads(run(folder, sys.executable, STUBS / "glibc.py"))
    assert sorted(found["a"]) == sorted(found["mixedCase"]) == sorted(expected)
    assert len(found["api"]) == 8
    assert found["onlyA"] == ["192.0.2.7"]
    assert found["onlyAasAaaa"] in ("EAI_NODATA", "EAI_NONAME")
    assert found["emptyNonTerminal"] == "EAI_NODATA"
    assert found["missing"] == "EAI_NONAME"


def test_node(expected: list[str], targets: list[str], folder: Path) -> None:
    """c-ares keeps the order, and tells no data from no name."""
    if not find("node"):
        pytest.skip("node is not installed here")
    found = json.loads(run(folder, "node", STUBS / "node.js", f"{SERVER}:53"))
    assert found["a"] == found["mixedCase"] == expected
    assert len(found["aaaa"]) == 4
    assert found["onlyA"] == found["lookup"] == ["192.0.2.7"]
    assert found["onlyAasAaaa"] == found["emptyNonTerminal"] == "ENODATA"
    assert found["missing"] == "ENOTFOUND"
    assert sorted(found["srv"]) == [f"{target}:8080" for target in targets]
    # getaddrinfo again.
    assert sorted(found["lookupOrder"]) == sorted(expected)


def test_java(expected: list[str], targets: list[str], folder: Path) -> None:
    if not find("java"):
        pytest.skip("java is not installed here")
    lines = run(folder, "java", STUBS / "Stub.java", f"{SERVER}:53").splitlines()
    found = dict(line.split("=", 1) for line in lines)
    assert found["a"].split(",") == found["mixedCase"].split(",") == expected
    assert found["onlyA"] == found["lookup only.deep.mesh.internal"] == "192.0.2.7"
    assert found["onlyAasAaaa"] == found["emptyNonTerminal"] == ""
    assert found["missing"] == found["lookup none"] == "not found"
    assert sorted(line.split()[3].rstrip(".") for line in found["srv"].split(",")) == targets
    assert len(found["lookup api.mesh.internal"].split(",")) == 8


def test_aiodns(expected: list[str], targets: list[str]) -> None:
    aiodns = pytest.importorskip("aiodns")

    async def ask() -> dict[str, Any]:
        resolver = aiodns.DNSResolver(nameservers=[SERVER], timeout=2, tries=2)
        found: dict[str, Any] = {}
        for key, name, kind in (
            ("a", "api.mesh.internal", "A"),
            ("mixedCase", "ApI.MeSh.InTeRnAl", "A"),
            ("onlyA", "only.deep.mesh.internal", "A"),
            ("onlyAasAaaa", "only.deep.mesh.internal", "AAAA"),
            ("emptyNonTerminal", "deep.mesh.internal", "A"),
            ("missing", "none.mesh.internal", "A"),
            ("srv", "_http._tcp.api.mesh.internal", "SRV"),
        ):
            try:
                answer = await resolver.query_dns(name, kind)
                found[key] = [
                    getattr(record.data, "addr", None) or record.data.target
                    for record in answer.answer
                ]
                if kind == "SRV":
                    found[key] = sorted(found[key])
            except aiodns.error.DNSError as error:
                found[key] = error.args[0]
        await resolver.close()
        return found

    found = asyncio.run(ask())
    assert found["a"] == found["mixedCase"] == expected
    assert found["onlyA"] == ["192.0.2.7"]
    assert found["onlyAasAaaa"] == found["emptyNonTerminal"] == aiodns.error.ARES_ENODATA
    assert found["missing"] == aiodns.error.ARES_ENOTFOUND
    assert found["srv"] == targets
