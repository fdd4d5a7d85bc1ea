"""Signals and verdicts: small tables."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.core.errors import Invalid
from meshd.core.model import Force
from meshd.core.signals import NO_SIGNAL, Signal, headroom, observe_load
from meshd.core.verdict import Verdict, combine


@given(st.floats())
def test_any_float_is_a_load_or_invalid(load: float) -> None:
    try:
        signal = observe_load(NO_SIGNAL, load)
    except Invalid:
        assert not math.isfinite(load) or load < 0
        return
    assert 0 <= signal.load <= 1
    assert abs(signal.load - min(load, 1)) <= 0.0601
    assert round(signal.load * 20) == pytest.approx(signal.load * 20)


@given(st.floats(0.1, 0.9), st.lists(st.floats(-0.03, 0.03), max_size=20))
def test_noise_changes_nothing_once_settled(load: float, noise: list[float]) -> None:
    """Three per cent of noise around the load that was told first."""
    settled = observe_load(Signal(1.0), load)
    for wobble in noise:
        assert observe_load(settled, load + wobble) is settled


def test_steps_are_left_late_and_ends_at_once() -> None:
    held = observe_load(NO_SIGNAL, 0.5)
    assert [observe_load(held, x).load for x in (0.45, 0.55, 0.57, 0.43)] == [0.5, 0.5, 0.55, 0.45]
    assert observe_load(Signal(0.05), 0.0).load == 0.0
    assert observe_load(Signal(0.95), 1.0).load == 1.0
    assert observe_load(Signal(0.5, Verdict.FAILING), 0.9) == Signal(0.9, Verdict.FAILING)


def test_headroom_is_never_nothing() -> None:
    assert [headroom(Signal(load)) for load in (0.0, 0.5, 0.95, 1.0)] == [1.0, 0.5, 0.05, 0.05]


@pytest.mark.parametrize(
    ("found", "present", "held", "force", "verdict"),
    [
        (Verdict.UP, True, False, None, Verdict.UP),
        (Verdict.FAILING, True, False, None, Verdict.FAILING),
        (Verdict.DRAINING, True, False, None, Verdict.DRAINING),
        (Verdict.UP, False, False, None, Verdict.DOWN),
        (Verdict.UP, False, True, None, Verdict.FAILING),
        (Verdict.DOWN, True, True, None, Verdict.FAILING),
        (Verdict.RECOVERING, True, True, None, Verdict.FAILING),
        (Verdict.DRAINING, True, True, None, Verdict.DRAINING),
        (Verdict.DOWN, False, False, Force.UP, Verdict.FORCED_UP),
        (Verdict.UP, True, False, Force.DOWN, Verdict.FORCED_DOWN),
        (Verdict.UP, True, True, Force.DOWN, Verdict.FORCED_DOWN),
        (Verdict.UP, True, False, Force.DRAIN, Verdict.DRAINING),
        (Verdict.UP, True, False, Force.LEAVE, Verdict.LEAVING),
        (Verdict.DOWN, True, False, Force.LEAVE, Verdict.DOWN),
    ],
)
def test_verdicts(
    found: Verdict, present: bool, held: bool, force: Force | None, verdict: Verdict
) -> None:
    assert combine(found, present, held, force) is verdict


def test_who_is_ready() -> None:
    ready = {verdict for verdict in Verdict if verdict.is_ready}
    assert ready == {Verdict.UP, Verdict.FAILING, Verdict.FORCED_UP, Verdict.LEAVING}
