"""The newest revision of a store, and the wait of its followers for the next one."""

import asyncio

from meshd.core.errors import Unavailable


class Head:
    """Only ever moves on, until it is closed."""

    def __init__(self, revision: int) -> None:
        self.revision = revision
        self._moved = asyncio.Event()
        self.is_closed = False

    def advance(self, revision: int) -> None:
        """Wake whoever waits, if this is news."""
        if revision > self.revision:
            self.revision = revision
            self._wake()

    def close(self) -> None:
        """Send away whoever waits."""
        self.is_closed = True
        self._wake()

    async def past(self, revision: int) -> None:
        """Wait until there is something after a revision; Unavailable once closed."""
        while self.revision <= revision and not self.is_closed:
            await self._moved.wait()
        self.check()

    def check(self) -> None:
        """Unavailable once closed."""
        if self.is_closed:
            raise Unavailable("the store is closed")

    def _wake(self) -> None:
        self._moved.set()
        self._moved = asyncio.Event()
