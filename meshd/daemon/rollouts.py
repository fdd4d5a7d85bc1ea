"""Moving rollouts: the core that decides on a service writes what becomes of its rollout next.

What becomes of one is core's (rollout.py). Each write names the revision at which the record was
looked at, so of two cores that believe to decide one moves it. Steps last by this process's
monotonic clock, added to what the record says; no two clocks are ever compared.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from meshd.core.errors import Conflict, Invalid, MeshError, Refused
from meshd.core.judging import Reading
from meshd.core.references import Known, reference_faults
from meshd.core.release import Phase, Rollout
from meshd.core.rollout import Begun, advanced, begun, due, gates_of, noted, over_and_done
from meshd.core.snapshot import Snapshot
from meshd.core.topology import Kind, Topology
from meshd.daemon.commits import Commits
from meshd.daemon.lines import Lines, note_in_s, patient, settled, what_became
from meshd.daemon.pump import Pump
from meshd.daemon.state import State
from meshd.daemon.store.base import Author, Delete, Expect, Put, Write
from meshd.wire.records import key_of, value_of

log = logging.getLogger(__name__)

_TICK_S = 1.0
_WHO = "meshd"


class _Clock(NamedTuple):
    """A step as a record said it, and when (monotonic seconds) it was seen."""

    step: int
    held_s: float
    since: float


class Advancing:
    """Moves rollouts by their gates, by hand, and because a new version appeared."""

    def __init__(self, state: State, pump: Pump, commits: Commits) -> None:
        self._state = state
        self._pump = pump
        self._commits = commits
        self._decides = pump.observed.duties.decides
        self._testimony = pump.reports.testimony
        self._clocks: dict[str, _Clock] = {}
        self._lines = Lines.of(state.snapshot.topology)
        # Service -> what its policy on new versions was asked about, and wanted nothing.
        self._asked: dict[str, object] = {}
        # Service -> what the gates of its rollout said last, where this core moves it.
        self.readings: dict[str, tuple[Reading, ...]] = {}

    async def run(self) -> None:
        """Move them, for ever."""
        while True:
            await self.tick(time.monotonic())
            rollouts = self._state.snapshot.topology.rollouts
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_TICK_S):
                    while self._state.snapshot.topology.rollouts is rollouts:
                        await self._state.moved()

    async def tick(self, now: float) -> None:
        """See what became of all of them, and move those that are this core's to move."""
        snapshot = self._state.snapshot
        moving = self._look(snapshot.topology, now)
        mine = {service: each for service, each in moving.items() if self._decides(service)}
        self._testimony.follow(mine, now)
        self._testimony.look(snapshot)
        for service in self.readings.keys() - mine.keys():
            del self.readings[service]
        if self._pump.reach.is_away or self._pump.alarm:
            return
        try:
            for rollout in mine.values():
                await self._advance(rollout.name, now)
                # Judging takes milliseconds, where many hosts report.
                await asyncio.sleep(0)
            for service in self._lines.receiving:
                if self._decides(service):
                    await self._receive(service)
        except MeshError as error:
            # None of the others would be written either, as a rule; the next tick tries again.
            log.warning("rollouts not moved: %s", error)

    def _look(self, topology: Topology, now: float) -> Mapping[str, Rollout]:
        """The rollouts under way; all cores count how long each step lasts."""
        if not self._lines.are_of(topology):
            self._lines = Lines.of(topology)
            for service in self._asked.keys() - set(self._lines.receiving):
                del self._asked[service]
        moving = self._lines.moving
        clocks = {}
        for each in moving.values():
            held = self._clocks.get(each.name)
            is_same = held is not None and (held.step, held.held_s) == (each.step, each.held_s)
            is_still = each.phase is not Phase.RUNNING
            if held is None or not is_same or is_still:
                held = _Clock(each.step, each.held_s, now)
            clocks[each.name] = held
        self._clocks = clocks
        return moving

    def elapsed_s(self, rollout: Rollout, now: float) -> float:
        """How long a rollout has stood at its step."""
        clock = self._clocks.get(rollout.name)
        if clock is None or rollout.phase is not Phase.RUNNING or clock.step != rollout.step:
            return rollout.held_s
        return max(rollout.held_s, clock.held_s + now - clock.since)

    async def _advance(self, name: str, now: float) -> None:
        # Both of one moment: the record may have changed since this tick began.
        rollout = self._state.snapshot.topology.rollouts.get(name)
        revision = self._pump.revision_of(key_of(Kind.ROLLOUTS, name))
        if rollout is None or revision is None or rollout.phase is not Phase.RUNNING:
            return
        evidence = self._testimony.evidence(rollout)
        if evidence is None:
            return
        elapsed_s = self.elapsed_s(rollout, now)
        seen = self.readings[rollout.service] = gates_of(rollout, evidence)
        heard_s = self._testimony.heard_s(rollout, now)
        after = advanced(patient(rollout, heard_s), evidence, elapsed_s, time.time())
        if after is not None:
            after = replace(after, course=rollout.course)
        elif elapsed_s - rollout.held_s >= note_in_s(rollout):
            after = noted(rollout, seen, elapsed_s)
        if after is None:
            return
        try:
            await self._write(rollout, after, revision, Author(_WHO, what_became(rollout, after)))
        except Conflict:
            # Another core moved it, or somebody by hand: what became of it comes by the store.
            log.info("rollout moved by somebody else: rollout=%s", name)

    async def _write(self, before: Rollout, after: Rollout, revision: int, author: Author) -> int:
        """Write what becomes of a rollout that stands at a revision; the revision after it."""
        key = key_of(Kind.ROLLOUTS, after.name)
        writes: list[Write] = [Put(key, value_of(after))]
        guard = None
        if after.phase is Phase.DONE:
            snapshot = self._state.snapshot
            service = settled(snapshot, after)
            if service is not None:
                writes.append(Put(key_of(Kind.SERVICES, service.name), value_of(service)))
                guard = self._state.guard
        made = await self._commits.write(writes, author, guard, [Expect(key, revision)])
        log.info(
            "%s: rollout=%s service=%s to=%s phase=%s", author.what, after.name, after.service,
            after.to, after.phase,
        )  # fmt: skip
        return made

    async def move(
        self,
        find: Callable[[Topology], Rollout],
        become: Callable[[Rollout, float], Rollout],
        author: Callable[[Rollout, Rollout], Author],
    ) -> tuple[Rollout, int]:
        """Move a rollout by hand: what it becomes, by how long it stood, and the revision."""

        async def attempt() -> tuple[Rollout, int]:
            rollout = find(self._state.snapshot.topology)
            revision = self._pump.revision_of(key_of(Kind.ROLLOUTS, rollout.name))
            if revision is None:
                raise Conflict(f"this core does not know where {rollout.name} stands: try again")
            now = time.monotonic()
            after = become(rollout, self.elapsed_s(rollout, now))
            return after, await self._write(rollout, after, revision, author(rollout, after))

        return await self._commits.again(
            attempt, lambda: (self._state.guard, self._state.snapshot.topology.rollouts)
        )

    async def begin(
        self, wanted: Callable[[Snapshot], Rollout], author: Author
    ) -> tuple[Begun, int]:
        """Begin the rollout that is wanted as things are now, and the revision; see `begun`."""

        async def attempt(guard: int, snapshot: Snapshot) -> tuple[Begun, int]:
            rollouts = snapshot.topology.rollouts
            made = begun(rollouts.values(), wanted(snapshot))
            if not made.is_new:
                return made, snapshot.topology.revision
            if faults := reference_faults(Known(snapshot.topology), [made.rollout], {}):
                raise Invalid(faults)
            new, key = made.rollout, key_of(Kind.ROLLOUTS, made.rollout.name)
            gone = [each.name for each in over_and_done(rollouts.values(), new.service)]
            gone += [made.replaced.name] if made.replaced else []
            writes: list[Write] = [Put(key, value_of(new))]
            writes += [Delete(key_of(Kind.ROLLOUTS, name)) for name in gone]
            named = [key, *(write.key for write in writes[1:])]
            expect = [Expect(each, self._pump.revision_of(each) or 0) for each in named]
            return made, await self._commits.write(writes, author, guard, expect)

        made, revision = await self._commits.planned(0, attempt)
        if made.is_new:
            log.info(
                "%s: rollout=%s service=%s to=%s by=%s", author.what, made.rollout.name,
                made.rollout.service, made.rollout.to, author.who,
            )  # fmt: skip
        return made, revision

    async def _receive(self, name: str) -> None:
        """Begin what a service's policy on new versions wants."""
        own = self._lines.by_service.get(name, ())
        view = self._state.snapshot.views.get(name)
        asked = view and (view.service, view.versions, own)
        if view is None or self._asked.get(name) == asked:
            return
        wanted = due(view.service, own, view.versions)
        if wanted is None:
            self._asked[name] = asked
            return
        what = f"rollout {wanted.name} {wanted.phase}: {wanted.reason}"
        try:
            await self.begin(partial(_due, name), Author(_WHO, what))
        except Invalid as error:
            self._asked[name] = asked
            log.warning("rollout not begun: service=%s %s", name, error)
        except Refused as error:
            # Another core, or somebody by hand, was first.
            log.info("rollout not begun: service=%s %s", name, error)


def _due(name: str, snapshot: Snapshot) -> Rollout:
    """The rollout that a service's policy wants; Refused if that is none any more."""
    view = snapshot.views.get(name)
    rollouts = snapshot.topology.rollouts.values()
    wanted = due(view.service, rollouts, view.versions) if view else None
    if wanted is None:
        raise Refused("no rollout is due any more")
    now = time.time()
    return replace(wanted, author=_WHO, began_unix_s=now, changed_unix_s=now)
