"""Batches as they come: what is a name, a window, a count."""

import math

import pytest

from meshd.core.errors import Invalid
from meshd.core.outcomes import Outcome
from meshd.v1 import reporter_pb2 as pb
from meshd.wire.reports import is_timely, outcome_from_message, reporter_name


def test_an_outcome() -> None:
    message = pb.Outcomes(
        attempts=9, connect_errors=1, timeouts=2, failures=3, in_flight=7, latency={40: 3, 41: 1}
    )
    assert outcome_from_message(message) == Outcome(9, 1, 2, 3, {40: 3, 41: 1})
    assert outcome_from_message(pb.Outcomes()) == Outcome(0)


@pytest.mark.parametrize(
    "told",
    [
        {"attempts": 1, "failures": 2},
        {"attempts": 1, "latency": {5: 2}},
        {"attempts": 1, "latency": {2**32 - 1: 1}},
        {"attempts": 1000, "latency": dict.fromkeys(range(129), 1)},
    ],
)
def test_what_cannot_be(told: dict[str, int]) -> None:
    with pytest.raises(Invalid):
        outcome_from_message(pb.Outcomes(**told))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["", "x" * 129, "two\nlines", "\0"])
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(Invalid, match="printable"):
        reporter_name(pb.ReportRequest(reporter=name))


def test_names() -> None:
    for name in ("web-1", "x" * 128, "pid 7 on käse"):
        assert reporter_name(pb.ReportRequest(reporter=name)) == name


@pytest.mark.parametrize(
    ("window_s", "timely"),
    [(0, True), (2, True), (60, True), (61, False), (-1, False), (math.nan, False),
     (math.inf, False), (1e308, False)],
)  # fmt: skip
def test_windows(window_s: float, timely: bool) -> None:
    assert is_timely(pb.ReportRequest(window_s=window_s)) is timely
