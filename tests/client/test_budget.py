"""Retries are a part of the calls."""

from meshd.client.budget import Budget, earned, spent


def retries(budget: Budget, calls: int, every_s: float) -> int:
    """How many are had by one who wants one for each call."""
    had = 0
    for number in range(calls):
        budget = earned(budget, number * every_s)
        left = spent(budget)
        if left is not None:
            budget, had = left, had + 1
    return had


def test_a_burst_then_a_part_of_the_calls() -> None:
    assert retries(Budget(at=0.0), 50, 0.0) == 50
    # A hundred at first, a fifth of the calls, ten for each of the ten seconds.
    assert abs(retries(Budget(), 2000, 0.005) - (100 + 400 + 100)) <= 2


def test_who_calls_little_may_try_each_again() -> None:
    assert retries(Budget(tokens=0.0), 100, 0.5) == 99


def test_no_more_than_a_burst_is_saved() -> None:
    assert earned(Budget(), 10_000.0).tokens == 100.0
    # A clock that goes back gives nothing.
    assert earned(Budget(0.0, 100.0), 50.0).tokens < 1
