"""The bridge on a real unix socket: one line in, exactly one line out."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop

from meshd.answerer.bridge import Bridge, BridgeServer
from meshd.answerer.state import State
from meshd.core.model import Force, Override
from meshd.core.snapshot import Snapshot
from meshd.core.topology import Change, Topology
from tests import samples
from tests.samples import LOCAL


def bridge(*, empty: bool = False) -> tuple[Bridge, State]:
    state = State()
    made = Bridge(state, LOCAL)
    if not empty:
        state.swap(samples.snapshot())
    return made, state


def lookup(made: Bridge, name: str, kind: str = "ANY", **parameters: str) -> Any:
    asked = {"qname": name, "qtype": kind, "remote": "127.0.0.1", **parameters}
    line = json.dumps({"method": "lookup", "parameters": asked}).encode()
    first, second = made.reply(line), made.reply(line)
    assert first == second
    assert first.endswith(b"\n")
    assert first.count(b"\n") == 1
    return json.loads(first)


def test_rows_of_a_client() -> None:
    made, _ = bridge()
    for real, prefix in (("10.1.9.0/24", "10.1."), ("10.2.0.5/32", "10.2.")):
        rows = lookup(made, "ApI.mesh.internal.", **{"real-remote": real})["result"]
        assert {row["qname"] for row in rows} == {"ApI.mesh.internal."}
        assert {row["qtype"] for row in rows} == {"A", "AAAA", "TXT", "HTTPS"}
        found = [row["content"] for row in rows if row["qtype"] == "A"]
        assert len(found) == 4
        assert all(address.startswith(prefix) for address in found)
        assert {row["scopeMask"] for row in rows} == {int(real.partition("/")[2])}
        assert {row["auth"] for row in rows} == {1}


def test_a_stranger_cannot_choose_its_client() -> None:
    made, _ = bridge()
    rows = lookup(
        made, "api.mesh.internal.", "A", remote="10.2.0.5", **{"real-remote": "10.1.0.0/24"}
    )["result"]
    assert all(row["content"].startswith("10.2.") for row in rows)


def test_every_row_that_depends_on_the_client_is_scoped() -> None:
    """Also where there is no client, and where one instance is all there is (design 5.1)."""
    made, _ = bridge()
    for name in ("api.mesh.internal.", "old.deep.mesh.internal.", "x.apps.mesh.internal."):
        for real in ("0.0.0.0/0", "10.1.0.0/16", "2001:db8::/32"):
            rows = lookup(made, name, **{"real-remote": real})["result"]
            assert rows
            assert all(row["scopeMask"] >= 1 for row in rows)


def test_static_rows_are_not_scoped() -> None:
    made, _ = bridge()
    for name in ("mesh.internal.", "ns1.mesh.internal."):
        assert {row["scopeMask"] for row in lookup(made, name)["result"]} == {0}


def test_empty_names_and_missing_names() -> None:
    made, _ = bridge()
    (row,) = lookup(made, "_tcp.api.mesh.internal.")["result"]
    assert (row["qtype"], row["content"]) == ("", "")
    assert lookup(made, "none.mesh.internal.")["result"] == []
    assert lookup(made, "api.mesh.internal.", "NS")["result"] == []
    assert lookup(made, "www.example.com.")["result"] == []


def test_domains() -> None:
    made, _ = bridge()
    (zone,) = json.loads(made.reply(b'{"method":"getAllDomains","parameters":{}}'))["result"]
    assert (zone["zone"], zone["kind"], zone["serial"]) == ("mesh.internal.", "native", 7)
    ask = b'{"method":"getDomainInfo","parameters":{"name":"Mesh.internal."}}'
    assert json.loads(made.reply(ask))["result"] == zone
    ask = b'{"method":"getDomainInfo","parameters":{"name":"example.com."}}'
    assert json.loads(made.reply(ask))["result"] is False
    for method in ("list", "getDomainKeys", "feedRecord", "getTSIGKey"):
        line = json.dumps({"method": method, "parameters": {}}).encode()
        assert json.loads(made.reply(line)) == {"result": False}


def test_failures_have_no_result() -> None:
    """`false` or `[]` would be a cached NXDOMAIN or an emptied zone list; no result is SERVFAIL."""
    made, state = bridge(empty=True)
    ask = b'{"method":"lookup","parameters":{"qname":"api.mesh.internal.","qtype":"ANY"}}'
    domains = b'{"method":"getAllDomains","parameters":{}}'
    assert "result" not in json.loads(made.reply(ask))
    assert "result" not in json.loads(made.reply(domains))
    state.swap(Snapshot.build(Topology("empty", 1)))
    assert "result" not in json.loads(made.reply(domains))
    for line in (b"", b"{", b"[]", b'{"method":1}', b'{"method":"lookup"}', b"\xff\xfe"):
        assert "result" not in json.loads(made.reply(line))


def test_a_swap_shows_at_once() -> None:
    made, state = bridge()
    before = lookup(made, "old.deep.mesh.internal.")["result"]
    assert state.snapshot is not None
    state.swap(state.snapshot.advance([Change.put(Override("old-1", Force.DRAIN))], 8))
    after = lookup(made, "old.deep.mesh.internal.")["result"]
    assert [row["ttl"] for row in before] == [60, 60]
    assert [row["ttl"] for row in after] == [5, 5]


@asynccontextmanager
async def served(tmp_path: Path) -> AsyncIterator[Path]:
    made, _ = bridge()
    path = tmp_path / "bridge.sock"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
        sock.listen()
        server = BridgeServer(sock, made)
        await server.start()
        yield path
        server.stop()


ASK = b'{"method":"initialize","parameters":{}}\n'


async def talk(path: Path) -> None:
    reader, writer = await asyncio.open_unix_connection(str(path))
    async with asyncio.timeout(5):
        writer.write(ASK + ASK[:10])
        assert json.loads(await reader.readline()) == {"result": True}
        writer.write(ASK[10:] + b"garbage\n" + ASK)
        assert json.loads(await reader.readline()) == {"result": True}
        assert "result" not in json.loads(await reader.readline())
        assert json.loads(await reader.readline()) == {"result": True}
        writer.write(b"x" * 100_000)
        assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()


async def test_lines_in_pieces_and_too_long(tmp_path: Path) -> None:
    async with served(tmp_path) as path:
        await talk(path)


def test_under_uvloop_as_in_production(tmp_path: Path) -> None:
    async def run() -> None:
        async with served(tmp_path) as path:
            await talk(path)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    from meshd.answerer import bridge as module

    monkeypatch.setattr(module, "_MAX_LINES", 20)
    monkeypatch.setattr(module, "_MAX_ROWS", 30)
    made, state = bridge()
    for number in range(200):
        lookup(made, "api.mesh.internal.", **{"real-remote": f"10.2.0.{number}/32"})
    assert state.snapshot is not None
    stored = sum(len(kept) for kept in state.snapshot.views["api"].replies.values())
    assert 0 < stored <= 30
    assert 0 < len(made._lines) <= 20
