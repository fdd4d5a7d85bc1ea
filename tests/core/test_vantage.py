"""Who probes whom and who decides: as many as asked for, evenly, and steady when a core goes."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from meshd.core.vantage import decider, probers

NAMES = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True)
CORES = st.lists(NAMES, min_size=1, max_size=8, unique=True)


@given(NAMES, CORES, st.integers(1, 4))
def test_as_many_as_asked_for(instance: str, cores: list[str], vantage: int) -> None:
    chosen = probers(instance, cores, vantage)
    assert len(set(chosen)) == len(chosen) == min(vantage, len(cores))
    assert set(chosen) <= set(cores)
    assert probers(instance, cores[::-1], vantage) == chosen


@given(NAMES, st.lists(NAMES, min_size=2, max_size=8, unique=True), st.integers(1, 3), st.data())
def test_a_core_that_goes_moves_only_its_own(
    instance: str, cores: list[str], vantage: int, data: st.DataObject
) -> None:
    gone = data.draw(st.sampled_from(cores))
    before = probers(instance, cores, vantage)
    after = probers(instance, [core for core in cores if core != gone], vantage)
    if gone in before:
        assert [core for core in before if core != gone] == list(after[: len(before) - 1])
    else:
        assert after == before


def test_the_spread_is_even() -> None:
    cores = [f"core-{number}" for number in range(5)]
    load = Counter(core for i in range(10_000) for core in probers(f"api-{i}", cores, 2))
    assert set(load) == set(cores)
    # 20,000 over five: each 4,000, and four standard deviations of a fair draw are 200.
    assert all(abs(count - 4000) < 200 for count in load.values()), load


@given(NAMES, CORES)
def test_one_decides(service: str, cores: list[str]) -> None:
    chosen = decider(service, cores)
    assert chosen in cores
    assert decider(service, cores[::-1]) == chosen
    others = [core for core in cores if core != chosen]
    for gone in others:
        assert decider(service, [core for core in cores if core != gone]) == chosen


def test_deciding_is_spread_evenly() -> None:
    cores = [f"core-{number}" for number in range(5)]
    load = Counter(decider(f"service-{i}", cores) for i in range(10_000))
    # Of 2,000 each, four standard deviations are 160.
    assert all(abs(load[core] - 2000) < 160 for core in cores), load
