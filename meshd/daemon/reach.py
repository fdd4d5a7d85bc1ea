"""Whether the store can be reached. That it cannot is a state: answers go on, writes do not."""

import asyncio
import logging
import time
from collections.abc import Callable

from meshd.core.errors import MeshError
from meshd.daemon.store.base import Store

log = logging.getLogger(__name__)

_EVERY_S = 1.0
_TIMEOUT_S = 2.0


def _ignored() -> None:
    """Whoever does not want to know."""


class Reach:
    """When the store was reached last (monotonic seconds), and if it was when last tried."""

    def __init__(self, on_away: Callable[[], None] = _ignored) -> None:
        self.reached_at: float | None = None
        self.is_away = False
        # What the store said when it could not be reached; empty while it can be.
        self.reason = ""
        # Its newest revision, when it was reached last.
        self.head = 0
        self._on_away = on_away

    def age_s(self, now: float) -> float | None:
        """Seconds since the store was reached; None: never."""
        return None if self.reached_at is None else now - self.reached_at

    async def look(self, store: Store) -> None:
        """Try once."""
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                head = await store.head()
        except (MeshError, TimeoutError) as error:
            self.lost(str(error) or "the store does not answer")
        else:
            self.reached_at, self.head = time.monotonic(), head
            self.is_away, self.reason = False, ""

    def lost(self, reason: str) -> None:
        """Note that it could not be reached."""
        if not self.is_away:
            log.warning("store away: %s", reason)
        self.is_away, self.reason = True, reason
        self._on_away()

    async def run(self, store: Store) -> None:
        """Try each second, for ever."""
        while True:
            await self.look(store)
            await asyncio.sleep(_EVERY_S)
