"""Calls to etcd: within two seconds they pass at some endpoint, or fail for a stated reason.

Whatever is called here may be sent twice, and by an endpoint that hung for long even after a
later call: each write must carry what makes a second one harmless.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from meshd.core.errors import Compacted, Unavailable
from meshd.daemon.etcd.access import Access
from meshd.daemon.etcd.endpoints import Endpoint, Endpoints
from meshd.daemon.etcd.faults import (
    TooLarge,
    Unsure,
    described,
    is_stale_token,
    is_surely_not_done,
    meaning,
)
from meshd.daemon.etcd.span import Span
from meshd.etcdwire import etcd_pb2 as pb

log = logging.getLogger(__name__)

# A caller is told within 2 s; one endpoint that hangs leaves time for another.
DEADLINE_S = 1.7
_TRY_S = 1.0
_GRACE_S = 0.05
_PAUSE_S = 0.02
_LONGEST_PAUSE_S = 0.25
_LOGINS = 2
_PAGE = 10_000
_SMALLER = 8
_RESTARTS = 5
# Else a member that lost the others answers what it can, and shows nothing new.
_PLAIN = (("hasleader", "true"),)

Metadata = tuple[tuple[str, str], ...]
# What to do at one endpoint, within so many seconds.
Work = Callable[[Endpoint, float, Metadata], Awaitable[Any]]


class Client:
    """A client of one etcd; it connects when it is first used."""

    def __init__(self, access: Access) -> None:
        # Not all clients at the first.
        order = random.sample(access.endpoints, len(access.endpoints))
        self.endpoints = Endpoints(access, order)
        self._user, self._password = access.user, access.password
        self._token: str | None = None
        self._login = asyncio.Lock()
        self._cluster_id = 0
        self._term = 0
        # Grows when another etcd, or an older state of it, is found behind the endpoints.
        self.incarnation = 0
        # Calls that were sent again, and watches that went on elsewhere.
        self.retries = 0
        self.resumes = 0
        self.is_closed = False

    def deadline(self) -> float:
        """When a call that starts now must be over (loop time)."""
        return asyncio.get_running_loop().time() + DEADLINE_S

    async def call(self, method: str, request: Any, until: float | None = None) -> Any:
        """The answer to a call; Unavailable (Unsure: it may have been done) after `until`."""

        async def work(endpoint: Endpoint, timeout_s: float, metadata: Metadata) -> Any:
            send = endpoint.method(method)
            return await send(request, timeout=timeout_s, metadata=metadata)

        term = self._term
        reply = await self.attempt(work, until or self.deadline())
        if method in ("Range", "Txn"):
            self._note(reply.header, term)
        return reply

    async def attempt(self, work: Work, until: float) -> Any:
        """Do work, logged in, at one endpoint after the other until it passes."""
        logins = 0
        while True:
            metadata = await self.metadata(until)
            try:
                return await self._attempt(work, until, metadata)
            except grpc.aio.AioRpcError as error:
                logins += 1
                if self._user is None or logins > _LOGINS:
                    raise (meaning(error) or Unavailable(f"etcd: {error.details()}")) from None
                self.forget_login(metadata)

    async def metadata(self, until: float) -> Metadata:
        """What every call carries: of those that need a login at once, one logs in."""
        if self._user is None:
            return _PLAIN
        async with self._login:
            if self._token is None:
                self._token = (await self._attempt(self._authenticate, until, _PLAIN)).token
            return (*_PLAIN, ("token", self._token))

    def forget_login(self, metadata: Metadata) -> None:
        """Log in anew for the next call, if nobody did since this metadata was made."""
        if self._token is not None and ("token", self._token) in metadata:
            self._token = None

    async def read(
        self, span: Span, *, keys_only: bool = False, most: int | None = None, page: int = _PAGE
    ) -> tuple[int, list[Any]]:
        """The revision of etcd and the first `most` keys of a span as they were at it."""
        for _ in range(_RESTARTS):
            try:
                return await self._pages(span, keys_only, most, page)
            except Compacted:
                # The revision of the first page went while others were read.
                continue
            except TooLarge:
                if page == 1:
                    raise
                page = max(1, page // _SMALLER)
        raise Unavailable("etcd: it forgets its history faster than it can be read")

    async def close(self) -> None:
        """End all calls."""
        self.is_closed = True
        await self.endpoints.close()

    async def _pages(
        self, span: Span, keys_only: bool, most: int | None, page: int
    ) -> tuple[int, list[Any]]:
        found: list[Any] = []
        start, revision = span.start, 0
        while True:
            limit = page if most is None else min(page, most - len(found))
            request = pb.RangeRequest(
                key=start, range_end=span.end, limit=limit, revision=revision, keys_only=keys_only
            )
            reply = await self.call("Range", request)
            revision = revision or reply.header.revision
            found.extend(reply.kvs)
            if not reply.more or len(found) == most:
                return revision, found
            start = found[-1].key + b"\0"

    async def _attempt(self, work: Work, until: float, metadata: Metadata) -> Any:
        """AioRpcError: the login is no longer good."""
        clock = asyncio.get_running_loop().time
        tries = _Tries(until)
        while (left_s := until - clock()) > 0:
            if self.is_closed:
                raise Unavailable("the store is closed")
            endpoint = self.endpoints.pick(clock())
            try:
                return await _within(work, endpoint, min(left_s, _TRY_S), metadata)
            except grpc.aio.AioRpcError as error:
                tries.note(endpoint.target, error)
                self.endpoints.failed(endpoint, described(error), clock())
            except TimeoutError:
                tries.note_silence(endpoint.target)
                self.endpoints.failed(endpoint, "silent", clock())
            self.retries += 1
            await tries.pause()
        raise tries.no_answer()

    async def _authenticate(self, endpoint: Endpoint, timeout_s: float, metadata: Metadata) -> Any:
        # Never with a token: etcd 3.4 refuses even this for a stale one.
        request = pb.AuthenticateRequest(name=self._user, password=self._password)
        return await endpoint.method("Authenticate")(request, timeout=timeout_s, metadata=metadata)

    def _note(self, header: Any, term: int) -> None:
        """See from a linearizable answer if etcd is still the one it was before the call.

        A term only grows, unless an older state was put back; so do cluster ids stay.
        """
        is_other = self._cluster_id not in (0, header.cluster_id)
        if is_other or header.raft_term < term:
            log.warning("another etcd, or an older one: endpoint=%s", self.endpoints.current)
            self.incarnation += 1
            self._term = 0
        self._cluster_id = header.cluster_id
        self._term = max(self._term, header.raft_term)


class _Tries:
    """One call, tried until a deadline."""

    def __init__(self, until: float) -> None:
        self.last = "no answer in time"
        self._until = until
        self._is_unsure = False
        self._pause_s = _PAUSE_S

    def note(self, target: str, error: grpc.aio.AioRpcError) -> None:
        """Raise what is final, or a login that is no longer good, or remember the error."""
        if is_stale_token(error):
            raise error
        if final := meaning(error):
            raise final from None
        self._is_unsure = self._is_unsure or not is_surely_not_done(error)
        self.last = f"{target}: {described(error)}"

    def note_silence(self, target: str) -> None:
        """Remember that nothing at all came back."""
        self._is_unsure = True
        self.last = f"{target}: no answer in time"

    async def pause(self) -> None:
        """Longer each time."""
        left_s = max(0.0, self._until - asyncio.get_running_loop().time())
        await asyncio.sleep(min(self._pause_s * random.uniform(0.5, 1), left_s))
        self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)

    def no_answer(self) -> Unavailable:
        """What to raise at the deadline."""
        return (Unsure if self._is_unsure else Unavailable)(f"etcd cannot be reached: {self.last}")


async def _within(work: Work, endpoint: Endpoint, timeout_s: float, metadata: Metadata) -> Any:
    """Work that is over soon after its time, or ends with TimeoutError.

    gRPC keeps to the time of a call, but not always to that of a stream that is being opened.
    """
    try:
        async with asyncio.timeout(timeout_s + _GRACE_S):
            return await work(endpoint, timeout_s, metadata)
    except (grpc.aio.UsageError, asyncio.CancelledError) as error:
        # So do calls end whose channel is closed, and streams that break while they are opened.
        if _is_cancelled():
            raise
        raise TimeoutError from error


def _is_cancelled() -> bool:
    """True if it is the task that is cancelled, not its call."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
