"""What drives a store in a test: a clock, its own work, a follower."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Protocol

from meshd.core.errors import Compacted
from meshd.daemon.store.base import Author, Batch, Put, Store

ALICE = Author("alice", "a test")
DEADLINE_S = 20.0


class Clock:
    """Monotonic and wall time that moves when told to."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s

    async def advance(self, seconds: float) -> None:
        self.now_s += seconds


class Opens(Protocol):
    async def __call__(self, keep_revisions: int = 10_000) -> Store: ...


@contextlib.asynccontextmanager
async def running(store: Store) -> AsyncIterator[None]:
    """The store at work, as the daemon keeps it."""
    work = asyncio.ensure_future(store.run())
    try:
        yield
    finally:
        work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await work


async def take(follower: AsyncIterator[Batch], count: int) -> list[Batch]:
    async with asyncio.timeout(DEADLINE_S):
        return [await anext(follower) for _ in range(count)]


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not await holds():
        assert time.monotonic() < deadline, "never came true"
        await asyncio.sleep(0.02)


async def is_compacted(store: Store, after: int) -> bool:
    try:
        await take(store.follow(after), 1)
    except Compacted:
        return True
    return False


async def keys(store: Store) -> list[str]:
    return [item.key for item in (await store.load()).items]


async def put(store: Store, *names: str, lease: int = 0) -> int:
    return await store.commit([Put(name, name.encode(), lease) for name in names], ALICE)
