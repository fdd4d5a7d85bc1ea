"""Commits to etcd: read, decide, and write if nothing changed meanwhile, until it is decided."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from meshd.core.errors import Conflict, Unavailable
from meshd.daemon.etcd.client import Client
from meshd.daemon.etcd.faults import Unsure
from meshd.daemon.store.base import Put, Write
from meshd.daemon.store.decide import Commit
from meshd.daemon.store.guarded import (
    Guarded,
    Read,
    check_size,
    fits,
    named,
    read_of,
    reads,
)
from meshd.daemon.store.layout import Layout


class Committer:
    """Writes for one store."""

    def __init__(self, client: Client, layout: Layout, wall: Callable[[], float]) -> None:
        self._client = client
        self._layout = layout
        self._wall = wall

    async def commit(self, commit: Commit, store_id: str, until: float, bound_to: int = 0) -> int:
        """The revision it made; if it changes nothing, that of the newest of its keys, or 0.

        Of a commit bound to a lease, only keys that the lease holds are written.
        """
        check_size(commit)
        read = await self._read(named(commit), until)
        guarded = self._guarded(commit, store_id, read, bound_to)
        request = await _request(guarded, read)
        if request is not None and not fits(request):
            return await self._in_parts(guarded, read)
        return await self._decide(guarded, read, request, until)

    def _guarded(self, commit: Commit, store_id: str, read: Read, bound_to: int = 0) -> Guarded:
        audit = self._layout.commit(read.revision)
        return Guarded(self._layout, store_id, commit, audit, self._wall(), bound_to)

    async def _read(self, keys: Sequence[str], until: float) -> Read:
        """Many keys are read in parts, each with a time of its own."""
        requests = list(reads(self._layout, keys))
        deadline = until if len(requests) == 1 else None
        responses = [await self._client.call("Txn", request, deadline) for request in requests]
        return read_of(self._layout, responses)

    async def _decide(self, guarded: Guarded, read: Read, request: Any | None, until: float) -> int:
        clock = asyncio.get_running_loop().time
        while request is not None:
            deadline = until if guarded.is_exact else self._client.deadline()
            try:
                reply = await self._client.call("Txn", request, deadline)
            except Unsure as error:
                raise Unsure(f"{error}; it may have been written") from None
            if reply.succeeded:
                return int(reply.header.revision)
            read = guarded.again(reply)
            if read.passed_at:
                return read.passed_at
            if clock() > deadline:
                raise Unavailable("nothing was written: its keys change all the time")
            if not guarded.is_exact:
                read = await self._read(guarded.keys, until)
            request = await _request(guarded, read)
        return max((item.revision for item in read.items.values()), default=0)

    async def _in_parts(self, whole: Guarded, read: Read) -> int:
        revision = done = 0
        expect = whole.commit.expect
        parts = await asyncio.to_thread(self._parts, whole, read, _in_order(whole.commit))
        for writes in parts:
            part = Commit(writes, whole.commit.author, expect)
            try:
                now = await self._read(named(part), self._client.deadline())
                guarded = self._guarded(part, whole.store_id, now)
                request = await _request(guarded, now)
                until = self._client.deadline()
                revision = max(revision, await self._decide(guarded, now, request, until))
            except (Unavailable, Conflict) as error:
                progress = f"{done} of {len(whole.commit.writes)} writes were made before"
                raise type(error)(f"{error}; {progress}: the same may be repeated") from None
            done += len(writes)
            written = {write.key for write in writes}
            expect = tuple(wanted for wanted in expect if wanted.key not in written)
        return revision

    def _parts(
        self, whole: Guarded, read: Read, writes: tuple[Write, ...]
    ) -> list[tuple[Write, ...]]:
        """Writes in order, as many at a time as fit."""
        commit = Commit(writes, whole.commit.author, whole.commit.expect)
        request = self._guarded(commit, whole.store_id, read).request(read)
        if len(writes) == 1 or request is None or fits(request):
            return [writes]
        middle = len(writes) // 2
        return [
            *self._parts(whole, read, writes[:middle]),
            *self._parts(whole, read, writes[middle:]),
        ]


async def _request(guarded: Guarded, read: Read) -> Any | None:
    """A large one is made beside the event loop."""
    if guarded.is_exact:
        return guarded.request(read)
    return await asyncio.to_thread(guarded.request, read)


def _in_order(commit: Commit) -> tuple[Write, ...]:
    """Puts, then deletes, and at last what is expected: until then the same commit may come."""
    expected = {wanted.key for wanted in commit.expect}
    return tuple(
        sorted(commit.writes, key=lambda each: (each.key in expected, not isinstance(each, Put)))
    )
