"""How a core follows its store: watched, loaded whole now and then, and not taken at any price.

A store that is older or emptier than what was seen of it freezes the core: answers go on, nothing
is written, until an operator accepts the store or it is as it was.
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable

from meshd.core.errors import Compacted, MeshError, Refused, Unavailable
from meshd.daemon.reach import Reach
from meshd.daemon.relist import regress
from meshd.daemon.state import State
from meshd.daemon.store.base import Author, Batch, Contents, Store

log = logging.getLogger(__name__)

_RETRY_S = 1.0
# A store that must not be taken is looked at again.
_FROZEN_S = 3.0
# Loading everything is dear: whoever asks for it waits so long, and this share of the time at most
# goes into it.
_LOAD_EVERY_S = 0.2
_LOAD_DUTY = 0.2
# Loading is quicker than catching up with more than so many revisions.
_BACKLOG = 5000
_CATCH_UP_S = 2.0
_SEEN_S = 1.0
# Bounds what is not swapped in yet.
_MOST_BATCHES = 4096

# Takes what was loaded: what differs where all before is held, or all in place of it.
Take = Callable[[Contents], Awaitable[None]]


class Following:
    """Brings what a store commits to whoever swaps it in."""

    def __init__(self, store: Store, state: State, reach: Reach, take: Take) -> None:
        self._store = store
        self._state = state
        self._reach = reach
        self._take = take
        # Committed batches that are not swapped in yet.
        self.batches: asyncio.Queue[Batch] = asyncio.Queue(_MOST_BATCHES)
        # What an operator has to decide; empty: nothing.
        self.alarm = ""
        # Everything was heard up to here; None: it has to be loaded.
        self.followed: int | None = None
        # True if events may have been lost since the last load, leases among them.
        self.has_gap = True
        self.loads = 0
        # Seconds between loads; None: the watch cannot fail.
        self.relist_s: float | None = None
        self._is_older = False
        self._loading = asyncio.Lock()
        self._rest_until = float("-inf")
        self._watching: asyncio.Timeout | None = None
        # Set to look at the store before it is time.
        self._woken = asyncio.Event()

    def begin(self, contents: Contents) -> None:
        """Everything was loaded and is in the state: go on from there."""
        self.followed, self.has_gap = contents.revision, False

    async def run(self) -> None:
        """Follow for ever."""
        while True:
            try:
                if self.followed is None:
                    await self._load()
                if self.alarm:
                    await self._rest(_FROZEN_S)
                else:
                    await self._watch()
            except Compacted as error:
                log.warning("store history has a gap, loading it whole: %s", error)
                self._lose()
            except MeshError as error:
                # Not only away: it may not let this core in.
                self._reach.lost(str(error))
                await self._rest(_RETRY_S)

    async def catch_up(self, revision: int) -> bool:
        """Wait a little until a revision that somebody saw was swapped in; True if it was."""
        if self._state.snapshot.topology.revision >= revision:
            return True
        self.load_soon()
        try:
            await self._state.reached(revision, _CATCH_UP_S)
        except Unavailable:
            return False
        return True

    async def seen(self, revision: int) -> None:
        """Wait until what was written came back; if the watch is slow it is loaded. Unavailable."""
        try:
            await self._state.reached(revision, _SEEN_S)
        except Unavailable:
            # Whoever wrote to the store reached it, whatever was thought of it before.
            self._woken.set()
            self.load_soon()
            await self._state.reached(revision, _SEEN_S)

    async def accept(self, author: str) -> tuple[str, int]:
        """Take the store as it is; returns its id and revision. Refused if it need not be."""
        if not self.alarm:
            raise Refused("there is nothing to accept: the store is the one that this core follows")
        async with self._loading:
            if self._is_older:
                await self._store.restamp(Author(author, "accept-store"))
            contents = await self._store.load()
            await self._take(contents)
            self.alarm, self.has_gap, self.followed = "", False, contents.revision
            self._woken.set()
            log.warning(
                "store accepted: by=%s store=%s revision=%d was=%r",
                author, contents.store_id, contents.revision, self._state,
            )  # fmt: skip
            return contents.store_id, contents.revision

    def _lose(self) -> None:
        self.followed, self.has_gap = None, True

    async def _load(self) -> None:
        """Load everything, and have it taken if it may be."""
        async with self._loading:
            began = asyncio.get_running_loop().time()
            contents = await self._store.load()
            # All that was followed before is swapped in: what differs then was missed.
            await self.batches.join()
            self._judge(contents)
            if self.alarm:
                return
            self.loads += 1
            await self._take(contents)
            self.followed, self.has_gap = contents.revision, False
            now = asyncio.get_running_loop().time()
            self._rest_until = now + max(_LOAD_EVERY_S, (now - began) / _LOAD_DUTY)

    def _judge(self, contents: Contents) -> None:
        held = self._state.snapshot.topology
        if self.alarm and self._is_older and contents.store_id == held.store_id:
            # Leases that end in it move its revision past what is held; it lacks the same still.
            return
        why = regress(held, contents)
        self._is_older = contents.store_id == held.store_id
        if why and not self.alarm:
            log.error("store not taken, answers stay as they are: %s", why)
        elif self.alarm and not why:
            log.warning("store taken again: store=%s", contents.store_id)
        self.alarm = why and f"{why}; `meshctl accept-store` takes it as it is"

    async def _watch(self) -> None:
        """Hand on batches until it is time to load everything."""
        assert self.followed is not None, "loaded before it is watched"
        head = await self._store.head()
        is_other = self._store.store_id != self._state.snapshot.topology.store_id
        if is_other or head - self.followed > _BACKLOG:
            self._lose()
            return
        try:
            async with asyncio.timeout(self._relist_in_s()) as self._watching:
                async for batch in self._store.follow(self.followed):
                    await self.batches.put(batch)
                    self.followed = batch.revision
        except TimeoutError:
            # Nothing is lost as far as anybody knows: that is what is looked at.
            self.followed = None
        finally:
            self._watching = None

    async def _rest(self, most_s: float) -> None:
        self._woken.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(most_s):
                await self._woken.wait()

    def load_soon(self) -> None:
        """Load everything before its time, if the watch may be behind."""
        watching = self._watching
        if watching is None or self.relist_s is None or watching.expired():
            return
        soon = max(asyncio.get_running_loop().time(), self._rest_until)
        watching.reschedule(min(soon, watching.when() or soon))

    def _relist_in_s(self) -> float | None:
        # Spread, so that cores do not all load at once.
        return None if self.relist_s is None else self.relist_s * random.uniform(0.8, 1.2)
