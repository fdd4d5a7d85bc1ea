"""Every kind of probe against real servers on loopback, and every way to fail."""

import asyncio
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import grpc
import pytest
from aiohttp import web
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from meshd import __version__
from meshd.core.model import Check, Expected
from meshd.daemon.probes.kinds import BODY_LIMIT, PASSED, Kinds, Outcome, Result
from tests.servers.processes import free_port
from tests.tcp import Talk, TcpServer

LOCAL = ip_address("127.0.0.1")
HTTP = Check("http", "/healthz", every_s=60, timeout_s=20)
HTTPS = replace(HTTP, kind="https")
TCP = replace(HTTP, kind="tcp")
GRPC = replace(HTTP, kind="grpc", path="")


async def probe(check: Check, port: int, address: Any = LOCAL) -> Result:
    async with Kinds() as kinds:
        return await kinds.probe(check, address, port)


@asynccontextmanager
async def peer(
    talk: Talk, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
) -> AsyncIterator[int]:
    """A server that talks as told; its port."""
    async with TcpServer(talk, host, tls) as made:
        yield made.port


def says(reply: bytes) -> Talk:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(reply)
        await writer.drain()

    return talk


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


@asynccontextmanager
async def site(answer: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> Any:
    """An HTTP server; its port."""
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=1)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield port
    finally:
        await runner.cleanup()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    folder: Path = tmp_path_factory.mktemp("tls")
    key, cert = folder / "key.pem", folder / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-nodes", "-days", "1", "-subj", "/CN=nobody.example", "-keyout", key, "-out", cert],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    return context


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nyes"


async def test_tcp() -> None:
    async with peer(silent) as port:
        assert await probe(TCP, port) == PASSED
    async with peer(silent, "::1") as port:
        assert await probe(TCP, port, ip_address("::1")) == PASSED


@pytest.mark.parametrize("check", [TCP, HTTP, HTTPS, GRPC], ids=lambda check: check.kind)
async def test_nobody_listens(check: Check) -> None:
    assert await probe(check, free_port()) == (Outcome.REFUSED, "connection refused")


@pytest.mark.parametrize("check", [HTTP, HTTPS, GRPC], ids=lambda check: check.kind)
async def test_nothing_is_said(check: Check) -> None:
    async with peer(silent) as port:
        result = await probe(replace(check, timeout_s=0.3), port)
    assert result == (Outcome.TIMED_OUT, "nothing within 0.3 s")


async def test_a_body_that_never_ends_is_cut_by_the_timeout() -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n")
        while not reader.at_eof():
            writer.write(b".")
            await writer.drain()
            await asyncio.sleep(0.01)

    async with peer(drip) as port:
        check = replace(HTTP, timeout_s=0.3, expected=Expected(body="yes"))
        assert (await probe(check, port)).outcome is Outcome.TIMED_OUT


@pytest.mark.parametrize(
    ("status", "statuses", "passed"),
    [
        (200, ((200, 299),), True),
        (204, ((200, 299),), True),
        (299, ((200, 299),), True),
        (302, ((200, 299),), False),
        (302, ((200, 299), (302, 302)), True),
        (404, ((200, 299),), False),
        (503, ((200, 299),), False),
        (503, ((503, 503),), True),
    ],
)
async def test_status(status: int, statuses: tuple[tuple[int, int], ...], passed: bool) -> None:
    async with peer(says(b"HTTP/1.1 %d Some words\r\nContent-Length: 0\r\n\r\n" % status)) as port:
        result = await probe(replace(HTTP, expected=Expected(statuses)), port)
    assert result == (PASSED if passed else (Outcome.STATUS, f"status {status}"))


BODIES = [
    (b"all is well", True),
    (b"." * (BODY_LIMIT - 4) + b"well", True),
    (b"." * (BODY_LIMIT - 3) + b"well", False),
    (b"." * 10_000_000, False),
    (b"we" + b"ll", True),
    (b"", False),
]


@pytest.mark.parametrize(("body", "passed"), BODIES)
async def test_body(body: bytes, passed: bool) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body))
        writer.write(body[:2])
        await writer.drain()
        await asyncio.sleep(0.02)
        writer.write(body[2:])
        await writer.drain()

    async with peer(talk) as port:
        result = await probe(replace(HTTP, expected=Expected(body="well")), port)
    assert result == (PASSED if passed else (Outcome.BODY, "the body lacks the expected text"))


async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    # Bounded all the same: ten times what may be read of it.
    for _ in range(10 * BODY_LIMIT // 64):
        writer.write(b"40\r\n" + b"." * 64 + b"\r\n")
        await writer.drain()
        await asyncio.sleep(0)
    await reader.read()


async def test_a_body_without_end() -> None:
    """Not read if nobody asked for it, and no further than the limit if somebody did."""
    async with peer(endless) as port:
        assert await probe(HTTP, port) == PASSED
        result = await probe(replace(HTTP, expected=Expected(body="well")), port)
        assert result.outcome is Outcome.BODY


async def test_a_redirect_is_a_status_and_is_not_followed() -> None:
    knocks = []

    async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        knocks.append(1)

    async with peer(count) as inside:
        reply = b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:%d/\r\n\r\n" % inside
        async with peer(says(reply)) as port:
            assert await probe(HTTP, port) == (Outcome.STATUS, "status 302")
            found = replace(HTTP, expected=Expected(((302, 302),)))
            assert await probe(found, port) == PASSED
        await asyncio.sleep(0.1)
    assert knocks == []


async def test_what_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """One request on a connection of its own, without proxy, cookies or credentials."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    seen: list[tuple[str, dict[str, str], Any]] = []

    async def answer(request: web.Request) -> web.Response:
        assert request.transport is not None
        peername = request.transport.get_extra_info("peername")
        seen.append((request.raw_path, dict(request.headers), peername))
        return web.Response(headers={"Set-Cookie": "a=b"})

    async with site(answer) as port, Kinds() as kinds:
        check = replace(HTTP, path="/health z?deep=1&x=@", host="api.example:8080")
        for _ in range(2):
            assert await kinds.probe(check, LOCAL, port) == PASSED
        assert await kinds.probe(HTTP, LOCAL, port) == PASSED
        assert await kinds.probe(replace(HTTP, path="//evil/../x#y"), LOCAL, port) == PASSED
    assert [path for path, _, _ in seen[:3]] == ["/health%20z?deep=1&x=@"] * 2 + ["/healthz"]
    first = seen[0][1]
    assert first["Host"] == "api.example:8080"
    assert seen[2][1]["Host"] == f"127.0.0.1:{port}"
    assert first["User-Agent"] == f"meshd/{__version__}"
    assert set(first) == {"Host", "User-Agent", "Accept", "Accept-Encoding", "Connection"}
    assert first["Connection"] == "close"
    assert all(headers.keys() == first.keys() for _, headers, _ in seen)
    assert len({peername for *_, peername in seen}) == 4


@pytest.mark.parametrize(
    "reply",
    [b"", b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 abc\r\n\r\n", b"HTTP/1.1 200 OK\r\n\0: \r\n\r\n",
     b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n", b"\xff" * 5000],
)  # fmt: skip
async def test_what_is_no_http(reply: bytes) -> None:
    async with peer(says(reply)) as port:
        result = await probe(HTTP, port)
    assert result.outcome is Outcome.PROTOCOL, result
    assert len(result.reason) < 100
    assert "SSH" not in result.reason


async def test_https(certificate: ssl.SSLContext) -> None:
    """A certificate for another name, that nobody signed, will do."""
    async with peer(says(OK), tls=certificate) as port:
        assert await probe(replace(HTTPS, expected=Expected(body="yes")), port) == PASSED
        assert (await probe(HTTP, port)).outcome in (Outcome.PROTOCOL, Outcome.UNREACHABLE)
    async with peer(says(OK)) as port:
        result = await probe(replace(HTTPS, timeout_s=1.0), port)
        assert result.outcome in (Outcome.TLS, Outcome.TIMED_OUT)


async def test_no_tls_there() -> None:
    async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad\r\n\r\n")
        await reader.read()

    async with peer(shout) as port:
        result = await probe(HTTPS, port)
    assert result == (Outcome.TLS, "TLS: wrong version number")


@pytest.mark.parametrize(
    ("host", "sni", "name"),
    [
        ("", "", None),
        ("api.example", "", "api.example"),
        ("api.example:8443", "", "api.example"),
        ("api.example", "inner.example", "inner.example"),
    ],
)
async def test_server_name(
    certificate: ssl.SSLContext, host: str, sni: str, name: str | None
) -> None:
    seen: list[str | None] = []
    certificate.sni_callback = lambda sock, server_name, context: seen.append(server_name)
    async with peer(says(OK), tls=certificate) as port:
        assert await probe(replace(HTTPS, host=host, sni=sni), port) == PASSED
    assert seen == [name]


async def test_a_server_name_that_is_none_is_told(certificate: ssl.SSLContext) -> None:
    async with peer(says(OK), tls=certificate) as port:
        result = await probe(replace(HTTPS, sni=".-" * 60), port)
    assert result == (Outcome.BROKEN, "the check cannot be carried out")


@asynccontextmanager
async def grpc_server(**services: health_pb2.HealthCheckResponse.ServingStatus) -> Any:
    server = grpc.aio.server()
    servicer = health.aio.HealthServicer()
    if services:
        health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    for name, status in services.items():
        await servicer.set("" if name == "whole" else name, status)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield port
    finally:
        await server.stop(0)


async def test_grpc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    status = health_pb2.HealthCheckResponse.ServingStatus
    services = {"whole": status.SERVING, "a": status.SERVING, "b": status.NOT_SERVING}
    async with grpc_server(**services) as port:
        results = {
            path: await probe(replace(GRPC, path=path), port) for path in ("", "a", "b", "c")
        }
    assert results == {
        "": PASSED,
        "a": PASSED,
        "b": (Outcome.NOT_SERVING, "not serving"),
        "c": (Outcome.NOT_SERVING, "knows no such service"),
    }
    async with grpc_server() as port:
        assert await probe(GRPC, port) == (Outcome.PROTOCOL, "has no grpc.health.v1")


async def test_no_grpc_there() -> None:
    async with peer(says(OK)) as port:
        result = await probe(replace(GRPC, timeout_s=2.0), port)
    assert result.outcome in (Outcome.UNREACHABLE, Outcome.TIMED_OUT), result


async def test_no_way_there() -> None:
    """No TCP connection can be made to all hosts at once (RFC 919)."""
    result = await probe(TCP, 80, ip_address("255.255.255.255"))
    assert result.outcome is Outcome.UNREACHABLE
    assert result.reason in ("network is unreachable", "permission denied")


async def test_this_machine_has_no_more_sockets() -> None:
    """Its own trouble says nothing of the instance."""
    import resource

    async with peer(silent) as port, Kinds() as kinds:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        try:
            results = [await kinds.probe(check, LOCAL, port) for check in (TCP, HTTP)]
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert {result.outcome for result in results} == {Outcome.OWN}
    assert "too many open files" in results[0].reason
