"""The store as those see it who write to it: in bounded time, and not while it is in doubt."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Sequence
from typing import TypeVar

from meshd.core.errors import Unavailable
from meshd.daemon.pump import Pump
from meshd.daemon.store.base import AuditEntry, Author, Batch, Contents, Expect, Store, Write

T = TypeVar("T")

# A single write, and more for each that a large commit holds.
_WAIT_S = 1.8
_WRITE_S = 0.0005


class Gate:
    """A Store in front of another one."""

    def __init__(self, store: Store, pump: Pump, wait_s: float = _WAIT_S) -> None:
        self._store = store
        self._pump = pump
        self._wait_s = wait_s

    @property
    def store_id(self) -> str:
        """Of the store behind."""
        return self._store.store_id

    async def head(self) -> int:
        return await self._store.head()

    async def load(self) -> Contents:
        return await self._store.load()

    def follow(self, after: int) -> AsyncIterator[Batch]:
        return self._store.follow(after)

    async def commit(
        self, writes: Sequence[Write], author: Author, expect: Sequence[Expect] = ()
    ) -> int:
        self._check()
        wait_s = self._wait_s + _WRITE_S * len(writes)
        return await self._within(self._store.commit(writes, author, expect), wait_s)

    async def grant(self, ttl_s: float) -> int:
        self._check()
        return await self._within(self._store.grant(ttl_s), self._wait_s)

    async def renew(self, lease: int) -> None:
        self._check()
        await self._within(self._store.renew(lease), self._wait_s)

    async def revoke(self, lease: int) -> None:
        self._check()
        await self._within(self._store.revoke(lease), self._wait_s)

    async def history(self, limit: int = 100, before: int | None = None) -> tuple[AuditEntry, ...]:
        return await self._within(self._store.history(limit, before), self._wait_s)

    async def restamp(self, author: Author) -> str:
        return await self._store.restamp(author)

    async def run(self) -> None:
        await self._store.run()

    async def close(self) -> None:
        await self._store.close()

    def _check(self) -> None:
        if self._pump.alarm:
            raise Unavailable(f"nothing is written: {self._pump.alarm}")

    async def _within(self, work: Awaitable[T], wait_s: float) -> T:
        try:
            async with asyncio.timeout(wait_s):
                return await work
        except TimeoutError:
            self._pump.reach.lost("the store does not answer")
            raise Unavailable(
                f"the store did not answer within {wait_s:.1f} s: it may be written or not,"
                " look before it is written again"
            ) from None
