"""When what is probed: a heap of due times, and for each address a gap between probes.

It knows no clock and no task; time comes as an argument, seconds on one monotonic clock.
"""

from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from itertools import count
from typing import Generic, Protocol, TypeVar

# To one address at most 20 probes a second, however many instances claim it.
ADDRESS_GAP_S = 0.05
# Stale entries, and times of addresses, that are let stand before somebody looks.
_SLACK = 1024


class Due(Protocol):
    """What can be scheduled: it has an address, and may have gone meanwhile."""

    @property
    def address(self) -> Hashable:
        """Whom a probe of it knocks at."""

    @property
    def is_gone(self) -> bool:
        """True if it need not be probed any more."""


T = TypeVar("T", bound=Due)


@dataclass(order=True, slots=True)
class _Entry(Generic[T]):
    """A target that is due; or with None, the turn of an address that others wait for."""

    at: float
    number: int
    target: T | None = field(compare=False)
    address: Hashable = field(compare=False)


class Schedule(Generic[T]):
    """Gives out targets when they are due, each address at most once in a gap."""

    def __init__(self, gap_s: float = ADDRESS_GAP_S) -> None:
        self._gap_s = gap_s
        self._heap: list[_Entry[T]] = []
        self._numbers = count()
        self._waiting: dict[Hashable, deque[T]] = {}
        self._free_at: dict[Hashable, float] = {}
        self._prune_above = _SLACK
        self._stale = 0

    def add(self, target: T, at: float) -> None:
        """Let a target be due at a time; it must not be in here."""
        self._push(at, target, target.address)

    def note_gone(self) -> None:
        """A target has gone: what was added of it is thrown away, at the latest when it is due."""
        self._stale += 1
        if self._stale > len(self._heap) // 2 + _SLACK:
            self._heap = [e for e in self._heap if e.target is None or not e.target.is_gone]
            heapify(self._heap)
            self._stale = 0

    def next_at(self) -> float | None:
        """When to look again; None: when something was added."""
        return self._heap[0].at if self._heap else None

    def pop(self, now: float) -> T | None:
        """The next target that may be probed now."""
        while self._heap and self._heap[0].at <= now:
            entry = heappop(self._heap)
            found = self._turn(entry.address) if entry.target is None else entry.target
            if found is None or found.is_gone:
                continue
            if entry.target is None or self._is_free(found, now):
                self._take(found.address, now)
                return found
        return None

    def _is_free(self, target: T, now: float) -> bool:
        """True if its address may be knocked at; else it waits for the address's turn."""
        waiting = self._waiting.get(target.address)
        free_at = self._free_at.get(target.address, now)
        if waiting is None and free_at <= now:
            return True
        if waiting is None:
            self._waiting[target.address] = deque([target])
            self._push(free_at, None, target.address)
        else:
            waiting.append(target)
        return False

    def _turn(self, address: Hashable) -> T | None:
        waiting = self._waiting[address]
        while waiting:
            target = waiting.popleft()
            if not target.is_gone:
                return target
        del self._waiting[address]
        return None

    def _take(self, address: Hashable, now: float) -> None:
        self._free_at[address] = now + self._gap_s
        if address in self._waiting:
            if self._waiting[address]:
                self._push(now + self._gap_s, None, address)
            else:
                del self._waiting[address]
        if len(self._free_at) > self._prune_above:
            self._free_at = {each: at for each, at in self._free_at.items() if at > now}
            self._prune_above = 2 * len(self._free_at) + _SLACK

    def _push(self, at: float, target: T | None, address: Hashable) -> None:
        heappush(self._heap, _Entry(at, next(self._numbers), target, address))
