"""What clients' reports do where failures come of too much work: clients must not swing.

Nobody tells a load here. An instance that can do less than it says fails what is too much for it.
"""

from collections.abc import Mapping

import pytest

from meshd.core.model import Ttl
from meshd.core.outcomes import Outcome, Reporter
from meshd.core.signals import Signal
from meshd.daemon.observed import Observed
from meshd.daemon.reports import Reports
from tests.simulation.world import Setting, World

REPORTERS = [Reporter("h", f"r{n}") for n in range(8)]
MINUTES = 10


class ByReports:
    """Signals of a core that hears of every other second's calls, and of nothing else."""

    def __init__(self) -> None:
        self._observed = Observed()
        self._reports = Reports(self._observed)
        self._now = 0

    def __call__(self, world: World, loads: Mapping[str, float]) -> Mapping[str, Signal]:
        self._now += 1
        for name, load in world.loads[-1].items() if self._now % 2 else ():
            calls = int(300 * load)
            outcome = Outcome(calls, failures=int(calls * max(0.0, 1 - 1 / load)) if calls else 0)
            for who in REPORTERS:
                self._reports.note(world.snapshot, who, name, outcome, float(self._now))
        self._reports.tick(world.snapshot, float(self._now))
        pending, self._observed.pending = self._observed.pending, {}
        return pending


def weak(strength: float, ttl: Ttl) -> Setting:
    instances = {"a": ("eu", strength), "b": ("eu", 1.0), "c": ("eu", 1.0), "d": ("eu", 1.0)}
    return Setting(instances, lambda pop, now: 0.8, ttl)


@pytest.mark.parametrize("ttl", [Ttl(60, 60), Ttl(10, 10)], ids=["60 s", "10 s"])
@pytest.mark.parametrize("strength", [0.45, 0.55, 0.7])
def test_a_weak_one_gets_what_it_can_do(strength: float, ttl: Ttl) -> None:
    world = World(weak(strength, ttl), ByReports()).run(2 * 60 * MINUTES)
    alone = World(weak(strength, ttl), lambda world, loads: {}).run(2 * 60 * MINUTES)
    settled = 60 * MINUTES
    assert world.overload(settled) < 0.4 * alone.overload(settled)
    loads = world.series("a")[settled:]
    assert max(loads) < 1.25
    assert max(loads) - min(loads) < 0.25, "clients do not swing"
    assert len([second for second in world.changes if second >= settled]) < 10 * MINUTES
    assert max(max(world.series(name)[settled:]) for name in "bcd") < 1.1


def test_where_all_is_well_reports_change_nothing() -> None:
    world = World(weak(1.0, Ttl(60, 60)), ByReports()).run(300)
    assert world.changes == []
