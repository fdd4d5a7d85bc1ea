"""Hashes: equal on every node and in every release, and spread evenly."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.core.hashing import (
    BUCKETS,
    client_bucket,
    mix64,
    permuted,
    rendezvous_cost,
    rendezvous_costs,
    seed,
)


def test_they_never_change() -> None:
    """Another value here would send every client of every installation elsewhere on upgrade."""
    assert mix64(1) == 0x910A2DEC89025CC1
    assert seed("api-eu-1") == 0x3AC48631FE53540F
    assert [client_bucket(0x0A010203, 32), client_bucket(0x0A0102, 24)] == [958, 1008]
    assert [permuted(b, 0x123456789ABCDEF) for b in (0, 1, 1023)] == [357, 166, 708]
    assert rendezvous_cost(7, seed("api-eu-1"), 1000) == 2070713331828


@given(st.integers(0, 2**64 - 1))
def test_permutations_are_bijections(salt: int) -> None:
    assert {permuted(bucket, salt) for bucket in range(BUCKETS)} == set(range(BUCKETS))


@pytest.mark.parametrize("length", [16, 24, 32, 48, 64])
def test_neighbours_spread_over_all_buckets(length: int) -> None:
    counts = Counter(client_bucket(0x0A010000 + n, length) for n in range(64 * BUCKETS))
    assert len(counts) == BUCKETS
    # 64 expected in each; seven standard deviations either way.
    assert min(counts.values()) > 64 - 56
    assert max(counts.values()) < 64 + 56


def test_cost_is_a_fair_draw() -> None:
    seeds = [seed(f"instance-{n}") for n in range(8)]
    weights = [1000, 1000, 500, 500, 250, 2000, 1000, 50]
    wins = Counter(
        min(range(8), key=lambda n: rendezvous_cost(bucket, seeds[n], weights[n]))
        for bucket in range(20_000)
    )
    for number, weight in enumerate(weights):
        share = weight / sum(weights)
        spread = (20_000 * share * (1 - share)) ** 0.5
        assert abs(wins[number] - 20_000 * share) < 5 * spread


@given(st.integers(0, 1023), st.lists(st.tuples(st.integers(0, 2**64 - 1), st.integers(1, 10**6))))
def test_many_costs_are_each_the_one(bucket: int, entries: list[tuple[int, int]]) -> None:
    seeds, weights = [one for one, _ in entries], [weight for _, weight in entries]
    each = [rendezvous_cost(bucket, *entry) for entry in entries]
    assert rendezvous_costs(bucket, seeds, weights) == each
