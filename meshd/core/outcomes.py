"""What clients make of an instance: many reporters, each of them one voice.

A reporter's calls count half as much every five seconds, and the part of them that failed is
trusted less the fewer there are. Of the voices the middle counts: the highest and the lowest 30 %
are left out, so that a quarter that lies changes nothing. Where three hosts speak, a host is one
voice however many reporters it has: names are free, hosts are not.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import exp2
from statistics import median
from typing import NamedTuple

from meshd.core.errors import Fault, Invalid
from meshd.core.histogram import BUCKETS
from meshd.core.verdict import Probed, Verdict

SUCCESS_STEP = 0.05
# A success must leave its step by this much (in steps) before the step changes.
_HOLD_STEPS = 0.75
# What counts half after so long; what came so long ago fades, and is forgotten.
_HALF_S, _FRESH_S, FORGOTTEN_S = 5.0, 10.0, 60.0
# So many calls say all that a reporter has to say; more of one batch are scaled down.
_ENOUGH, _MOST = 10.0, 100.0
# Successes that each voice is given beforehand: one failed call is no instance that fails.
_GIVEN = 2.0
# The same with a short memory, to see what has just begun: for ejection alone, weights would swing.
_LATELY_S, _GIVEN_LATELY = 1.5, 0.5
# Left out at each end.
_TRIMMED = 0.3
# A voice with less than that of a call left is not counted as one.
_AUDIBLE = 0.5
# From so many voices on an instance may be ejected; fewer can take half of its weight at most.
FEWEST_VOICES = 3
_FEW_LEAST = 0.7
# Clients say that it fails, or that it works, up to and from here.
FAILS, _WORKS = 0.7, 0.9
DISAGREEMENTS = ("probes pass, clients fail", "probes fail, clients succeed")


@dataclass(frozen=True, slots=True)
class Outcome:
    """Calls of one reporter to one instance that ended within its window, and how.

    `latency` has the buckets (histogram.py) of those that were replied to.
    """

    attempts: int
    connect_errors: int = 0
    timeouts: int = 0
    failures: int = 0
    latency: Mapping[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        parts = (self.connect_errors, self.timeouts, self.failures, *self.latency.values())
        if min(self.attempts, *parts) < 0:
            raise Invalid([Fault("attempts", "counts are not negative")])
        if self.failed > self.attempts:
            raise Invalid([Fault("failures", f"{self.failed} of {self.attempts} calls failed")])
        if sum(self.latency.values()) > self.attempts or any(
            not 0 <= bucket < BUCKETS for bucket in self.latency
        ):
            raise Invalid([Fault("latency", "more replies than calls, or no such bucket")])

    def plus(self, other: "Outcome") -> "Outcome":
        """Both together."""
        latency = Counter(self.latency) + Counter(other.latency)
        return Outcome(
            self.attempts + other.attempts,
            self.connect_errors + other.connect_errors,
            self.timeouts + other.timeouts,
            self.failures + other.failures,
            latency,
        )

    @property
    def failed(self) -> int:
        """How many of the calls ended badly."""
        return self.connect_errors + self.timeouts + self.failures


class Reporter(NamedTuple):
    """Who reports: the host that its stream comes from, and the name that it gave itself."""

    host: str
    name: str


class Voice(NamedTuple):
    """What one reporter saw of one instance: calls as they counted at a time (monotonic s)."""

    attempts: float
    failed: float
    unreached: float
    at: float
    # Of these, what counts with the shorter half-life.
    lately: float = 0.0
    failed_lately: float = 0.0


class Folded(NamedTuple):
    """What all reporters together say of an instance.

    `rate`: the part of calls that succeed. `voices`: how many say so. `evidence`: calls that it
    rests on, at most ten of each voice. `unreached`: the part of calls that did not connect.
    `lately`: the rate with a shorter memory.
    """

    rate: float
    voices: int
    evidence: float
    unreached: float
    lately: float = 1.0


def heard(before: Voice | None, outcome: Outcome, now: float) -> Voice:
    """A voice after one more batch."""
    scale = min(1.0, _MOST / outcome.attempts) if outcome.attempts else 0.0
    attempts, failed = scale * outcome.attempts, scale * outcome.failed
    unreached = scale * outcome.connect_errors
    if before is None:
        return Voice(attempts, failed, unreached, now, attempts, failed)
    left, quick = _left(before, now), _left(before, now, _LATELY_S)
    return Voice(
        attempts + left * before.attempts,
        failed + left * before.failed,
        unreached + left * before.unreached,
        now,
        attempts + quick * before.lately,
        failed + quick * before.failed_lately,
    )


def _left(voice: Voice, now: float, half_s: float = _HALF_S) -> float:
    return exp2(-max(0.0, now - voice.at) / half_s)


class _Opinion(NamedTuple):
    """The rate of one voice, also of late, and the calls that it rests on."""

    rate: float
    calls: float
    lately: float


def fold(voices: Mapping[Reporter, Voice], now: float) -> Folded:
    """What voices together say; with none, that all is well."""
    hosts = {who.host for who in voices}
    by_host = len(hosts) >= FEWEST_VOICES
    said: dict[object, list[_Opinion]] = {}
    attempts = unreached = 0.0
    for who, voice in voices.items():
        left = _left(voice, now)
        said.setdefault(who.host if by_host else who, []).append(_opinion(voice, left, now))
        attempts += left * voice.attempts
        unreached += left * voice.unreached
    opinions = [_together(each) for each in said.values()]
    opinions = [each for each in opinions if each.calls > 0]
    if not opinions:
        return Folded(1.0, 0, 0.0, 0.0)
    audible = sum(each.calls >= _AUDIBLE for each in opinions)
    evidence = sum(each.calls for each in opinions)
    rate = _middle([(each.rate, each.calls) for each in opinions])
    lately = _middle([(each.lately, each.calls) for each in opinions])
    return Folded(rate, audible, evidence, unreached / attempts, lately)


def _opinion(voice: Voice, left: float, now: float) -> _Opinion:
    calls = left * voice.attempts
    bad = left * voice.failed / (calls + _GIVEN)
    faded = min(1.0, max(0.0, (FORGOTTEN_S - now + voice.at) / (FORGOTTEN_S - _FRESH_S)))
    quick = _left(voice, now, _LATELY_S)
    bad_lately = quick * voice.failed_lately / (quick * voice.lately + _GIVEN_LATELY)
    return _Opinion(1.0 - bad * faded, min(_ENOUGH, calls), 1.0 - bad_lately)


def _together(opinions: Sequence[_Opinion]) -> _Opinion:
    """The reporters of one voice as one: their mean."""
    calls = sum(each.calls for each in opinions)
    if len(opinions) == 1 or not calls:
        return opinions[0]
    rate = sum(each.rate * each.calls for each in opinions) / calls
    lately = sum(each.lately * each.calls for each in opinions) / calls
    return _Opinion(rate, min(_ENOUGH, calls), lately)


def _middle(said: Sequence[tuple[float, float]]) -> float:
    """The mean without both ends. Who has made many calls has no more say than the median."""
    enough = median(calls for _, calls in said)
    says = [(rate, min(1.0, calls / enough)) for rate, calls in said]
    whole = sum(say for _, say in says)
    low, high = _TRIMMED * whole, (1 - _TRIMMED) * whole
    reached = total = 0.0
    for rate, say in sorted(says):
        total += rate * max(0.0, min(reached + say, high) - max(reached, low))
        reached += say
    return min(1.0, total / (high - low))


def success_after(before: float, folded: Folded | None) -> float:
    """The success of a signal, in steps: it falls at once, and rises by one step a tick.

    Never 0, which is what an ejected instance has. None: nobody says anything.
    """
    found = 1.0
    if folded is not None:
        least = SUCCESS_STEP if folded.voices >= FEWEST_VOICES else _FEW_LEAST
        found = max(least, folded.rate)
    if before and abs(found - before) <= SUCCESS_STEP * _HOLD_STEPS:
        return before
    stepped = round(round(found / SUCCESS_STEP) * SUCCESS_STEP, 2)
    return min(stepped, round(before + SUCCESS_STEP, 2))


def disagreement(probed: Probed | None, folded: Folded | None) -> str:
    """What probes and clients hold against each other; empty if they do not, or one is silent."""
    if probed is None or folded is None or folded.voices < FEWEST_VOICES:
        return ""
    if probed.verdict is Verdict.UP and folded.rate <= FAILS:
        return DISAGREEMENTS[0]
    if probed.verdict is Verdict.DOWN and folded.rate >= _WORKS:
        return DISAGREEMENTS[1]
    return ""
