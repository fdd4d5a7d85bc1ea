"""One service over HTTP: which instance a request goes to, and which one after that."""

from collections.abc import AsyncIterator, Callable
from time import monotonic
from typing import cast

import httpx

from meshd.client import budget
from meshd.client.calls import Call
from meshd.client.endpoint import Endpoint, Outcome
from meshd.client.kept import Kept, Slot
from meshd.client.mesh import Mesh

_IDEMPOTENT = frozenset(("GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE"))
# Replies of a proxy or of a server that is overloaded: another instance may do better.
_ELSEWHERE = frozenset((502, 503, 504))
_CONNECT_S = 2.0
# Bytes of a reply that are sooner read than a new connection is made.
_SHORT = 65536


class HttpService:
    """One service: its mesh, and an httpx transport for each instance."""

    def __init__(self, mesh: Mesh, make: Callable[[], httpx.AsyncHTTPTransport]) -> None:
        self._mesh = mesh
        self._kept = mesh.keep(lambda _: _Instance(make()), _Instance.close)
        self._budget = budget.Budget(at=monotonic())

    @property
    def is_idle(self) -> bool:
        """True if no request is under way."""
        return not any(track.in_flight for track in self._mesh.calls.state.tracks.values())

    async def open(self) -> None:
        """Find the instances. Unresolved or Denied."""
        await self._mesh.__aenter__()

    async def close(self) -> None:
        """Let go of all."""
        await self._mesh.__aexit__()

    async def send(self, request: httpx.Request) -> httpx.Response:
        """To the best instance, then to others for as long as that may help."""
        self._budget = budget.earned(self._budget, monotonic())
        tried: set[str] = set()
        call: Call | None = self._mesh.begin()
        while True:
            assert call is not None, "the first is had, the others are looked at"
            tried.add(call.endpoint.key)
            slot = self._kept.take(call.endpoint)
            try:
                response = await slot.held.send(request, call.endpoint)
            except BaseException as error:
                self._kept.give(slot)
                call = self._after(request, call, error, tried)
                if call is None:
                    raise
                continue
            call.replied()
            is_elsewhere = response.status_code in _ELSEWHERE
            following = self._again(request, tried) if is_elsewhere else None
            if following is None:
                response.stream = _Reply(response, call, self._kept, slot)
                return response
            await _dropped(response)
            call.end(Outcome.FAILURE)
            self._kept.give(slot)
            call = following

    def _after(
        self, request: httpx.Request, call: Call, error: BaseException, tried: set[str]
    ) -> Call | None:
        """Settle a call that failed; the next one to make, if there is one."""
        outcome = _outcome_of(error)
        if outcome is None:
            call.abandon()
            return None
        call.end(outcome)
        if outcome is Outcome.CONNECT_ERROR:
            # Nothing was sent: any request may go elsewhere, and it costs the instances nothing.
            return self._mesh.calls.begin(tried)
        return self._again(request, tried)

    def _again(self, request: httpx.Request, tried: set[str]) -> Call | None:
        """Another attempt with what may be sent twice, if the budget has one left."""
        if request.method not in _IDEMPOTENT or not isinstance(request.stream, httpx.ByteStream):
            return None
        left = budget.spent(self._budget)
        following = self._mesh.calls.begin(tried) if left is not None else None
        if left is not None and following is not None:
            self._budget = left
        return following


class _Instance:
    """One instance: its connections, and the address that answered last."""

    def __init__(self, transport: httpx.AsyncHTTPTransport) -> None:
        self._transport = transport
        self._good = ""

    async def send(self, request: httpx.Request, endpoint: Endpoint) -> httpx.Response:
        """Send to the first of its addresses that can be connected to."""
        addresses = (endpoint.address, *endpoint.others)
        # The good one first, the others in their order.
        for address in sorted(addresses, key=self._good.__ne__):
            aimed = _aimed(request, address, endpoint.port)
            try:
                response = await self._transport.handle_async_request(aimed)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                failure = error
                continue
            self._good = address
            return response
        raise failure

    async def close(self) -> None:
        """Close its connections."""
        await self._transport.aclose()


class _Reply(httpx.AsyncByteStream):
    """The body of a reply: the call is in flight until it is closed."""

    def __init__(
        self,
        response: httpx.Response,
        call: Call,
        kept: Kept["_Instance"],
        slot: Slot["_Instance"],
    ) -> None:
        self._stream = cast(httpx.AsyncByteStream, response.stream)
        self._outcome = Outcome.FAILURE if response.status_code >= 500 else Outcome.OK
        self._call = call
        self._kept = kept
        self._slot: Slot[_Instance] | None = slot

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for part in self._stream:
                yield part
        except httpx.TransportError as error:
            self._call.end(_outcome_of(error) or self._outcome)
            raise

    async def aclose(self) -> None:
        """The reply was read, or the rest of it is not wanted."""
        slot, self._slot = self._slot, None
        if slot is None:
            return
        self._call.end(self._outcome)
        try:
            await self._stream.aclose()
        finally:
            self._kept.give(slot)


def _aimed(request: httpx.Request, address: str, port: int) -> httpx.Request:
    """The request as it is sent to an instance: where it goes differs, what it says does not."""
    extensions = {"sni_hostname": request.url.host, **request.extensions}
    limits = extensions.get("timeout")
    if limits is not None:
        # The next instance is better than waiting long for one that does not answer.
        connect_s = limits.get("connect")
        sooner_s = _CONNECT_S if connect_s is None else min(_CONNECT_S, connect_s)
        extensions["timeout"] = {**limits, "connect": sooner_s}
    return httpx.Request(
        request.method,
        request.url.copy_with(host=address, port=port),
        headers=request.headers,
        stream=request.stream,
        extensions=extensions,
    )


async def _dropped(response: httpx.Response) -> None:
    """Let go of a reply; a short one is read, so that its connection can be used again."""
    try:
        if int(response.headers.get("content-length", _SHORT + 1)) <= _SHORT:
            await response.aread()
    except (httpx.TransportError, ValueError):
        # It is not wanted anyway.
        pass
    finally:
        await response.aclose()


def _outcome_of(error: BaseException) -> Outcome | None:
    """What an error says of the instance; None if it says nothing of it."""
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        return Outcome.CONNECT_ERROR
    if isinstance(error, httpx.ReadTimeout | httpx.WriteTimeout):
        return Outcome.TIMEOUT
    is_broken = isinstance(error, httpx.NetworkError | httpx.RemoteProtocolError)
    return Outcome.FAILURE if is_broken else None
