"""A full Pop and its neighbour: only what is missing goes over, it rests there and comes back."""

import pytest

from tests.simulation.scenes import FULL_UNTIL, TTL_S, two_pops
from tests.simulation.world import World, at_home, balanced, spread

DELAYS = [1, TTL_S, 3 * TTL_S]


@pytest.mark.parametrize("delay_s", DELAYS)
def test_the_missing_share_goes_over_and_comes_back(delay_s: int) -> None:
    world = World(two_pops(1.2, 0.3, delay_s), balanced).run(FULL_UNTIL)
    last = range(FULL_UNTIL - 300, FULL_UNTIL)
    for pop in ("eu", "us"):
        assert spread([world.mean(pop, second) for second in last]) < 0.1
    assert 0.7 < world.mean("eu", FULL_UNTIL - 1) < 0.95
    assert world.mean("us", FULL_UNTIL - 1) < 0.8
    # 0.85 of 1.2 can stay.
    assert 0.6 <= world.kept("eu") <= 0.8
    assert world.kept("us") == 1
    world.run(1500)
    assert world.kept("eu") == 1
    assert world.mean("eu", len(world.loads) - 1) == pytest.approx(0.4, abs=0.01)


@pytest.mark.parametrize("delay_s", DELAYS)
def test_two_pops_play_no_ping_pong(delay_s: int) -> None:
    """Once over, at most once a little back: kept parts do not go up and down for ever."""
    world = World(two_pops(1.2, 0.5, delay_s), balanced)
    kept = [world.run(20).kept("eu") for _ in range(180 // 2)]
    turns = [
        second
        for second, (a, b, c) in enumerate(zip(kept, kept[1:], kept[2:], strict=False))
        if (b - a) * (c - b) < 0
    ]
    assert len(turns) <= 2, kept
    assert spread(kept[-15:]) <= 0.1


@pytest.mark.parametrize("delay_s", DELAYS)
def test_where_all_are_full_nobody_is_worse_off(delay_s: int) -> None:
    setting = two_pops(1.3, 1.2, delay_s, until_s=10_000)
    spilling, staying = World(setting, balanced).run(1200), World(setting, at_home).run(1200)
    assert spilling.overload() <= staying.overload() * 1.02
    assert (spilling.kept("eu"), spilling.kept("us")) == (1, 1)
