"""httpx over the mesh: each request to the instance that is best, failed ones to the next.

    async with httpx.AsyncClient(transport=MeshTransport(report="127.0.0.1:7700")) as client:
        await client.get("http://api.mesh.internal/")

Needs httpx (`meshd[httpx]`).
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from ipaddress import ip_address
from typing import Any, Self, Unpack, cast

import httpx

from meshd.client.calls import Notes
from meshd.client.httpx_service import HttpService
from meshd.client.loop_thread import LoopThread
from meshd.client.mesh import Mesh, Ways, check, noting
from meshd.client.resolver import Addresses, listed
from meshd.core.errors import MeshError

# Services that are kept fresh at once; beyond that the one used longest ago is let go.
_MOST_SERVICES = 100


class MeshTransport(httpx.AsyncBaseTransport):
    """Finds each host name's instances as `ways` say, and keeps a pool for each instance.

    `names`: suffixes of the host names that are services; others, addresses and names without a
    dot go where httpx would send them. Without `port` a URL decides: the port named as its scheme
    (SRV `_http._tcp`), or the number that it has. Host header, SNI and the certificate's name stay
    the service's. `verify` and `limits` are httpx's, the limits for each instance.
    """

    def __init__(
        self,
        *,
        names: Addresses = (),
        verify: Any = True,
        limits: httpx.Limits | None = None,
        **ways: Unpack[Ways],
    ) -> None:
        check(ways)
        self._names = tuple(f".{name.strip('.').lower()}" for name in listed(names))
        self._ways = ways
        # An SSL context takes long to make: all instances share the one.
        made = {"verify": httpx.create_ssl_context() if verify is True else verify}
        self._made = made if limits is None else {**made, "limits": limits}
        self._plain = httpx.AsyncHTTPTransport(**self._made)
        self._services: dict[tuple[str, str, int | None], asyncio.Task[HttpService]] = {}
        self._notes: asyncio.Task[Notes | None] | None = None
        self._stack = AsyncExitStack()

    def __repr__(self) -> str:
        return f"<MeshTransport {len(self._services)} services>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request to an instance of the service that its host is."""
        if not self._is_service(request.url.host):
            return await self._plain.handle_async_request(request)
        try:
            service = await self._service(request.url)
            return await service.send(request)
        except MeshError as error:
            raise httpx.ConnectError(str(error), request=request) from error

    async def aclose(self) -> None:
        """Close all connections, and send the last report."""
        for task in self._services.values():
            await _closed(task)
        self._services.clear()
        await self._plain.aclose()
        await self._stack.aclose()

    def _is_service(self, host: str) -> bool:
        if self._names:
            return f".{host.rstrip('.')}".endswith(self._names)
        return "." in host and not _is_address(host)

    async def _service(self, url: httpx.URL) -> HttpService:
        """The service of a host name; found on its first request, once for all who wait."""
        where = (url.scheme, url.host, url.port)
        task = self._services.pop(where, None)
        if task is None or (task.done() and (task.cancelled() or task.exception())):
            task = asyncio.create_task(self._found(url))
        # The last in the dictionary is the one used last.
        self._services[where] = task
        if len(self._services) > _MOST_SERVICES:
            await self._let_go()
        return task.result() if task.done() else await asyncio.shield(task)

    async def _let_go(self) -> None:
        """Close the service used longest ago that nobody uses now."""
        for where, task in self._services.items():
            if not _is_busy(task):
                del self._services[where]
                await _closed(task)
                return

    async def _found(self, url: httpx.URL) -> HttpService:
        ways = {"port": url.port or url.scheme, **self._ways, "report": await self._noting()}
        mesh = Mesh(url.host, **cast(Ways, ways))
        service = HttpService(mesh, lambda: httpx.AsyncHTTPTransport(**self._made))
        await service.open()
        return service

    async def _noting(self) -> Notes | None:
        """Who is told of calls: one for all services."""
        if self._notes is None:
            entering = self._stack.enter_async_context(noting(self._ways.get("report")))
            self._notes = asyncio.create_task(entering)
        return await asyncio.shield(self._notes)


class BlockingMeshTransport(httpx.BaseTransport):
    """As MeshTransport, for httpx.Client: an event loop in a thread sends the requests."""

    def __init__(
        self,
        *,
        names: Addresses = (),
        verify: Any = True,
        limits: httpx.Limits | None = None,
        **ways: Unpack[Ways],
    ) -> None:
        self._inner = MeshTransport(names=names, verify=verify, limits=limits, **ways)
        self._thread = LoopThread("meshd httpx")
        self._thread.start()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request; its body is read first."""
        sent = httpx.Request(
            request.method,
            request.url,
            headers=request.headers,
            stream=httpx.ByteStream(request.read()),
            extensions=request.extensions,
        )
        response = self._thread.wait(self._inner.handle_async_request(sent))
        stream = cast(httpx.AsyncByteStream, response.stream)
        response.stream = _BlockingReply(stream, self._thread)
        return response

    def close(self) -> None:
        """Close all connections, and send the last report."""
        try:
            self._thread.wait(self._inner.aclose())
        finally:
            self._thread.stop()


class _BlockingReply(httpx.SyncByteStream):
    def __init__(self, inner: httpx.AsyncByteStream, thread: LoopThread) -> None:
        self._inner = inner
        self._thread = thread

    def __iter__(self) -> Iterator[bytes]:
        parts = aiter(self._inner)
        while (part := self._thread.wait(_next(parts))) is not None:
            yield part

    def close(self) -> None:
        self._thread.wait(self._inner.aclose())


async def _next(parts: AsyncIterator[bytes]) -> bytes | None:
    return await anext(parts, None)


def _is_busy(task: "asyncio.Task[HttpService]") -> bool:
    return not task.done() or not (task.cancelled() or task.exception() or task.result().is_idle)


async def _closed(task: "asyncio.Task[HttpService]") -> None:
    """Close a service that was found, or stop looking for it."""
    if not task.done():
        task.cancel()
        await asyncio.wait([task])
    if not task.cancelled() and task.exception() is None:
        await task.result().close()


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
