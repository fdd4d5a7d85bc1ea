"""The bridge on a real unix socket: one line in, exactly one line out."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import uvloop

from meshd.answerer.bridge import Bridge, BridgeServer
from meshd.answerer.state import State
from meshd.core.model import Force, Override, Pop, Prefix, Range, Service, Zone
from meshd.core.release import Phase, Scope
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


def test_scopes_of_versions_in_motion() -> None:
    """As narrow as what tells clients apart, and no narrower."""
    made, state = bridge(empty=True)
    kept = [r for r in samples.RECORDS if isinstance(r, Zone | Pop | Service)]
    nets = ("10.1.0.0/16", "10.1.7.0/24", "10.1.9.0/24")
    # One instance, so that nothing else tells clients apart.
    records = [*kept, *(Range(Prefix.parse(net), "eu") for net in nets), samples.instance("eu", 1)]
    rollout = replace(samples.ROLLOUT, scope=Scope((), ("10.1.7.0/24",)))
    state.swap(Snapshot.build(Topology.load("x", 1, [*records, rollout])))

    def scope(client: str) -> int:
        rows = lookup(made, "api.mesh.internal.", "A", **{"real-remote": client})["result"]
        (found,) = {row["scopeMask"] for row in rows}
        return int(found)

    assert [scope(client) for client in ("10.1.7.9/32", "10.1.6.9/32", "10.1.9.9/32")] == [
        32, 24, 21
    ]  # fmt: skip
    assert state.snapshot is not None
    state.swap(state.snapshot.advance([Change.put(replace(rollout, step=1))], 2))
    assert [scope(client) for client in ("10.1.7.9/32", "10.1.6.9/32")] == [24, 24]
    state.swap(state.snapshot.advance([Change.put(replace(rollout, phase=Phase.HELD))], 3))
    assert scope("10.1.7.9/32") == 16


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
    # A store in which there is nothing yet is no failure: PowerDNS would not start beside it.
    state.swap(Snapshot.build(Topology("empty", 1)))
    assert json.loads(made.reply(domains)) == {"result": []}
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


def whole(made: Bridge, name: str, qtype: int, **parameters: str) -> Any:
    asked = {"qname": name, "qtype": qtype, "remote": "127.0.0.1", **parameters}
    line = json.dumps({"method": "answer", "parameters": asked}).encode()
    first, second = made.reply(line), made.reply(line)
    assert first == second
    return json.loads(first)["result"]


def test_a_whole_answer_is_the_rows_of_its_type() -> None:
    made, _ = bridge()
    for client, prefix in (("10.1.0.0/16", "10.1."), ("10.2.0.9/32", "10.2.")):
        rows = lookup(made, "API.mesh.internal.", "A", **{"real-remote": client})["result"]
        found = whole(made, "API.mesh.internal.", 1, **{"real-remote": client})
        wanted = [f"API.mesh.internal. {row['ttl']} IN A {row['content']}" for row in rows]
        assert found["answer"] == wanted
        assert len(wanted) == 4
        assert all(f" A {prefix}" in record for record in wanted)
        assert found["rcode"] == 0
        assert found["scope"] == rows[0]["scopeMask"] > 0


def test_a_whole_answer_for_a_source_has_no_scope() -> None:
    made, _ = bridge()
    for address in ("127.0.0.1", "10.1.0.9"):
        assert whole(made, "api.mesh.internal.", 1, remote=address)["scope"] == 0
    stranger = {"remote": "10.1.0.9", "real-remote": "10.2.0.0/16"}
    found = whole(made, "api.mesh.internal.", 1, **stranger)
    assert found["scope"] == 0
    assert all(" A 10.1." in record for record in found["answer"])


def test_whole_answers_of_each_kind() -> None:
    made, state = bridge()
    assert whole(made, "www.example.com.", 1)["rcode"] == 5
    for name, qtype, rcode in (("api.mesh.internal.", 15, 0), ("no.mesh.internal.", 1, 3)):
        found = whole(made, name, qtype)
        assert (found["rcode"], found["answer"]) == (rcode, [])
        assert found["authority"][0].startswith("mesh.internal. 5 IN SOA ns1.mesh.internal. ")
    found = whole(made, "_http._tcp.api.mesh.internal.", 33)
    targets = {record.split()[-1] for record in found["answer"]}
    assert targets == {record.split()[0] for record in found["additional"]}
    assert whole(made, "api.mesh.internal.", 255)["answer"][0].endswith('HINFO "RFC8482" ""')
    assert whole(made, "mesh.internal.", 6)["answer"][0].startswith("mesh.internal. ")
    assert whole(made, "old.deep.mesh.internal.", 16)["answer"][0].count('"') >= 2
    assert state.snapshot is not None


def test_a_whole_negative_answer_has_the_serial_of_its_revision() -> None:
    made, state = bridge()
    before = whole(made, "api.mesh.internal.", 15)["authority"][0].split()[-5]
    assert state.snapshot is not None
    state.swap(state.snapshot.advance([Change.put(Override("api-us-1", Force.DOWN))], 8))
    after = whole(made, "api.mesh.internal.", 15)["authority"][0].split()[-5]
    assert (before, after) == ("7", "8")


@pytest.mark.parametrize(
    "parameters",
    [{}, {"qname": "a."}, {"qname": "a.", "qtype": "A"}, {"qname": 1, "qtype": 1},
     {"qname": "a.", "qtype": 65536}, {"qname": "a.", "qtype": 1, "remote": "x"}],
)  # fmt: skip
def test_questions_of_wrong_form_fail(parameters: dict[str, Any]) -> None:
    made, _ = bridge()
    line = json.dumps({"method": "answer", "parameters": parameters}).encode()
    assert "result" not in json.loads(made.reply(line))


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
