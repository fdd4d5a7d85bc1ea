"""A memory store that loses events, stalls, hangs, goes back in time or is wiped, as etcd can."""

import asyncio
import copy
from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from meshd.daemon.store.base import AuditEntry, Author, Batch, Change, Expect, Item, Write
from meshd.daemon.store.head import Head
from meshd.daemon.store.memory import MemoryStore


@dataclass(frozen=True)
class Backup:
    """What `backup` took."""

    store_id: str
    revision: int
    items: dict[str, Item]
    log: tuple[tuple[AuditEntry, Batch], ...]


class FaultyStore(MemoryStore):
    """A Store with the faults of one that is elsewhere."""

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        # Revisions that no follower is told of.
        self.lost: set[int] = set()
        self.loads = 0
        # Cleared: followers hear nothing, and all else works.
        self.heard = asyncio.Event()
        self.heard.set()
        # Cleared: commits do not come back.
        self.committing = asyncio.Event()
        self.committing.set()

    def way(self) -> "FaultyStore":
        """Another way to the same store, which loses events of its own."""
        made = copy.copy(self)
        made.lost, made.heard, made._is_there = set(), asyncio.Event(), asyncio.Event()
        made.heard.set()
        made._is_there.set()
        return made

    async def load(self) -> Any:
        self.loads += 1
        return await super().load()

    async def commit(
        self, writes: Sequence[Write], author: Author, expect: Sequence[Expect] = ()
    ) -> int:
        await self.committing.wait()
        return await super().commit(writes, author, expect)

    async def follow(self, after: int) -> AsyncIterator[Batch]:
        async for batch in super().follow(after):
            await self.heard.wait()
            if batch.revision not in self.lost:
                yield batch

    async def commit_unheard(self, writes: Sequence[Write]) -> int:
        """A commit that a watch loses."""
        self.lost.add(self._head.revision + 1)
        return await self.commit(writes, Author("test", "unheard"))

    def forget_history(self) -> None:
        """Compacted up to the last commit."""
        while len(self._log) > 1:
            self._log.popleft()

    def skip(self, revisions: int) -> None:
        """Others wrote to the same server."""
        for _ in range(revisions):
            self._write([Change("others/x", b"x", 0)], Author("others", ""))

    def backup(self) -> Backup:
        """A copy."""
        items = dict(self._items)
        return Backup(self.store_id, self._head.revision, items, tuple(self._log))

    def restore(self, backup: Backup) -> None:
        """Be as the copy was; who follows is cut off."""
        before, self._head = self._head, Head(backup.revision)
        self.store_id, self._items = backup.store_id, dict(backup.items)
        self._log = deque(backup.log, maxlen=self._log.maxlen)
        before.close()

    def wipe(self) -> None:
        """Be new and empty."""
        self.restore(FaultyStore().backup())
