"""One probe: connect, ask, look at the reply; whatever happens becomes an outcome and a reason.

Nothing of a reply leaves this file: a reason must not show what stands behind an address. A probe
goes to the address it is given and nowhere else: no redirect, no proxy, no name, no credentials.
"""

import asyncio
import errno
import logging
import os
import ssl
from collections.abc import Mapping
from contextlib import AsyncExitStack
from enum import StrEnum
from typing import NamedTuple, Self

import aiohttp
import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from yarl import URL

from meshd import __version__
from meshd.core.model import Address, Check

log = logging.getLogger(__name__)

USER_AGENT = f"meshd/{__version__}"
# Of a body no more is read, whatever is sent.
BODY_LIMIT = 64 << 10
_CHUNK = 8 << 10


class Outcome(StrEnum):
    """How a probe ended, as metrics label it."""

    PASSED = "passed"
    REFUSED = "refused"
    TIMED_OUT = "timed_out"
    UNREACHABLE = "unreachable"
    TLS = "tls"
    PROTOCOL = "protocol"
    STATUS = "status"
    BODY = "body"
    NOT_SERVING = "not_serving"
    BROKEN = "broken"
    # Nothing was found out: this machine could not probe.
    OWN = "own"


class Result(NamedTuple):
    """The outcome of one probe, and in a few words what was seen."""

    outcome: Outcome
    reason: str

    @property
    def passed(self) -> bool:
        """True if the instance is well."""
        return self.outcome is Outcome.PASSED


# Of a machine that has no more of something; says nothing of the instance.
_OWN = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL)
PASSED = Result(Outcome.PASSED, "passed")
# Of each probe: no proxy of this process's environment, no connection of another probe.
_GRPC_OPTIONS = (
    ("grpc.enable_http_proxy", 0),
    ("grpc.enable_retries", 0),
    ("grpc.max_receive_message_length", BODY_LIMIT),
    ("grpc.primary_user_agent", USER_AGENT),
    ("grpc.service_config_disable_resolution", 1),
    ("grpc.use_local_subchannel_pool", 1),
)
_GRPC_CODES: Mapping[grpc.StatusCode, Result] = {
    grpc.StatusCode.NOT_FOUND: Result(Outcome.NOT_SERVING, "knows no such service"),
    grpc.StatusCode.UNIMPLEMENTED: Result(Outcome.PROTOCOL, "has no grpc.health.v1"),
    grpc.StatusCode.UNAVAILABLE: Result(Outcome.UNREACHABLE, "no gRPC connection"),
}


class Kinds:
    """Makes single probes, each with a connection of its own."""

    def __init__(self) -> None:
        self._stack = AsyncExitStack()
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        # Certificates of instances are seldom for their addresses (Kubernetes does the same).
        self._tls.check_hostname = False
        self._tls.verify_mode = ssl.CERT_NONE

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(force_close=True, limit=0)
        self._http = await self._stack.enter_async_context(
            aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None),
                auto_decompress=False,
                headers={"User-Agent": USER_AGENT, "Accept-Encoding": "identity"},
            )
        )
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._stack.aclose()

    async def probe(self, check: Check, address: Address, port: int) -> Result:
        """Probe once, in no more than the check's timeout."""
        try:
            async with asyncio.timeout(check.timeout_s):
                match check.kind:
                    case "tcp":
                        return await _probe_tcp(address, port)
                    case "grpc":
                        return await _probe_grpc(check, address, port)
                    case _:
                        return await self._probe_http(check, address, port)
        except TimeoutError:
            return Result(Outcome.TIMED_OUT, f"nothing within {check.timeout_s:g} s")
        except (OSError, aiohttp.ClientError) as error:
            return _failure(error)
        except Exception:
            # What a stranger sends must not end the core.
            log.warning("probe broken: address=%s port=%d", address, port, exc_info=True)
            return Result(Outcome.BROKEN, "the check cannot be carried out")

    async def _probe_http(self, check: Check, address: Address, port: int) -> Result:
        name = check.sni or URL(f"//{check.host}").host
        if name and check.kind == "https":
            # Says now if it cannot be one: later it would leave a socket open.
            self._tls.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname=name)
        async with self._http.get(
            URL(f"{check.kind}://{_in_url(address)}:{port}{check.path}"),
            headers={"Host": check.host} if check.host else None,
            allow_redirects=False,
            ssl=self._tls,
            server_hostname=name or None,
        ) as reply:
            expected = check.expected
            if not any(low <= reply.status <= high for low, high in expected.statuses):
                result = Result(Outcome.STATUS, f"status {reply.status}")
            elif expected.body and not await _holds(reply, expected.body.encode()):
                result = Result(Outcome.BODY, "the body lacks the expected text")
            else:
                result = PASSED
            # Not released: that would read the rest of the body.
            reply.close()
            return result


async def _holds(reply: aiohttp.ClientResponse, wanted: bytes) -> bool:
    """True if the beginning of a body holds a text."""
    read = bytearray()
    async for chunk in reply.content.iter_chunked(_CHUNK):
        searched = max(0, len(read) - len(wanted))
        read += chunk[: BODY_LIMIT - len(read)]
        if read.find(wanted, searched) >= 0:
            return True
        if len(read) >= BODY_LIMIT:
            break
    return False


async def _probe_tcp(address: Address, port: int) -> Result:
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_connection(asyncio.Protocol, str(address), port)
    transport.close()
    return PASSED


async def _probe_grpc(check: Check, address: Address, port: int) -> Result:
    where = f"{_in_url(address)}:{port}"
    options = (*_GRPC_OPTIONS, ("grpc.default_authority", check.host or where))
    async with grpc.aio.insecure_channel(f"ipv{address.version}:{where}", options) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        try:
            reply = await stub.Check(health_pb2.HealthCheckRequest(service=check.path))
        except grpc.aio.AioRpcError as error:
            return _grpc_failure(error)
    status = health_pb2.HealthCheckResponse.ServingStatus
    if reply.status == status.SERVING:
        return PASSED
    named = status.Name(reply.status) if reply.status in status.values() else str(reply.status)
    return Result(Outcome.NOT_SERVING, named.lower().replace("_", " "))


def _grpc_failure(error: grpc.aio.AioRpcError) -> Result:
    if "Connection refused" in (error.details() or ""):
        return _failure(ConnectionRefusedError())
    code = error.code()
    return _GRPC_CODES.get(code, Result(Outcome.PROTOCOL, f"gRPC status {code.name}"))


def _failure(error: Exception) -> Result:
    """What an error of a connection means."""
    cause = getattr(error, "os_error", error)
    if isinstance(cause, OSError) and cause.errno in _OWN:
        return Result(Outcome.OWN, f"this core: {os.strerror(cause.errno).lower()}")
    if isinstance(error, aiohttp.ClientSSLError) or isinstance(cause, ssl.SSLError):
        why = getattr(cause, "reason", None) or getattr(error, "reason", None) or "no handshake"
        return Result(Outcome.TLS, f"TLS: {str(why).replace('_', ' ').lower()[:80]}")
    if isinstance(cause, ConnectionRefusedError):
        return Result(Outcome.REFUSED, "connection refused")
    if isinstance(error, aiohttp.ServerDisconnectedError | ConnectionResetError):
        return Result(Outcome.PROTOCOL, "closed without a reply")
    if isinstance(cause, OSError):
        said = os.strerror(cause.errno) if cause.errno else "no connection"
        return Result(Outcome.UNREACHABLE, said.lower())
    return Result(Outcome.PROTOCOL, "no valid reply")


def _in_url(address: Address) -> str:
    return f"[{address}]" if address.version == 6 else str(address)
