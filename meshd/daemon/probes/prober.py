"""The loop that probes: follows the state, starts what is due, tells the pump what was found.

Everything new is due at once, and what limits the start is only how many probes may be under way
and how often one address may be knocked at.
"""

import asyncio
import contextlib
import random
from collections.abc import Callable

from meshd.core.guard import Guard
from meshd.core.verdict import is_turning, quick_s
from meshd.daemon.probes.kinds import Kinds, Outcome
from meshd.daemon.probes.metrics import ProbeMetrics
from meshd.daemon.probes.schedule import Schedule
from meshd.daemon.probes.targets import Target, Targets
from meshd.daemon.pump import Pump
from meshd.daemon.settings import CoreSettings
from meshd.daemon.state import State


class Prober:
    """Probes the instances of checked services, for ever."""

    def __init__(
        self,
        state: State,
        pump: Pump,
        settings: CoreSettings,
        guard: Guard,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._state = state
        self._pump = pump
        self._settings = settings.probes
        self._draw = draw
        self._duties = pump.observed.duties
        self._duties.followers.append(self._duties_moved)
        self._has_moved = False
        self.metrics = ProbeMetrics()
        self.targets = Targets(guard, self._is_mine)
        pump.observed.seen = self.reason
        self._schedule: Schedule[Target] = Schedule()
        self._in_flight = 0
        self._wake = asyncio.Event()

    def reason(self, instance: str) -> str:
        """What the last probe of an instance complained of, or why there is none; often empty."""
        target = self.targets.by_name.get(instance)
        if target is None:
            return ""
        if target.refusal:
            return f"not probed: {target.refusal}"
        return target.last.reason if target.last and not target.last.passed else ""

    async def run(self) -> None:
        """Probe, for ever."""
        async with Kinds() as kinds, asyncio.TaskGroup() as tasks:
            tasks.create_task(self._watch())
            while True:
                self._follow()
                self._start(tasks, kinds)
                await self._next()

    async def _watch(self) -> None:
        while True:
            # First, for the state may have moved before this began to wait.
            self._wake.set()
            await self._state.moved()

    def _follow(self) -> None:
        if self._has_moved:
            self._has_moved = False
            self.targets.reassign()
        found = self.targets.follow(self._state.snapshot)
        now = _now()
        for target in found.new:
            if target.refusal:
                self._pump.unprobed(target.instance.name)
            else:
                self._schedule.add(target, now)
        for _ in found.gone:
            self._schedule.note_gone()
        for name in found.idle:
            self._pump.unprobed(name)
        for name in found.left:
            self._pump.withdraw(name)
        if found.new or found.gone:
            refused = sum(1 for each in self.targets.by_name.values() if each.refusal)
            self.metrics.refused.set(refused)

    def _start(self, tasks: asyncio.TaskGroup, kinds: Kinds) -> None:
        while self._in_flight < self._settings.in_flight:
            target = self._schedule.pop(_now())
            if target is None:
                return
            self._in_flight += 1
            self.metrics.in_flight.set(self._in_flight)
            tasks.create_task(self._probe(target, kinds))

    async def _probe(self, target: Target, kinds: Kinds) -> None:
        began = _now()
        try:
            result = await kinds.probe(target.check, target.address, target.port)
        finally:
            self._in_flight -= 1
            self.metrics.in_flight.set(self._in_flight)
            self._wake.set()
        self.metrics.note(target.check.kind, result, _now() - began)
        # The instance, or its check, may have gone meanwhile.
        self._follow()
        if target.is_gone:
            return
        target.last = result
        if result.outcome is not Outcome.OWN:
            self._pump.probe(target.instance.name, result.passed, target.check)
        self._schedule.add(target, began + self._interval_s(target))

    async def _next(self) -> None:
        """Wait until a target is due, a probe has ended, or the state moved."""
        is_full = self._in_flight >= self._settings.in_flight
        at = None if is_full else self._schedule.next_at()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(at):
                await self._wake.wait()
        self._wake.clear()

    def _interval_s(self, target: Target) -> float:
        check = target.check
        probed = self._pump.observed.votes.own.get(target.instance.name)
        every_s = check.every_s
        if probed is not None and is_turning(probed, check):
            every_s = quick_s(check)
        return every_s * (1 + check.jitter * (2 * self._draw() - 1))

    def _is_mine(self, instance: str) -> bool:
        return self._duties.node in self._duties.probers(instance)

    def _duties_moved(self) -> None:
        self._has_moved = True
        self._wake.set()


def _now() -> float:
    return asyncio.get_running_loop().time()
