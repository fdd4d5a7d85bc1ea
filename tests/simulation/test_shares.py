"""Load moves clients, and comes to rest: in virtual time, with reports up to three TTLs late."""

import pytest

from tests.simulation.scenes import TTL_S, one_weak
from tests.simulation.world import (
    Judge,
    Setting,
    World,
    balanced,
    headroom_as_weight,
    least_loaded,
    spread,
)

DELAYS = [1, TTL_S, 3 * TTL_S]


def swing(judge: Judge, delay_s: int, last_s: int) -> float:
    world = World(one_weak(delay_s), judge).run(900)
    return max(spread(world.series(name)[-last_s:]) for name in world.setting.instances)


@pytest.mark.parametrize("delay_s", DELAYS)
def test_shares_settle(delay_s: int) -> None:
    world = World(one_weak(delay_s), balanced).run(900)
    assert world.series("a")[0] > 0.9
    last = {name: world.series(name)[-120:] for name in "abcd"}
    assert max(spread(loads) for loads in last.values()) < 0.1
    assert max(max(loads) for loads in last.values()) < 0.8
    assert spread([sum(loads) / 120 for loads in last.values()]) < 0.25
    # What it can do is 0.6 of 3.6.
    assert world.share("a", 120) == pytest.approx(0.6 / 3.6, abs=0.04)


@pytest.mark.parametrize("delay_s", [TTL_S, 3 * TTL_S])
@pytest.mark.parametrize("twin", [headroom_as_weight, least_loaded])
def test_the_twins_swing(twin: Judge, delay_s: int) -> None:
    """The same world, judged in the ways that look right."""
    assert swing(twin, delay_s, 600) > 0.6
    assert swing(balanced, delay_s, 300) < 0.15


def test_the_ttl_falls_where_load_is() -> None:
    world = World(one_weak(1, strength=0.5), balanced)
    assert world.run(3).ttls == [60, 6, 6]
    assert world.run(900).ttls[-1] >= 24


@pytest.mark.parametrize("delay_s", DELAYS)
def test_one_who_says_it_is_idle_gets_at_most_twice_a_fair_share(delay_s: int) -> None:
    instances = {name: ("eu", 1.0) for name in "abcd"}
    setting = Setting(instances, lambda pop, now: 0.5, report_delay_s=delay_s, liars=frozenset("a"))
    world = World(setting, balanced).run(900)
    assert 0.25 < world.share("a", 120) <= 0.5


@pytest.mark.parametrize("delay_s", [1, TTL_S])
@pytest.mark.parametrize("seed", [1, 2])
def test_noise_changes_no_answer_once_settled(delay_s: int, seed: int) -> None:
    world = World(one_weak(delay_s, noise=0.03), balanced, seed).run(2400)
    assert world.changes, "something did change before"
    assert [second for second in world.changes if second >= 1500] == []
