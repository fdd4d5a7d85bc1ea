"""Which override counts for an instance: its name, else the longest pattern that matches."""

from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.core.errors import Invalid
from meshd.core.model import Force, Override
from meshd.core.topology import Change, Kind, Topology
from tests import samples


def with_overrides(**said: Force) -> Topology:
    named = {name.replace("_", "-").replace("ANY", "*"): force for name, force in said.items()}
    changes = [Change.put(Override(name, force)) for name, force in named.items()]
    return samples.topology().apply([Change(Kind.OVERRIDES, "api-us-3", None), *changes], 8)


def test_a_name_outranks_patterns_and_a_longer_pattern_shorter_ones() -> None:
    topology = with_overrides(
        apiANY=Force.DRAIN, api_euANY=Force.DOWN, api_eu_1ANY=Force.LEAVE, api_eu_11=Force.UP
    )
    found = {name: topology.force_on(name) for name in topology.instances}
    assert found["api-eu-11"] is Force.UP
    assert {found["api-eu-1"], found["api-eu-12"]} == {Force.LEAVE}
    assert found["api-eu-2"] is Force.DOWN
    assert found["api-us-3"] is Force.DRAIN
    assert found["old-1"] is None
    override = topology.override_on("api-eu-2")
    assert override is not None
    assert override.instance == "api-eu*"


def test_patterns_of_one_length_have_an_order_of_their_own() -> None:
    """Every core must come to the same verdict, in whichever order they were put."""
    one, other = Override("api-e*", Force.UP), Override("api-*1", Force.DOWN)
    for pair in ((one, other), (other, one)):
        topology = samples.topology().apply(map(Change.put, pair), 8)
        assert topology.force_on("api-eu-1") is Force.DOWN


def test_a_pattern_that_went_counts_no_more() -> None:
    topology = with_overrides(apiANY=Force.DRAIN)
    after = topology.apply([Change(Kind.OVERRIDES, "api*", None)], 9)
    assert (after.force_on("api-eu-1"), after.patterns) == (None, ())


def test_matching() -> None:
    topology = samples.topology()
    assert set(topology.matching("api-eu-?")) == {f"api-eu-{n}" for n in range(1, 6)}
    assert set(topology.matching("api-[ae]*-1")) == {"api-eu-1", "api-ap-1"}
    assert set(topology.matching("api-[!e]*-1")) == {"api-us-1", "api-ap-1"}
    assert list(topology.matching("old-1")) == ["old-1"]
    for nothing in ("old", "none-*", "NO NAME", "api-[", ""):
        assert not list(topology.matching(nothing))


@pytest.mark.parametrize("name", ["", "UP", "api eu", "a" * 64, "api/*", "api.eu"])
def test_what_is_no_pattern(name: str) -> None:
    with pytest.raises(Invalid):
        Override(name, Force.UP)


patterns = st.text("abi1*?[]!-", min_size=1, max_size=6)


@given(st.dictionaries(patterns, st.sampled_from(list(Force)), max_size=6), patterns)
def test_force_on_is_the_plain_rule(said: dict[str, Force], name: str) -> None:
    overrides = [Override(pattern, force) for pattern, force in said.items()]
    topology = Topology.load("x", 1, overrides)
    fitting = [o for o in overrides if o.is_pattern and fnmatchcase(name, o.instance)]
    fitting.sort(key=lambda o: (-len(o.instance), o.instance))
    best = said.get(name) or (fitting[0].force if fitting else None)
    assert topology.force_on(name) is best
