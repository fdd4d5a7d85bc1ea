"""Latencies in buckets that are the same everywhere, so that what many reporters saw adds up.

Bucket n counts 2^(n/4) .. 2^((n+1)/4) microseconds: four to each doubling, so a quantile is at
most 9 % off. The first and the last take in what lies beyond them.
"""

from collections.abc import Mapping
from math import log2

_A_DOUBLING = 4
# The last begins at 2^31.75 us, an hour.
BUCKETS = 128

# Bucket -> how many. Counts that were weighed are not whole.
Histogram = Mapping[int, float]


def bucket_of(latency_us: float) -> int:
    """The bucket of a latency in microseconds."""
    return min(BUCKETS - 1, int(_A_DOUBLING * log2(latency_us))) if latency_us > 1 else 0


def merged(*histograms: Histogram) -> Histogram:
    """All that several histograms counted."""
    found: dict[int, float] = {}
    for histogram in histograms:
        for bucket, count in histogram.items():
            found[bucket] = found.get(bucket, 0) + count
    return found


def quantile_us(histogram: Histogram, share: float) -> float | None:
    """The latency in microseconds that this share (0..1) stays below; None: nothing was counted."""
    left = share * sum(histogram.values())
    found = None
    for bucket in sorted(bucket for bucket, count in histogram.items() if count > 0):
        found = bucket
        left -= histogram[bucket]
        if left <= 0:
            break
    return None if found is None else float(2 ** ((found + 0.5) / _A_DOUBLING))
