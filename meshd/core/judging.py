"""Gates, judged by evidence: held, surely broken, not sure yet, or not to be told.

What is sure: with 19 of 20 the true share lies beyond the bound (Wilson 1927, one-sided). So a
few failed calls roll nothing back, and a version that fails for certain does not wait for its
step's end.
"""

from collections.abc import Mapping
from enum import StrEnum
from math import log2, sqrt
from typing import NamedTuple

from meshd.core.evidence import Evidence, Side
from meshd.core.gates import Gate, Measure
from meshd.core.histogram import Histogram, merged
from meshd.core.release import Course

_Z = 1.645
_A_DOUBLING = 4


class Ruling(StrEnum):
    """What a gate says."""

    PASS = "pass"
    FAIL = "fail"
    UNSURE = "unsure"
    MISSING = "missing"


class Reading(NamedTuple):
    """A gate's ruling, and what it saw in words."""

    gate: Gate
    ruling: Ruling
    figures: str

    def __str__(self) -> str:
        return f"{self.gate}: {self.ruling}, {self.figures}"


def readings(course: Course, evidence: Evidence, *, is_last: bool = False) -> tuple[Reading, ...]:
    """All gates of a course; at the last step nobody may be left to compare with."""
    return tuple(_reading(gate, course, evidence, is_last) for gate in course.gates)


def _reading(gate: Gate, course: Course, evidence: Evidence, is_last: bool) -> Reading:
    if gate.measure is Measure.PROBES:
        return _probes(gate, evidence)
    new = evidence.new
    heard = f"{new.attempts:.0f} outcomes of {_counted(new.hosts, 'reporter')}"
    if new.attempts < course.min_outcomes or new.hosts < course.min_reporters:
        wanted = f"{course.min_outcomes} of {course.min_reporters} are needed"
        return Reading(gate, Ruling.MISSING, f"{heard}; {wanted}")
    if gate.measure is Measure.SUCCESS:
        return _success(gate, new, heard)
    if gate.measure is Measure.LATENCY:
        replies = merged(*new.by_pop.values())
        return _latency(gate, replies, gate.bound, heard)
    return _slower(gate, evidence, heard, is_last)


def _probes(gate: Gate, evidence: Evidence) -> Reading:
    if evidence.instances <= 0:
        return Reading(gate, Ruling.MISSING, "it has no instance that probes have judged")
    share = evidence.up / evidence.instances
    figures = f"{share:.0%} of {evidence.instances:.3g} instances are up"
    # A hair, for a mean of floats.
    return Reading(gate, Ruling.PASS if share >= gate.bound - 1e-9 else Ruling.FAIL, figures)


def _success(gate: Gate, new: Side, heard: str) -> Reading:
    failing = new.failed / new.attempts
    ruling = _ruling(failing, new.attempts, 1 - gate.bound)
    return Reading(gate, ruling, f"{1 - failing:.2%} succeed, {heard}")


def _latency(gate: Gate, replies: Histogram, bound_us: float, heard: str) -> Reading:
    count = sum(replies.values())
    if not count:
        return Reading(gate, Ruling.MISSING, f"nobody told how long it took; {heard}")
    ruling = _ruling(_share_above(replies, bound_us), count, 1 - gate.quantile)
    found = quantile_us(replies, gate.quantile)
    return Reading(gate, ruling, f"{_ms(found)}, bound {_ms(bound_us)}, {heard}")


def _slower(gate: Gate, evidence: Evidence, heard: str, is_last: bool) -> Reading:
    """Against the old version in the same Pops, in the proportions that the new one has."""
    new = {pop: seen for pop, seen in evidence.new.by_pop.items() if seen}
    old = {pop: seen for pop, seen in evidence.old.by_pop.items() if seen and pop in new}
    if not old:
        said = "nobody in the same places has the old version"
        ruling = Ruling.PASS if is_last else Ruling.MISSING
        return Reading(gate, ruling, f"{said}; {heard}")
    replies = merged(*(new[pop] for pop in old))
    usual_us = quantile_us(_mixed(old, new), gate.quantile)
    made = _latency(gate, replies, gate.bound * usual_us, heard)
    ratio = quantile_us(replies, gate.quantile) / usual_us
    return made._replace(figures=f"{ratio:.2f}x the old version's {_ms(usual_us)}, {heard}")


def _mixed(old: Mapping[str, Histogram], new: Mapping[str, Histogram]) -> Histogram:
    parts = []
    for pop, seen in old.items():
        factor = sum(new[pop].values()) / sum(seen.values())
        parts.append({bucket: count * factor for bucket, count in seen.items()})
    return merged(*parts)


def _ruling(found: float, count: float, most: float) -> Ruling:
    """Of a share (0..1) among `count` that must not be more than `most`."""
    if found <= most + 1e-12:
        return Ruling.PASS
    return Ruling.FAIL if _surely_above(found, count) > most else Ruling.UNSURE


def _surely_above(found: float, count: float) -> float:
    """The lower end of Wilson's interval."""
    z2 = _Z * _Z
    middle = found + z2 / (2 * count)
    spread = _Z * sqrt(found * (1 - found) / count + z2 / (4 * count * count))
    return (middle - spread) / (1 + z2 / count)


def quantile_us(histogram: Histogram, share: float) -> float:
    """The latency in microseconds below which this share (0..1) of some replies lies.

    Within a bucket (histogram.py) they count as spread evenly over its octave's quarter.
    """
    left = share * sum(histogram.values())
    place = 0.0
    for bucket in sorted(bucket for bucket, count in histogram.items() if count > 0):
        count = histogram[bucket]
        place = bucket + min(1.0, left / count)
        left -= count
        if left <= 0:
            break
    return float(2 ** (place / _A_DOUBLING))


def _share_above(histogram: Histogram, bound_us: float) -> float:
    place = _A_DOUBLING * log2(max(1.0, bound_us))
    above = sum(
        count * min(1.0, max(0.0, bucket + 1 - place)) for bucket, count in histogram.items()
    )
    return above / sum(histogram.values())


def _ms(us: float) -> str:
    return f"{us / 1000:.3g} ms"


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
