"""Whether the store can be reached. That it cannot is a state: answers go on, writes do not."""

import asyncio
import logging
import time

from meshd.core.errors import Unavailable
from meshd.daemon.store.base import Store

log = logging.getLogger(__name__)

_EVERY_S = 1.0
_TIMEOUT_S = 2.0


class Reach:
    """When the store was reached last (monotonic seconds), and if it was when last tried."""

    def __init__(self) -> None:
        self.reached_at: float | None = None
        self.is_away = False

    def age_s(self, now: float) -> float | None:
        """Seconds since the store was reached; None: never."""
        return None if self.reached_at is None else now - self.reached_at

    async def look(self, store: Store) -> None:
        """Try once."""
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                await store.history(1)
        except (Unavailable, TimeoutError) as error:
            if not self.is_away:
                log.warning("store away: %s", error or "no answer")
            self.is_away = True
        else:
            self.reached_at, self.is_away = time.monotonic(), False

    async def run(self, store: Store) -> None:
        """Try each second, for ever."""
        while True:
            await self.look(store)
            await asyncio.sleep(_EVERY_S)
