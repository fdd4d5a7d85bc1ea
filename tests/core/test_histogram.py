"""Histograms against what they stand for: sorted samples."""

from math import ceil, log2

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.core.histogram import BUCKETS, Histogram, bucket_of, merged, quantile_us

SAMPLES = st.lists(st.floats(1.0, 2.0**31), min_size=1, max_size=60)


def histogram_of(samples: list[float]) -> Histogram:
    found: dict[int, float] = {}
    for sample in samples:
        found[bucket_of(sample)] = found.get(bucket_of(sample), 0) + 1
    return found


@pytest.mark.parametrize(
    ("latency_us", "bucket"),
    [(0.0, 0), (-1.0, 0), (1.0, 0), (1.2, 1), (2.0, 4), (1000.0, 39), (1024.0, 40), (1e300, 127)],
)
def test_buckets(latency_us: float, bucket: int) -> None:
    assert bucket_of(latency_us) == bucket


@given(st.floats(1.0, 2.0**31))
def test_a_latency_is_within_its_bucket(latency_us: float) -> None:
    bucket = bucket_of(latency_us)
    assert 0 <= bucket < BUCKETS
    assert bucket / 4 - 1e-9 <= log2(latency_us) <= (bucket + 1) / 4 + 1e-9


@given(st.lists(SAMPLES, max_size=6))
def test_all_together_is_the_histogram_of_all(parts: list[list[float]]) -> None:
    together = merged(*map(histogram_of, parts))
    assert together == histogram_of([sample for part in parts for sample in part])


@given(SAMPLES, st.sampled_from([0.0, 0.01, 0.5, 0.9, 0.99, 1.0]))
def test_a_quantile_is_near_the_sample_of_its_rank(samples: list[float], share: float) -> None:
    found = quantile_us(histogram_of(samples), share)
    wanted = sorted(samples)[max(0, ceil(share * len(samples) - 1e-9) - 1)]
    assert found is not None
    assert abs(log2(found) - log2(wanted)) <= 1 / 8 + 1e-9


def test_nothing_has_no_quantile() -> None:
    assert quantile_us({}, 0.5) is None
    assert quantile_us({7: 0.0}, 0.5) is None
    assert merged() == {}
