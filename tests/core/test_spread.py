"""Shares and TTLs of a Pop's clients, against all buckets."""

from collections import Counter

import pytest

from meshd.core.hashing import BUCKETS
from meshd.core.nearness import Nearness
from meshd.core.ranges import Policy
from meshd.core.resolve import Spot, choose
from meshd.core.signals import Signal
from meshd.core.spread import spread
from meshd.core.verdict import Verdict
from tests import samples


@pytest.mark.parametrize("pop", ["eu", "us", "ap"])
def test_spread_is_what_all_buckets_say(pop: str) -> None:
    loaded = {f"api-{pop}-12": Signal(load=0.9)}
    view = samples.snapshot().advance(signals=loaded).views["api"]
    choices = [choose(view, Spot(), Policy(pop, {}), bucket) for bucket in range(BUCKETS)]
    firsts = Counter(choice.chosen[0].member.instance.name for choice in choices)
    found = spread(view, pop)
    assert sum(found.firsts.values()) == pytest.approx(1)
    for name, count in firsts.items():
        # 128 of 1,024 buckets are sampled: four standard deviations at worst.
        assert found.firsts.get(name, 0) == pytest.approx(count / BUCKETS, abs=0.18)
    ttls = {choice.ttl.seconds for choice in choices}
    assert found.ttl_min_s == min(ttls) < found.ttl_max_s == max(ttls)


def test_who_is_down_gets_nobody() -> None:
    down = {"api-eu-11": Signal(verdict=Verdict.DOWN)}
    found = spread(samples.snapshot().advance(signals=down).views["api"], "eu")
    assert found.firsts.keys() == {f"api-eu-{number}" for number in range(12, 16)}


def test_a_service_without_instances_gives_nobody() -> None:
    view = samples.snapshot().views["old"]
    empty = type(view).of(view.service, (), Nearness({}))
    assert spread(empty, "eu").firsts == {}
