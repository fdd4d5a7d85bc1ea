"""The one mutable cell of a core, and the feed of what changed in it.

All swaps happen in one task (main.py). Whoever follows gets the snapshot of one moment and
every change after it: both are taken without an await between.
"""

import asyncio
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from meshd.core.errors import Unavailable
from meshd.core.signals import Signal
from meshd.core.snapshot import Snapshot
from meshd.core.topology import Change
from meshd.daemon.drain import Lasting
from meshd.v1.topology_pb2 import FollowResponse
from meshd.wire.follow import changes_event

# Revisions kept so that a follower that was away can go on without a whole snapshot.
_HISTORY = 2000
# Events that a follower may lag behind before it is sent away to begin anew.
_FEED_BOUND = 4000


def advanced(
    snapshot: Snapshot,
    changes: Sequence[Change],
    revision: int,
    signals: Mapping[str, Signal | None],
) -> tuple[Snapshot, FollowResponse]:
    """The snapshot after one committed revision, or new signals, or both, and what followers hear.

    Pure: where there is much of it, a thread can do it.
    """
    after = snapshot.advance(changes, revision, signals)
    return after, changes_event(revision, changes, signals)


class Held(NamedTuple):
    """A presence as the store has it."""

    lease: int
    revision: int


class Feed:
    """What one follower has still to be sent; overruns instead of growing."""

    def __init__(self, name: str = "") -> None:
        # Who follows, for people.
        self.name = name
        self.queue: asyncio.Queue[FollowResponse] = asyncio.Queue(_FEED_BOUND)
        self.overrun = False

    def put(self, event: FollowResponse) -> None:
        """Add an event, or mark the feed as overrun."""
        try:
            self.queue.put_nowait(event)
        except asyncio.QueueFull:
            self.overrun = True


class State:
    """Holds the snapshot; `advance` replaces it and feeds those who follow."""

    def __init__(self, snapshot: Snapshot, guard: int) -> None:
        self.snapshot = snapshot
        # Revision of the last topology commit; writers must name it (wire/records.py).
        self.guard = guard
        # Instance -> the lease that its presence is bound to, and the revision that put it.
        self.leases: dict[str, Held] = {}
        self.lasting = Lasting(snapshot, time.monotonic())
        self.swaps = 0
        self._feeds: set[Feed] = set()
        self._names: Counter[str] = Counter()
        # Who follows now -> the revision that it answers from, as far as it said.
        self.confirmed: dict[str, int] = {}
        # Every change above the floor, oldest first.
        self._history: deque[FollowResponse] = deque()
        self._floor = snapshot.topology.revision
        self._moved = asyncio.Event()

    def replace(self, snapshot: Snapshot, guard: int) -> None:
        """Take a snapshot that does not follow from the last; all followers begin anew."""
        self.snapshot, self.guard = snapshot, guard
        self._history.clear()
        self.confirmed.clear()
        self._floor = snapshot.topology.revision
        for feed in self._feeds:
            feed.overrun = True
        self._wake()

    def advance(
        self,
        changes: Sequence[Change],
        revision: int,
        signals: Mapping[str, Signal | None],
        guard: int | None = None,
    ) -> None:
        """Apply one committed revision, or new signals, or both."""
        self.take(*advanced(self.snapshot, changes, revision, signals), guard)

    def take(self, snapshot: Snapshot, event: FollowResponse, guard: int | None = None) -> None:
        """Take the snapshot that follows from the last by an event, as `advanced` made them."""
        self.snapshot = snapshot
        self.guard = guard or self.guard
        if event.changes.edits:
            self._history.append(event)
            if len(self._history) > _HISTORY:
                self._floor = self._history.popleft().changes.revision
        for feed in self._feeds:
            feed.put(event)
        self._wake()

    def _wake(self) -> None:
        self.swaps += 1
        self.lasting.swapped(self.snapshot, time.monotonic())
        self._moved.set()
        self._moved = asyncio.Event()

    @property
    def is_loaded(self) -> bool:
        """False as long as there was never anything to answer from."""
        return bool(self.snapshot.topology.store_id)

    async def loaded(self) -> None:
        """Wait until there is something to answer from."""
        while not self.is_loaded:
            await self.moved()

    def follow(self, name: str = "") -> Feed:
        """A feed of everything after the snapshot of this moment."""
        feed = Feed(name)
        self._feeds.add(feed)
        self._names[name] += 1
        return feed

    def unfollow(self, feed: Feed) -> None:
        """Feed no more."""
        if feed not in self._feeds:
            return
        self._feeds.discard(feed)
        self._names[feed.name] -= 1
        if not self._names[feed.name]:
            del self._names[feed.name]
            self.confirmed.pop(feed.name, None)

    def confirm(self, name: str, store_id: str, revision: int) -> None:
        """Who follows says that it answers from a revision."""
        if store_id == self.snapshot.topology.store_id and self._names[name]:
            self.confirmed[name] = revision

    @property
    def followers(self) -> int:
        """How many follow now."""
        return len(self._feeds)

    @property
    def follower_names(self) -> list[str]:
        """Who follows now."""
        return sorted(self._names.keys() - {""})

    def since(self, store_id: str, revision: int) -> Sequence[FollowResponse] | None:
        """The changes after a revision, or None if only a whole snapshot will do."""
        topology = self.snapshot.topology
        if store_id != topology.store_id or not self._floor <= revision <= topology.revision:
            return None
        return [event for event in self._history if event.changes.revision > revision]

    async def moved(self) -> None:
        """Wait for the next swap."""
        await self._moved.wait()

    async def reached(self, revision: int, timeout_s: float = 2.0) -> None:
        """Wait until a committed revision came back by the store's follow; Unavailable if late."""
        try:
            async with asyncio.timeout(timeout_s):
                while self.snapshot.topology.revision < revision:
                    await self._moved.wait()
        except TimeoutError:
            raise Unavailable(
                f"it is written (revision {revision}), but this core has not seen it come back from"
                " the store yet: do not write it again, look again"
            ) from None

    def __repr__(self) -> str:
        topology = self.snapshot.topology
        return (
            f"<State: revision {topology.revision}, {len(topology.services)} services, "
            f"{len(topology.instances)} instances, {self.followers} followers>"
        )
