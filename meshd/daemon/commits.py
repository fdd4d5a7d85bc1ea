"""Commits that follow from what was looked at: planned as of one state, refused or tried again.

Of two commits that change the topology and were planned from one state, one is refused.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TypeVar

from meshd.core.errors import Conflict, Unavailable
from meshd.core.snapshot import Snapshot
from meshd.daemon.pump import Pump
from meshd.daemon.state import State
from meshd.daemon.store.base import Author, Expect, Put, Store, Write
from meshd.wire.records import GUARD_KEY

# How long a writer waits for the commit of another core that came first, and how often in all.
_BEHIND_S = 1.5
_TRIES = 10

_T = TypeVar("_T")


class Commits:
    """Writes to the topology; those that were planned wait for their turn."""

    def __init__(self, store: Store, state: State, pump: Pump) -> None:
        self._store = store
        self._state = state
        self._pump = pump
        # Of two commits planned from one state one is refused: here each waits for its turn.
        self._turn = asyncio.Lock()

    async def planned(self, revision: int, attempt: Callable[[int, Snapshot], Awaitable[_T]]) -> _T:
        """Plan and write, as of the revision that was looked at; 0: as things are now.

        As things are now is tried again where a commit of another core came first.
        """
        if revision:
            await self._reach(revision)
        has_waited = self._turn.locked()
        async with self._turn:
            if has_waited and self._pump.reach.is_away:
                # Whoever was before has found out: not everybody need wait for that.
                raise Unavailable(f"nothing is written: {self._pump.reach.reason}")
            if revision:
                _check_planned(revision, self._state.guard)
                return await attempt(self._state.guard, self._state.snapshot)
            return await self.again(
                lambda: attempt(self._state.guard, self._state.snapshot),
                lambda: self._state.guard,
            )

    async def again(self, attempt: Callable[[], Awaitable[_T]], stands: Callable[[], object]) -> _T:
        """Try again where another commit came first, once what it changed stands elsewhere."""
        for _ in range(_TRIES):
            stood = stands()
            try:
                return await attempt()
            except Conflict as error:
                refused = error
                if not await self._passed(stands, stood):
                    break
        raise refused

    async def _reach(self, revision: int) -> None:
        """Wait a little if the plan was made by a core that is ahead; Unavailable."""
        if not await self._pump.following.catch_up(revision):
            held = self._state.snapshot.topology.revision
            raise Unavailable(
                f"this core is at revision {held}, behind {revision} of the plan: try again"
            )

    async def _passed(self, stands: Callable[[], object], stood: object) -> bool:
        """Wait a little for the commit that came first; True if it was swapped in."""
        self._pump.following.load_soon()
        try:
            async with asyncio.timeout(_BEHIND_S):
                while stands() == stood:
                    await self._state.moved()
        except TimeoutError:
            return False
        return True

    async def write(
        self,
        writes: Sequence[Write],
        author: Author,
        guard: int | None,
        expect: Iterable[Expect] = (),
    ) -> int:
        """Commit, and wait until it is swapped in; its revision.

        With a guard it is a commit of the topology as it was planned at that revision.
        """
        wanted, put = [*expect], [*writes]
        if guard is not None:
            wanted.append(Expect(GUARD_KEY, guard))
        if guard is not None and writes:
            # Two topology commits planned from one state cannot both pass. The value must change,
            # for a store makes no revision of what stays the same.
            put.append(Put(GUARD_KEY, str(guard).encode()))
        # With nothing to write the store is asked too: there may be, where this core lags.
        try:
            revision = await self._store.commit(put, author, wanted)
        except Conflict as error:
            raise Conflict(
                f"somebody else changed the topology at the same moment ({error}):"
                " look at what there is now and try again"
            ) from None
        if put:
            await self._pump.following.seen(revision)
        return revision


def _check_planned(revision: int, guard: int) -> None:
    """Conflict if the topology changed since something was planned; 0: it was not."""
    if revision and guard > revision:
        raise Conflict(
            f"the topology changed (revision {guard}) since this was planned at "
            f"revision {revision}: plan again"
        )
