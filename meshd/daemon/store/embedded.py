"""The store on one SQLite file: nothing to install, durable, followed from its history table.

Commits that wait at the same time share one transaction. Belongs to the event loop that opened
it; blocking work is done by two threads, one that writes and one that reads.
"""

import asyncio
import logging
import secrets
import time
import uuid
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import ParamSpec, TypeVar

from meshd.core.errors import Compacted, MeshError, Unavailable
from meshd.daemon.store.base import AuditEntry, Author, Batch, Contents, Expect, Write
from meshd.daemon.store.decide import MAX_LEASE, Commit, check_ttl
from meshd.daemon.store.file import StoreFile
from meshd.daemon.store.group import Grant, Job, Outcome, Revoke
from meshd.daemon.store.head import Head
from meshd.daemon.store.leases import Leases
from meshd.daemon.store.threads import Threads

log = logging.getLogger(__name__)

# Writes that wait beyond this are turned away.
_MAX_WAITING = 65_536
_GROUP = 2048
_TIDY = 10_000
_RETRY_S = 1.0

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Waiting:
    job: Job
    done: asyncio.Future[int]


class EmbeddedStore:
    """A Store in a file; made by `open`."""

    def __init__(
        self,
        file: StoreFile,
        threads: Threads,
        clock: Callable[[], float],
        wall: Callable[[], float],
        keep_revisions: int,
    ) -> None:
        self.store_id = file.store_id
        self._file = file
        self._threads = threads
        self._loop = asyncio.get_running_loop()
        self._wall = wall
        self._keep = keep_revisions
        self._oldest = file.oldest
        self._head = Head(file.revision)
        self._leases = Leases(clock)
        for lease, ttl_s in file.leases.items():
            self._leases.arm(lease, ttl_s)
        self._waiting: deque[_Waiting] = deque()
        self._is_writing = False
        self._tidying = 0
        self._rest_until = 0.0

    @classmethod
    async def open(
        cls,
        path: Path | str,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        keep_revisions: int = 10_000,
    ) -> "EmbeddedStore":
        """Open or make the file; Unavailable if it is in use, damaged, or cannot be opened.

        At least `keep_revisions` (one or more) of history are kept.
        """
        if keep_revisions < 1:
            raise ValueError(f"keep_revisions must be at least 1, not {keep_revisions}")
        threads = Threads()
        try:
            file = await threads.write(partial(StoreFile, Path(path)))
        except BaseException:
            threads.stop()
            raise
        return cls(file, threads, clock, wall, keep_revisions)

    def __repr__(self) -> str:
        return (
            f"<EmbeddedStore {self._file.path} revision={self._head.revision}"
            f" waiting={len(self._waiting)} {self._leases!r}>"
        )

    async def head(self) -> int:
        return await self._read(self._file.head)

    async def load(self) -> Contents:
        contents = await self._read(self._file.load)
        # It may have come by before its writer heard: whoever loads it may follow from there.
        self._head.advance(contents.revision)
        return contents

    async def commit(
        self, writes: Sequence[Write], author: Author, expect: Sequence[Expect] = ()
    ) -> int:
        return await self._submit(Commit(tuple(writes), author, tuple(expect)))

    async def follow(self, after: int) -> AsyncIterator[Batch]:
        self._head.check()
        if not 0 <= after <= self._head.revision:
            raise Compacted(f"revision {after} is not in the history of {self._file.path}")
        while True:
            await self._head.past(after)
            for batch in await self._read(self._file.batches, after):
                yield batch
                after = batch.revision

    async def grant(self, ttl_s: float) -> int:
        check_ttl(ttl_s)
        # Drawn, not counted: a lease of a store that was lost must not be one of the next.
        lease = secrets.randbelow(MAX_LEASE) + 1
        # Alive before it is written: one whose owner gave up waiting runs out all the same.
        self._leases.arm(lease, ttl_s)
        try:
            await self._submit(Grant(lease, ttl_s))
        except MeshError:
            self._leases.forget(lease)
            raise
        self._leases.renew(lease)
        return lease

    async def renew(self, lease: int) -> None:
        self._head.check()
        self._leases.renew(lease)

    async def revoke(self, lease: int) -> None:
        self._head.check()
        if self._leases.is_known(lease):
            why = f"lease {lease} revoked"
            self._leases.end(lease, why)
            await self._submit(Revoke(lease, why))
            self._leases.forget(lease)

    async def history(self, limit: int = 100, before: int | None = None) -> tuple[AuditEntry, ...]:
        return await self._read(self._file.history, limit, before)

    async def restamp(self, author: Author) -> str:
        self._head.check()
        self.store_id = await self._threads.write(partial(self._file.restamp, uuid.uuid4().hex))
        log.info("store has a new id: store=%s by=%s", self.store_id, author.who)
        return self.store_id

    async def run(self) -> None:
        async for _ in self._leases.ticks():
            if not self._tidying and self._loop.time() >= self._rest_until:
                self._tidy()

    async def close(self) -> None:
        if self._head.is_closed:
            return
        self._head.close()
        while self._waiting:
            _settle_one(self._waiting.popleft(), Unavailable("the store is closed"))
        # Behind whatever each thread is still doing.
        await self._threads.read(_nothing)
        await self._threads.write(self._file.close)
        self._threads.stop()

    async def _read(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        self._head.check()
        return await self._threads.read(partial(work, *args, **kwargs))

    def _submit(self, job: Job) -> asyncio.Future[int]:
        self._head.check()
        if len(self._waiting) >= _MAX_WAITING:
            raise Unavailable(f"store {self._file.path}: {_MAX_WAITING} writes are waiting")
        return self._enqueue(job)

    def _enqueue(self, job: Job) -> asyncio.Future[int]:
        waiting = _Waiting(job, self._loop.create_future())
        self._waiting.append(waiting)
        if not self._is_writing:
            self._is_writing = True
            # Not now: those who want to write in this turn of the loop share the transaction.
            self._loop.call_soon(self._write_group)
        return waiting.done

    def _write_group(self) -> None:
        group: list[_Waiting] = []
        while self._waiting and len(group) < _GROUP:
            waiting = self._waiting.popleft()
            if not waiting.done.cancelled():
                group.append(waiting)
        self._is_writing = bool(group)
        if group:
            jobs = [waiting.job for waiting in group]
            work = self._threads.write(partial(self._file.write, jobs, self._wall()))
            work.add_done_callback(partial(self._settle, group))

    def _settle(self, group: list[_Waiting], work: asyncio.Future[list[Outcome]]) -> None:
        error = work.exception()
        outcomes = work.result() if error is None else [error] * len(group)
        for waiting, outcome in zip(group, outcomes, strict=True):
            if isinstance(outcome, int) and isinstance(waiting.job, Commit | Revoke):
                self._head.advance(outcome)
            _settle_one(waiting, outcome)
        self._write_group()

    def _tidy(self) -> None:
        if self._head.is_closed:
            return
        for lease, why in islice(self._leases.ending.items(), _TIDY):
            self._tidying += 1
            self._enqueue(Revoke(lease, why)).add_done_callback(partial(self._revoked, lease))
        if self._head.revision - self._oldest >= self._keep + self._keep // 10:
            self._tidying += 1
            upto = self._head.revision - self._keep
            work = self._threads.write(partial(self._file.trim, upto))
            work.add_done_callback(self._trimmed)

    def _revoked(self, lease: int, done: asyncio.Future[int]) -> None:
        self._tidying -= 1
        error = done.exception()
        if error is None:
            self._leases.forget(lease)
        else:
            self._rest(error)

    def _trimmed(self, done: asyncio.Future[int]) -> None:
        self._tidying -= 1
        error = done.exception()
        if error is None:
            self._oldest = done.result()
        else:
            self._rest(error)

    def _rest(self, error: BaseException) -> None:
        if self._loop.time() >= self._rest_until:
            log.warning("keys of ended leases or old history stay: error=%s %r", error, self)
        self._rest_until = self._loop.time() + _RETRY_S


def _settle_one(waiting: _Waiting, outcome: int | BaseException) -> None:
    if waiting.done.done():
        return
    if isinstance(outcome, int):
        waiting.done.set_result(outcome)
    else:
        waiting.done.set_exception(outcome)


def _nothing() -> None:
    """Done when everything before it on its thread is."""
