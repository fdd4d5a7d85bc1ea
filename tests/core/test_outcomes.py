"""What many voices say together: tables, and what no liar may change."""

from collections.abc import Mapping
from math import isfinite

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.core.errors import Invalid
from meshd.core.outcomes import (
    FAILS,
    Folded,
    Outcome,
    Reporter,
    Voice,
    disagreement,
    fold,
    heard,
    success_after,
)
from meshd.core.verdict import Probed, Verdict

NOW = 1000.0


def said(*counts: tuple[int, int], hosts: bool = False) -> dict[Reporter, Voice]:
    """A voice for each (attempts, failures), of one host or each of its own."""
    return {
        Reporter(f"h{n}" if hosts else "h", f"r{n}"): heard(
            None, Outcome(attempts, failures=failures), NOW
        )
        for n, (attempts, failures) in enumerate(counts)
    }


GOOD, BAD, HALF = (100, 0), (100, 100), (100, 50)


@pytest.mark.parametrize(
    ("voices", "rate", "count"),
    [
        (said(), 1.0, 0),
        (said(GOOD), 1.0, 1),
        (said(BAD), 0.02, 1),
        (said(HALF, HALF, HALF), 0.51, 3),
        # The middle of three is nearly all that counts.
        (said(GOOD, GOOD, BAD), 0.92, 3),
        (said(BAD, BAD, GOOD), 0.10, 3),
        # One or two of eight change nothing.
        (said(*[GOOD] * 7, BAD), 1.0, 8),
        (said(*[GOOD] * 6, BAD, BAD), 1.0, 8),
        (said(*[BAD] * 6, GOOD, GOOD), 0.02, 8),
        # One failed call is no instance that fails.
        (said((1, 1), (1, 0), (1, 0)), 0.97, 3),
        # Who made many calls has no more to say than the others.
        (said((3, 0), (3, 0), (3, 0), (3, 0), (4_000_000_000, 4_000_000_000)), 1.0, 5),
    ],
)
def test_the_middle_counts(voices: Mapping[Reporter, Voice], rate: float, count: int) -> None:
    found = fold(voices, NOW)
    assert found.rate == pytest.approx(rate, abs=0.01)
    assert found.voices == count


def test_where_three_hosts_speak_names_are_worth_nothing() -> None:
    honest = said(GOOD, GOOD, GOOD, hosts=True)
    liars = {
        Reporter("liar", f"r{n}"): heard(None, Outcome(9, connect_errors=9), NOW) for n in range(50)
    }
    found = fold({**honest, **liars}, NOW)
    assert found.rate == pytest.approx(1.0)
    assert found.voices == 4
    # Of two hosts each name is a voice: it may well be a proxy with all clients behind it.
    one = {who: voice for who, voice in honest.items() if who.host == "h0"}
    assert fold({**one, **liars}, NOW).voices == 51


def test_what_is_old_counts_less_fades_and_says_nothing_in_the_end() -> None:
    voices = said((20, 20), (20, 20), (20, 20))
    rates = [fold(voices, NOW + passed).rate for passed in range(0, 61, 5)]
    assert rates[0] == pytest.approx(2 / 22)
    assert rates == sorted(rates)
    assert rates[2] < 0.4
    assert rates[6] > 0.8
    assert rates[-1] == 1.0
    assert fold(voices, NOW + 30).voices == 0
    assert fold(voices, NOW + 5).evidence == 30


def test_new_calls_outweigh_old_ones() -> None:
    voice = None
    for second in range(0, 20, 2):
        voice = heard(voice, Outcome(50, timeouts=50), NOW + second)
    assert fold({Reporter("h", "r"): voice}, NOW + 18).rate < 0.02  # type: ignore[dict-item]
    for second in range(20, 40, 2):
        voice = heard(voice, Outcome(50), NOW + second)
    assert fold({Reporter("h", "r"): voice}, NOW + 38).rate > 0.9  # type: ignore[dict-item]


def test_a_loud_batch_is_forgotten_as_soon_as_others() -> None:
    voice = heard(None, Outcome(10**9, timeouts=10**9), NOW)
    for second in range(2, 20, 2):
        voice = heard(voice, Outcome(50), NOW + second)
    assert fold({Reporter("h", "r"): voice}, NOW + 18).rate > 0.9


def test_a_clock_that_stands_still_or_turns_back_is_no_error() -> None:
    voice = heard(heard(None, Outcome(10), NOW), Outcome(10), NOW - 5)
    assert voice.attempts == 20


def test_connect_errors_are_told_apart() -> None:
    voices = {
        Reporter("h", name): heard(None, Outcome(10, connect_errors=4, failures=1), NOW)
        for name in "ab"
    }
    assert fold(voices, NOW).unreached == pytest.approx(0.4)


@pytest.mark.parametrize(
    "counts",
    [
        {"attempts": -1},
        {"attempts": 3, "failures": 4},
        {"attempts": 3, "failures": 2, "timeouts": 1, "connect_errors": 1},
        {"attempts": 3, "failures": -1},
        {"attempts": 3, "latency": {5: 4}},
        {"attempts": 3, "latency": {128: 1}},
        {"attempts": 3, "latency": {-1: 1}},
    ],
)
def test_counts_that_cannot_be(counts: dict[str, int]) -> None:
    with pytest.raises(Invalid):
        Outcome(**counts)  # type: ignore[arg-type]


THREE_BAD, TWO_BAD = fold(said(BAD, BAD, BAD), NOW), fold(said(BAD, BAD), NOW)


@pytest.mark.parametrize(
    ("before", "folded", "after"),
    [
        (1.0, None, 1.0),
        (1.0, THREE_BAD, 0.05),
        # Two may be wrong: half of the weight is left, for it goes by the square.
        (1.0, TWO_BAD, 0.7),
        (1.0, fold(said(BAD), NOW), 0.7),
        # Up by a step at a time, and from an ejection too.
        (0.05, None, 0.1),
        (0.0, None, 0.05),
        (0.0, THREE_BAD, 0.05),
        (0.95, None, 1.0),
        # A step is left late.
        (1.0, Folded(0.97, 9, 90, 0), 1.0),
        (1.0, Folded(0.96, 9, 90, 0), 0.95),
        (0.95, Folded(0.985, 9, 90, 0), 0.95),
        (0.5, Folded(0.47, 9, 90, 0), 0.5),
    ],
)
def test_success_falls_at_once_and_rises_slowly(
    before: float, folded: Folded | None, after: float
) -> None:
    assert success_after(before, folded) == after


@pytest.mark.parametrize(
    ("probed", "folded", "what"),
    [
        (None, THREE_BAD, ""),
        (Probed(), None, ""),
        (Probed(), TWO_BAD, ""),
        (Probed(), THREE_BAD, "probes pass, clients fail"),
        (Probed(), fold(said(GOOD, GOOD, GOOD), NOW), ""),
        (
            Probed(Verdict.DOWN, False),
            fold(said(GOOD, GOOD, GOOD), NOW),
            "probes fail, clients succeed",
        ),
        (Probed(Verdict.DOWN, False), THREE_BAD, ""),
    ],
)
def test_disagreements(probed: Probed | None, folded: Folded | None, what: str) -> None:
    assert disagreement(probed, folded) == what


# How many calls each of six honest reporters made to four instances, and how many failed of 100.
CALLS = st.lists(st.integers(20, 500), min_size=6, max_size=6)
FAILING = st.lists(st.sampled_from([0, 1, 10, 30, 50, 90, 100]), min_size=4, max_size=4)


@given(CALLS, FAILING, st.integers(1, 2), st.sampled_from([1, 50, 10**9]))
def test_a_quarter_that_lies_changes_nothing(
    calls: list[int], failing: list[int], liars: int, claimed: int
) -> None:
    """They say that what is good is bad, and what is bad is good."""
    for percent in failing:
        honest = [(count, count * percent // 100) for count in calls]
        lie = (claimed, 0 if percent >= 50 else claimed)
        true = fold(said(*honest), NOW).rate
        assert fold(said(*honest, *[lie] * liars), NOW).rate == pytest.approx(true, abs=0.06)


COUNTS = st.integers(0, 2**32 - 1)


@given(
    st.lists(st.tuples(COUNTS, COUNTS, COUNTS, st.floats(0, 1e9)), max_size=12),
    st.floats(0, 1e9),
    st.floats(0, 1),
)
def test_whatever_is_said_success_is_a_part(
    all_said: list[tuple[int, int, int, float]], now: float, before: float
) -> None:
    voices: dict[Reporter, Voice] = {}
    for n, (attempts, failures, timeouts, at) in enumerate(all_said):
        who = Reporter(f"h{n % 4}", f"r{n % 5}")
        try:
            outcome = Outcome(attempts, failures=failures, timeouts=timeouts)
        except Invalid:
            assert failures + timeouts > attempts
            continue
        voices[who] = heard(voices.get(who), outcome, at)
    found = fold(voices, now)
    assert all(isfinite(each) for each in found)
    assert 0 <= found.rate <= 1
    assert 0 < success_after(before, found) <= 1


def test_what_has_just_begun_shows_lately() -> None:
    """Four reporters at three calls a second, and a minute of good ones; then half of them fail."""
    who = [Reporter("h", f"r{n}") for n in range(4)]
    voices: dict[Reporter, Voice] = {}

    def batch(at: float, failures: int) -> Folded:
        for each in who:
            voices[each] = heard(voices.get(each), Outcome(4, failures=failures), at)
        return fold(voices, at)

    for number in range(45):
        assert batch(NOW + 1.3 * number, 0).lately == 1.0
    now = NOW + 1.3 * 45
    found = [batch(now + 1.3 * number, 2) for number in range(6)]
    assert [each.lately < FAILS for each in found] == [False, True, True, True, True, True]
    assert found[1].rate > 0.8
    # What is not called any more is not held against it for long.
    assert fold(voices, now + 1.3 * 5 + 10).lately > 0.9
