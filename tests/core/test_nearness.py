"""Fallbacks first, then by distance, those without location last."""

from meshd.core.model import Pop
from meshd.core.nearness import pops_by_nearness


def test_nearness() -> None:
    pops = {
        "eu": Pop("eu", (53.3, -6.3), ("ap",)),
        "us": Pop("us", (39.0, -77.5)),
        "sa": Pop("sa", (-23.5, -46.6)),
        "ap": Pop("ap", (1.3, 103.8)),
        "far": Pop("far"),
        "away": Pop("away"),
    }
    assert pops_by_nearness("eu", pops) == ("eu", "ap", "us", "sa", "away", "far")
    assert pops_by_nearness("us", pops) == ("us", "eu", "sa", "ap", "away", "far")
    assert pops_by_nearness("far", pops) == ("far", "ap", "away", "eu", "sa", "us")
    assert pops_by_nearness("gone", pops)[0] == "gone"
