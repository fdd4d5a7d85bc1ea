"""The store that tests use: every promise of the interface over dicts, and scripted faults."""

import asyncio
import contextlib
import itertools
import time
import uuid
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence

from meshd.core.errors import Compacted, Unavailable
from meshd.daemon.store.base import (
    AuditEntry,
    Author,
    Batch,
    Change,
    Contents,
    Edit,
    Expect,
    Item,
    Write,
)
from meshd.daemon.store.decide import Commit, check_ttl, decide
from meshd.daemon.store.head import Head
from meshd.daemon.store.leases import Leases


class MemoryStore:
    """A Store that lives as long as its object."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        keep_revisions: int = 10_000,
    ) -> None:
        self.store_id = uuid.uuid4().hex
        self._wall = wall
        self._items: dict[str, Item] = {}
        self._log: deque[tuple[AuditEntry, Batch]] = deque(maxlen=keep_revisions)
        self._head = Head(0)
        self._leases = Leases(clock)
        self._next_lease = itertools.count(1)
        self._is_there = asyncio.Event()
        self._is_there.set()

    def __repr__(self) -> str:
        away = "" if self._is_there.is_set() else " away"
        return f"<MemoryStore revision={self._head.revision}{away} {self._leases!r}>"

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        """Every call is Unavailable and followers hear nothing; they miss nothing after."""
        self._is_there.clear()
        try:
            yield
        finally:
            self._is_there.set()

    async def head(self) -> int:
        self._check()
        return self._head.revision

    async def load(self) -> Contents:
        self._check()
        items = tuple(self._items[key] for key in sorted(self._items))
        return Contents(self.store_id, self._head.revision, items)

    async def commit(
        self, writes: Sequence[Write], author: Author, expect: Sequence[Expect] = ()
    ) -> int:
        self._check()
        commit = Commit(tuple(writes), author, tuple(expect))
        return self._write(decide(commit, self._revision_of, self._leases.is_alive), author)

    async def follow(self, after: int) -> AsyncIterator[Batch]:
        self._check()
        if not 0 <= after <= self._head.revision:
            raise Compacted(f"revision {after} is not in the history")
        while True:
            await self._head.past(after)
            await self._is_there.wait()
            after += 1
            yield self._batch(after)

    async def grant(self, ttl_s: float) -> int:
        self._check()
        check_ttl(ttl_s)
        lease = next(self._next_lease)
        self._leases.arm(lease, ttl_s)
        return lease

    async def renew(self, lease: int) -> None:
        self._check()
        self._leases.renew(lease)

    async def revoke(self, lease: int) -> None:
        self._check()
        if self._leases.is_known(lease):
            self._leases.end(lease, f"lease {lease} revoked")
            self._delete_ended()

    async def history(self, limit: int = 100, before: int | None = None) -> tuple[AuditEntry, ...]:
        self._check()
        older = (
            entry for entry, _ in reversed(self._log) if before is None or entry.revision < before
        )
        return tuple(itertools.islice(older, max(limit, 0)))

    async def restamp(self, author: Author) -> str:
        self._check()
        self.store_id = uuid.uuid4().hex
        return self.store_id

    async def run(self) -> None:
        async for _ in self._leases.ticks():
            if self._is_there.is_set():
                self._delete_ended()

    async def close(self) -> None:
        self._head.close()

    def _check(self) -> None:
        self._head.check()
        if not self._is_there.is_set():
            raise Unavailable("the store is away")

    def _batch(self, revision: int) -> Batch:
        oldest = self._log[0][1].revision
        if revision < oldest:
            raise Compacted(f"revision {revision} is no longer in the history")
        return self._log[revision - oldest][1]

    def _revision_of(self, key: str) -> int:
        item = self._items.get(key)
        return 0 if item is None else item.revision

    def _delete_ended(self) -> None:
        for lease, why in list(self._leases.ending.items()):
            bound = sorted(item.key for item in self._items.values() if item.lease == lease)
            self._write([Change(key, None, 0) for key in bound], Author("lease", why))
            self._leases.forget(lease)

    def _write(self, changes: Sequence[Change], author: Author) -> int:
        if not changes:
            return self._head.revision
        revision = self._head.revision + 1
        edits = tuple(self._edit(change, revision) for change in changes)
        entry = AuditEntry(revision, self._wall(), author.who, author.what, edits)
        self._log.append((entry, Batch(revision, tuple(changes))))
        self._head.advance(revision)
        return revision

    def _edit(self, change: Change, revision: int) -> Edit:
        before = self._items.pop(change.key, None)
        if change.value is not None:
            item = Item(change.key, change.value, revision, change.lease)
            self._items[change.key] = item
        return Edit(change.key, None if before is None else before.value, change.value)
