"""Whom to call next, by tables, by counting, and against a twin that keeps only a log."""

import math
from collections import Counter
from dataclasses import dataclass, field, replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.client import choose
from meshd.client.choose import Ending, State, Strategy, Track
from meshd.client.endpoint import Endpoint, Outcome

OK, FAILURE, TIMEOUT, REFUSED = Outcome


def endpoint(name: str, tier: int = 0, weight: int = 1000) -> Endpoint:
    return Endpoint(name, f"10.0.0.{ord(name[0])}", 80, "api.mesh.internal", tier, weight)


A, B, C = map(endpoint, "abc")
FAR = endpoint("z", tier=1)


def state(*endpoints: Endpoint) -> State:
    return choose.listed(State(), endpoints or (A, B, C, FAR))


def called(
    before: State, to: Endpoint, *outcomes: Outcome, at: float = 0.0, took_s: float = 0.01
) -> State:
    """Calls one after the other, each begun `took_s` before it ends at `at`."""
    for outcome in outcomes:
        before = choose.began(before, to, at - took_s)
        before = choose.ended(before, to, Ending(outcome, took_s, at - took_s), at)
    return before


def shares(before: State, now: float, strategy: Strategy, count: int = 1000) -> dict[str, float]:
    """Who is chosen for each of many draws, nothing else changing."""
    found: Counter[str] = Counter()
    for number in range(count):
        chosen = choose.choose(before, now, number / count, strategy)
        assert chosen is not None
        found[chosen.instance] += 1
    return {name: times / count for name, times in found.items()}


def test_nobody_is_left() -> None:
    assert choose.choose(State(), 0.0, 0.5) is None
    assert choose.choose(state(A), 0.0, 0.5, tried=["a"]) is None
    assert choose.choose(state(A, FAR), 0.0, 0.5, tried=["a"]) == FAR


def is_open(before: State, of: Endpoint, now: float) -> bool:
    return before.track(of).closed_until <= now


@pytest.mark.parametrize("strategy", Strategy)
def test_tiers_are_walked_in_order(strategy: Strategy) -> None:
    before = state(FAR, C, B, A)
    assert "z" not in shares(before, 0.0, strategy)
    for each in (A, B, C):
        before = called(before, each, REFUSED)
    assert shares(before, 0.1, strategy) == {"z": 1.0}
    assert "z" not in shares(before, 60.0, strategy)


def test_if_all_are_closed_the_one_that_failed_longest_ago() -> None:
    before = state()
    for at, each in ((1.0, B), (1.1, FAR), (1.2, A), (1.3, C)):
        before = called(before, each, REFUSED, at=at)
    assert choose.choose(before, 1.3, 0.9) == B
    assert choose.choose(before, 1.3, 0.9, tried=["b"]) == FAR


@pytest.mark.parametrize(
    ("outcomes", "is_closed"),
    [
        ([REFUSED], True),
        ([FAILURE, FAILURE], False),
        ([FAILURE, TIMEOUT, FAILURE], True),
        ([FAILURE, FAILURE, OK, FAILURE, FAILURE], False),
        ([TIMEOUT, TIMEOUT, TIMEOUT], True),
    ],
)
def test_what_closes_an_endpoint(outcomes: list[Outcome], is_closed: bool) -> None:
    before = called(state(A, B), A, *outcomes)
    assert is_open(before, A, 0.1) is not is_closed
    assert not is_closed or "a" not in shares(before, 0.1, Strategy.PREFERENCE)


def test_each_trial_that_fails_doubles_the_time_closed() -> None:
    before, now = called(state(A, B), A, REFUSED), 0.0
    for expected_s in (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0):
        until = before.track(A).closed_until
        assert until - now == pytest.approx(expected_s)
        assert "a" not in shares(before, until - 0.01, Strategy.PREFERENCE)
        now = until + 0.01
        before = called(before, A, FAILURE, at=now)
    before = called(before, A, OK, at=before.track(A).closed_until + 1)
    assert before.track(A).closings == 0
    assert called(before, A, REFUSED, at=500.0).track(A).closed_until == 500.5


def test_while_a_trial_runs_there_is_no_other() -> None:
    before = called(state(A, FAR), A, REFUSED)
    assert choose.choose(before, 0.6, 0.5) == A
    tried = choose.began(before, A, 0.6)
    assert choose.choose(tried, 0.7, 0.5) == FAR
    # A trial that is given up, or never heard of again, is followed by another.
    assert is_open(tried, A, 1.2)


def test_calls_that_began_before_it_closed_say_nothing_new() -> None:
    before = state(A, B)
    for _ in range(20):
        before = choose.began(before, A, 0.0)
    for number in range(20):
        before = choose.ended(before, A, Ending(REFUSED, 0.1, 0.0), 0.1 + number / 1000)
    assert before.track(A).closings == 1
    assert before.track(A).in_flight == 0
    late = choose.ended(choose.began(before, A, 0.0), A, Ending(OK, 0.2, 0.0), 0.2)
    assert late.track(A).closings == 1


def test_weights_are_shares() -> None:
    heavy = endpoint("h", weight=3000)
    for tracks in ({}, {each.key: Track(latency_s=0.01) for each in (A, heavy)}):
        before = replace(state(A, heavy), tracks=tracks)
        assert shares(before, 0.0, Strategy.PREFERENCE)["h"] == pytest.approx(0.75, abs=0.01)


def test_the_loaded_and_the_slow_get_less() -> None:
    even = state(A, B)
    for _ in range(3):
        even = choose.began(even, A, 0.0)
    assert shares(even, 0.0, Strategy.PREFERENCE) == {"b": 1.0}
    slow = called(called(state(A, B, C), A, OK, took_s=0.1), B, OK, took_s=0.01)
    slow = called(slow, C, OK, took_s=0.01)
    assert shares(slow, 0.0, Strategy.PREFERENCE).keys() == {"b", "c"}
    # Old measurements fade, so that it is asked again.
    assert "a" in shares(called(slow, B, OK, at=6.0), 6.0, Strategy.PREFERENCE)


def test_noise_is_no_reason() -> None:
    before = called(called(state(A, B), A, OK, took_s=0.010), B, OK, took_s=0.013)
    assert shares(before, 0.0, Strategy.PREFERENCE)["b"] == pytest.approx(0.5, abs=0.01)


def test_a_quick_error_does_not_look_quick() -> None:
    before = called(called(state(A, B), A, OK), B, OK)
    failing = called(before, A, *[FAILURE, FAILURE, OK] * 4, at=0.1)
    assert failing.track(A).closings == 0
    assert shares(failing, 0.1, Strategy.PREFERENCE) == {"b": 1.0}
    # What was not OK is forgotten in time.
    assert "a" in shares(called(failing, B, OK, at=60.0), 60.0, Strategy.PREFERENCE)


def test_peaks_count_at_once_and_fade() -> None:
    before = called(called(state(A), A, OK, took_s=0.01), A, OK, took_s=0.5, at=1.0)
    assert before.track(A).latency_s == 0.5
    after = called(before, A, OK, took_s=0.01, at=3.0)
    assert after.track(A).latency_s == pytest.approx(0.5 / math.e + 0.01 * (1 - 1 / math.e))


def run(before: State, strategy: Strategy, count: int) -> tuple[State, list[str]]:
    """Calls that do not end, one after the other."""
    order = []
    for _ in range(count):
        chosen = choose.choose(before, 0.0, 0.5, strategy)
        assert chosen is not None
        before = choose.began(before, chosen, 0.0)
        order.append(chosen.instance)
    return before, order


def test_in_turn() -> None:
    _, order = run(state(), Strategy.ROUND_ROBIN, 9)
    assert order == list("abcabcabc")
    _, order = run(state(A, endpoint("h", weight=2000)), Strategy.ROUND_ROBIN, 9)
    assert Counter(order) == {"h": 6, "a": 3}
    assert all(pair != ("a", "a") for pair in pairwise(order))


def test_who_comes_back_or_is_new_has_nothing_to_catch_up_with() -> None:
    before, _ = run(state(A, B), Strategy.ROUND_ROBIN, 100)
    _, order = run(choose.listed(before, [A, B, C]), Strategy.ROUND_ROBIN, 6)
    assert Counter(order) == {"a": 2, "b": 2, "c": 2}


def test_least_load() -> None:
    before, order = run(state(), Strategy.LEAST_LOAD, 9)
    assert Counter(order) == {"a": 3, "b": 3, "c": 3}
    before = choose.abandoned(choose.abandoned(before, B), B)
    assert run(before, Strategy.LEAST_LOAD, 2)[1] == ["b", "b"]
    heavy = state(A, endpoint("h", weight=3000))
    assert Counter(run(heavy, Strategy.LEAST_LOAD, 8)[1]) == {"h": 6, "a": 2}


def test_what_was_seen_outlives_another_answer() -> None:
    before = called(called(state(A, B), A, REFUSED), B, OK)
    before = choose.began(before, B, 0.0)
    after = choose.listed(before, [A, C])
    assert after.track(A) == before.track(A)
    # Gone, but still called; forgotten once that is over.
    assert after.tracks["b"].in_flight == 1
    assert "b" not in choose.abandoned(after, B).tracks
    assert "a" in choose.abandoned(choose.began(after, A, 0.0), A).tracks


@dataclass
class Twin:
    """What happened, and nothing else: each question is answered by reading it from the start."""

    log: list[tuple[float, str, Ending | None]] = field(default_factory=list)
    flying: Counter[str] = field(default_factory=Counter)

    def is_open(self, key: str, now: float) -> bool:
        row = closings = 0
        closed_at = until = -math.inf
        for at, of, ending in self.log:
            if of != key:
                continue
            if ending is None:
                until = at + min(30.0, 2.0 ** (closings - 2)) if closings else until
            elif ending.began_at >= closed_at:
                if ending.outcome is OK:
                    row, closings, until = 0, 0, -math.inf
                    continue
                row += 1
                if row >= 3 or ending.outcome is REFUSED or closings:
                    closings += 1
                    closed_at, until = at, at + min(30.0, 2.0 ** (closings - 2))
        return until <= now


STEPS = st.tuples(
    st.sampled_from(["call", "end", "end", "give up"]),
    st.sampled_from([0.0, 0.01, 0.3, 2.0, 40.0]),
    st.floats(0, 1, exclude_max=True),
    st.sampled_from(Outcome),
    st.sets(st.sampled_from("abcz")),
)


@given(st.sampled_from(Strategy), st.lists(STEPS, max_size=60))
def test_against_a_log(
    strategy: Strategy, steps: list[tuple[str, float, float, Outcome, set[str]]]
) -> None:
    made, twin, now = state(), Twin(), 0.0
    flying: list[tuple[Endpoint, float]] = []
    for what, passed_s, draw, outcome, tried in steps:
        now += passed_s
        if what == "call":
            left = [each for each in made.endpoints if each.key not in tried]
            chosen = choose.choose(made, now, draw, strategy, tried)
            assert (chosen is None) == (not left)
            if chosen is None:
                continue
            ready = [each for each in left if twin.is_open(each.key, now)]
            best = [each for each in ready if each.tier == ready[0].tier] or left
            assert chosen in best
            made = choose.began(made, chosen, now)
            twin.log.append((now, chosen.key, None))
            flying.append((chosen, now))
        elif flying:
            to, began_at = flying.pop(int(draw * len(flying)))
            if what == "give up":
                made = choose.abandoned(made, to)
                continue
            ending = Ending(outcome, now - began_at, began_at)
            made = choose.ended(made, to, ending, now)
            twin.log.append((now, to.key, ending))
        counted = Counter(to.key for to, _ in flying)
        for each in made.endpoints:
            assert is_open(made, each, now) == twin.is_open(each.key, now)
        assert {key: t.in_flight for key, t in made.tracks.items() if t.in_flight} == counted
