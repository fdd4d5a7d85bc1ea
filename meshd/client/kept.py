"""One thing for each instance (a pool, a channel), for as long as the instance is answered."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Generic, TypeVar

from meshd.client.endpoint import Endpoint

T = TypeVar("T")
_Where = tuple[str, str, int]


class Slot(Generic[T]):
    """What is held for one instance, and by how many it is used."""

    __slots__ = ("held", "is_retired", "uses")

    def __init__(self, held: T) -> None:
        self.held = held
        self.uses = 0
        self.is_retired = False


class Kept(Generic[T]):
    """Made when first taken; closed once its instance has gone and nobody uses it any more."""

    def __init__(
        self, make: Callable[[Endpoint], T], close: Callable[[T], Awaitable[None]]
    ) -> None:
        self._make = make
        self._close = close
        self._slots: dict[_Where, Slot[T]] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._slots)

    def take(self, endpoint: Endpoint) -> Slot[T]:
        """Use what is held for an endpoint, until it is given back."""
        where = _where(endpoint)
        slot = self._slots.get(where)
        if slot is None:
            slot = self._slots[where] = Slot(self._make(endpoint))
        slot.uses += 1
        return slot

    def give(self, slot: Slot[T]) -> None:
        """It is used no more."""
        slot.uses -= 1
        if slot.is_retired and not slot.uses:
            self._end(slot)

    def keep(self, endpoints: Iterable[Endpoint]) -> None:
        """Retire what is held for others than these."""
        stays = set(map(_where, endpoints))
        for where in self._slots.keys() - stays:
            self._retire(where)

    async def close(self) -> None:
        """Close all, used or not."""
        for where in list(self._slots):
            slot = self._slots.pop(where)
            self._end(slot)
        if self._closing:
            await asyncio.wait(self._closing)

    def _retire(self, where: _Where) -> None:
        slot = self._slots.pop(where)
        slot.is_retired = True
        if not slot.uses:
            self._end(slot)

    def _end(self, slot: Slot[T]) -> None:
        task = asyncio.ensure_future(self._close(slot.held))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


def _where(endpoint: Endpoint) -> _Where:
    """An instance that moved is another one; one whose weight changed is not."""
    return endpoint.instance, endpoint.address, endpoint.port
