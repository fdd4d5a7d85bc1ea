"""When leases run out, in memory only: a heartbeat must never reach a disk.

A lease is either alive (it has a deadline) or ending (its keys have still to be deleted).
"""

import asyncio
import heapq
import logging
from collections.abc import AsyncIterator, Callable

from meshd.core.errors import LeaseLost

log = logging.getLogger(__name__)

_TICK_S = 0.2


class Leases:
    """The deadlines of living leases, and why each ending one ends."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._ttl_s: dict[int, float] = {}
        self._deadline: dict[int, float] = {}
        # One entry a living lease, at its deadline or before: renewals do not touch it.
        self._due: list[tuple[float, int]] = []
        self.ending: dict[int, str] = {}

    def __repr__(self) -> str:
        return f"<Leases alive={len(self._ttl_s)} ending={len(self.ending)}>"

    def arm(self, lease: int, ttl_s: float) -> None:
        """Let a new lease live."""
        self._ttl_s[lease] = ttl_s
        self._deadline[lease] = self._clock() + ttl_s
        heapq.heappush(self._due, (self._deadline[lease], lease))

    def renew(self, lease: int) -> None:
        """Move the deadline on; LeaseLost."""
        if lease not in self._ttl_s:
            raise LeaseLost(f"lease {lease} is not known")
        self._deadline[lease] = self._clock() + self._ttl_s[lease]

    def is_alive(self, lease: int) -> bool:
        return lease in self._ttl_s

    def is_known(self, lease: int) -> bool:
        return lease in self._ttl_s or lease in self.ending

    def end(self, lease: int, why: str) -> None:
        """From here on the lease cannot be renewed."""
        self.forget(lease)
        self.ending[lease] = why

    def forget(self, lease: int) -> None:
        """The lease is gone, or never came to be."""
        self._ttl_s.pop(lease, None)
        self._deadline.pop(lease, None)
        self.ending.pop(lease, None)

    def expire(self) -> None:
        """End every lease whose deadline has passed."""
        now = self._clock()
        while self._due and self._due[0][0] <= now:
            _, lease = heapq.heappop(self._due)
            deadline = self._deadline.get(lease)
            if deadline is None:
                continue
            if deadline <= now:
                self.end(lease, f"lease {lease} expired")
            else:
                heapq.heappush(self._due, (deadline, lease))

    def extend(self, by_s: float) -> None:
        """Give every living lease more time."""
        for lease in self._deadline:
            self._deadline[lease] += by_s

    async def ticks(self) -> AsyncIterator[None]:
        """Expire what is due, many times a second, without end.

        After the process stood still (stopped, swapped out) nobody can have renewed: leases
        get that time on top, so that a hung core does not empty the mesh when it wakes.
        """
        loop = asyncio.get_running_loop()
        while True:
            planned = loop.time() + _TICK_S
            await asyncio.sleep(_TICK_S)
            late = loop.time() - planned
            if late > _TICK_S:
                log.warning("process stood still: seconds=%.1f", late)
                self.extend(late)
            self.expire()
            yield
