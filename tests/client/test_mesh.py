"""A service as a program sees it: real instances, an answerer's DNS, and things that go away."""

import asyncio
import re
import ssl
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import dns.rcode
import httpx
import pytest

from meshd import client
from meshd.client import BlockingMesh, Denied, Mesh, Outcome, Strategy, Unresolved
from meshd.client.endpoint import Endpoint
from meshd.client.httpx import MeshTransport
from meshd.core.errors import Invalid
from tests.client.listener import listening
from tests.client.names import NAME, answering
from tests.client.places import Echo, echoes
from tests.client.test_calls import Notebook
from tests.client.test_pool import ask
from tests.client.web import webs
from tests.daemon.cores import core, until
from tests.servers.processes import ROOT


async def who(mesh: Mesh) -> str:
    async with mesh.connect() as connection:
        return await ask(connection)


async def test_calls_go_to_those_that_are_answered() -> None:
    async with (
        echoes() as made,
        answering(*(each.place for each in made)) as names,
        Mesh(NAME, dns=names.address, strategy=Strategy.ROUND_ROBIN) as mesh,
    ):
        found = Counter([await who(mesh) for _ in range(9)])
        assert set(found.values()) == {3}
        names.put(made[0].place)
        await until("it was told", lambda: len(mesh.endpoints) == 1)
        assert {await who(mesh) for _ in range(9)} == {"api-eu-1"}
        await until("its pools ended", lambda: made[1].open + made[2].open == 0)
        assert repr(mesh).startswith("<Mesh api.mesh.internal: <Resolver 1 endpoints>, <Calls")


async def test_the_next_tier_only_if_none_of_the_first_is_left() -> None:
    async with echoes() as made:
        made[2].pop = "us"
        async with (
            answering(*(each.place for each in made)) as names,
            Mesh(NAME, dns=names.address) as mesh,
        ):
            assert {await who(mesh) for _ in range(20)} == {"api-eu-1", "api-eu-2"}
            await made[0].stop()
            assert {await who(mesh) for _ in range(20)} == {"api-eu-2"}
            await made[1].stop()
            assert {await who(mesh) for _ in range(20)} == {"api-eu-3"}


async def test_nothing_stops_it_once_it_has_a_list() -> None:
    async with echoes() as made, answering(*(each.place for each in made)) as names:
        async with Mesh(NAME, dns=names.address, patience_s=0.5) as mesh:
            names.rcode = dns.rcode.NXDOMAIN
            await until("it is stale", lambda: mesh.is_stale)
            assert await who(mesh)
            names.stop()
            await asyncio.sleep(1.5)
            assert {await who(mesh) for _ in range(20)} == {each.name for each in made}
        with pytest.raises(Unresolved):
            async with Mesh(NAME, dns=names.address):
                pass


async def test_a_name_that_is_not_there() -> None:
    async with answering() as names:
        with pytest.raises(Denied):
            async with Mesh("none.mesh.internal", dns=names.address):
                pass


def test_wrong_ways_are_told_at_once() -> None:
    wrong: dict[str, Any] = {"dsn": "127.0.0.1", "ports": 1}
    for make in (Mesh, BlockingMesh):
        with pytest.raises(TypeError, match="unexpected: dsn, ports"):
            make(NAME, **wrong)
    with pytest.raises(TypeError, match="unexpected: dsn"):
        MeshTransport(**wrong)
    with pytest.raises(Invalid, match="ns1"):
        MeshTransport(dns=["ns1", "127.0.0.1"])


async def test_who_finds_no_connection_asks_again_at_once() -> None:
    async with (
        echoes(2) as made,
        answering(made[0].place) as names,
        Mesh(NAME, dns=names.address) as mesh,
    ):
        await asyncio.sleep(0.1)
        before = len(names.asked)
        await made[0].stop()
        names.put(made[1].place)
        with pytest.raises(OSError):
            await who(mesh)
        await until("it asked", lambda: len(names.asked) > before)
        await until("it was told", lambda: mesh.endpoints[0].instance == "api-eu-2")
        assert await who(mesh) == "api-eu-2"


async def test_pick_is_for_any_protocol() -> None:
    async with echoes(1) as made, answering(made[0].place) as names:
        notebook = Notebook()
        async with Mesh(f"{NAME}.", dns=names.address, report=notebook) as mesh:
            with mesh.pick() as endpoint:
                assert (endpoint.address, endpoint.port) == ("127.0.1.1", made[0].port)
            with pytest.raises(TimeoutError), mesh.pick():
                raise TimeoutError
        told = [line[0] for line in notebook.lines]
        assert told == ["began", "OK", "began", "TIMEOUT"]


async def test_a_core_is_asked_instead_of_dns(tmp_path: Path) -> None:
    async with core(tmp_path) as made:
        await made.apply()
        async with Mesh(NAME, cores=made.address, client="10.2.0.7") as mesh:
            assert mesh.endpoints[0].instance == "api-us-2"


async def test_calls_are_reported(tmp_path: Path) -> None:
    async with echoes(1) as made, answering(made[0].place) as names, listening(tmp_path) as heard:
        async with Mesh(NAME, dns=names.address, report=heard.address) as mesh:
            for _ in range(5):
                await who(mesh)
            await made[0].stop()
            with pytest.raises(OSError):
                await who(mesh)
        assert heard.attempts("api-eu-1") == 6
        outcomes = [each for batch in heard.batches for each in batch.outcomes]
        assert sum(each.connect_errors for each in outcomes) == 1


def certificate(path: Path) -> tuple[Path, Path]:
    """A certificate of the service's name, signed by itself."""
    key, cert = path / "key.pem", path / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-keyout", key, "-out", cert, "-days", "2", "-subj", f"/CN={NAME}",
         "-addext", f"subjectAltName=DNS:{NAME}"],
        check=True, capture_output=True,
    )  # fmt: skip
    return key, cert


async def test_tls_is_spoken_as_the_service(tmp_path: Path) -> None:
    key, cert = certificate(tmp_path)
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    served.load_cert_chain(cert, key)
    echo = Echo("api-eu-1", "127.0.1.1", tls=served)
    await echo.start()
    try:
        async with answering(echo.place) as names:
            trusting = ssl.create_default_context(cafile=cert)
            async with Mesh(NAME, dns=names.address, tls=trusting) as mesh:
                assert await who(mesh) == "api-eu-1"
            async with Mesh(NAME, dns=names.address, tls=ssl.create_default_context()) as mesh:
                with pytest.raises(ssl.SSLCertVerificationError):
                    await who(mesh)
    finally:
        await echo.stop()


async def test_without_asyncio() -> None:
    async with echoes(2) as made, answering(*(each.place for each in made)) as names:

        def program() -> set[str]:
            notebook = Notebook()
            with BlockingMesh(NAME, dns=names.address, report=notebook) as mesh:
                assert len(mesh.endpoints) == 2
                assert not mesh.is_stale
                assert repr(mesh).startswith("<Mesh")
                picked: set[Endpoint] = set()
                for _ in range(50):
                    with mesh.pick() as endpoint:
                        picked.add(endpoint)
                with pytest.raises(ConnectionRefusedError), mesh.pick():
                    raise ConnectionRefusedError
            assert notebook.lines[-1][0] == Outcome.CONNECT_ERROR.name
            with pytest.raises(Denied), BlockingMesh("none.mesh.internal", dns=names.address):
                pass
            return {each.instance for each in picked}

        assert await asyncio.to_thread(program) == {"api-eu-1", "api-eu-2"}


def test_it_needs_no_more_than_it_says() -> None:
    """dnspython, grpcio and protobuf; httpx only where it is named."""
    code = """
import sys
for name in ("aiohttp", "click", "httpx", "pydantic", "rich", "uvloop", "yaml"):
    sys.modules[name] = None
import meshd.client, meshd.client.grpc
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert (done.returncode, done.stderr) == (0, "")


def readme() -> dict[str, Any]:
    """What the README's functions are made of."""
    text = (ROOT / "README.md").read_text()
    blocks = re.findall(r"```python\n(async def .*?)```", text, re.DOTALL)
    assert len(blocks) == 3
    return {
        "code": "\n".join(blocks),
        **vars(client),
        "MeshTransport": MeshTransport,
        "httpx": httpx,
        "print": lambda *_: None,
    }


async def test_the_readme_works(tmp_path: Path) -> None:
    async with (
        echoes(2) as made,
        webs(1) as (web,),
        answering(*(each.place for each in made)) as names,
        listening(tmp_path) as heard,
    ):
        known = readme()
        code = known["code"].replace("127.0.0.1:5300", names.address)
        exec(code.replace("127.0.0.1:7700", heard.address), known)
        for strategy in Strategy:
            assert (await known["ask"](b"x\n", strategy)).endswith(b" x\n")
        replies = await known["ask_often"]([b"1\n", b"2\n"])
        assert [reply.split()[1] for reply in replies] == [b"1", b"2"]
        assert sum(map(heard.attempts, ["api-eu-1", "api-eu-2"])) == 3
        names.put(web.place)
        assert await known["get"]("/") == "api-eu-1"
