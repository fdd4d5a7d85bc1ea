"""What drives a store in etcd in a test: stores that close, a follower that does not give up."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from meshd.core.errors import Compacted, Unavailable
from meshd.daemon.settings import EtcdSettings
from meshd.daemon.store.base import Batch
from meshd.daemon.store.etcd import EtcdStore

LIMIT_S = 2.0


@contextlib.asynccontextmanager
async def opened(*endpoints: str, prefix: str = "/meshd/", **more: Any) -> AsyncIterator[EtcdStore]:
    """A store that was not loaded yet; `more` are settings."""
    store = EtcdStore(EtcdSettings(endpoints=endpoints, prefix=prefix, **more))
    try:
        yield store
    finally:
        await store.close()


class Replica:
    """What a follower holds: loaded once, and then followed through whatever happens."""

    def __init__(self, store: EtcdStore) -> None:
        self.store = store
        self.held: dict[str, bytes] = {}
        self.revision = 0
        self.loads = 0
        self.longest_gap_s = 0.0

    async def run(self) -> None:
        has_gap = True
        while True:
            try:
                if has_gap:
                    contents = await self.store.load()
                    self.held = {item.key: item.value for item in contents.items}
                    self.revision, has_gap, self.loads = contents.revision, False, self.loads + 1
                async for batch in self.store.follow(self.revision):
                    self._apply(batch)
            except Compacted:
                has_gap = True
            except Unavailable:
                await asyncio.sleep(0.2)

    def _apply(self, batch: Batch) -> None:
        assert batch.revision > self.revision, "heard twice, or out of order"
        self.revision = batch.revision
        for change in batch.changes:
            if change.value is None:
                del self.held[change.key]
            else:
                self.held[change.key] = change.value


async def passes(call: Callable[[], Awaitable[Any]]) -> bool:
    """Whether a call passes now: for `until`, where etcd needs its time."""
    try:
        await call()
    except Unavailable:
        return False
    return True
