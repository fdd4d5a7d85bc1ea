"""What clients saw of a new version and of the old one since a step of a rollout began.

Whoever hears them keeps one `Seen` for each host and Pop of each side; here they are made into
what gates look at. No host decides alone: of three or more, each counts for a third at most.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from meshd.core.histogram import Histogram, merged
from meshd.core.outcomes import Outcome

_MOST_OF_ALL = 3


class Whence(NamedTuple):
    """The host that reports, and the Pop of its address ("": no Range holds it)."""

    host: str
    pop: str


@dataclass(frozen=True, slots=True)
class Seen:
    """Calls that ended since the step began, how many failed, how long the others took."""

    attempts: float = 0.0
    failed: float = 0.0
    latency: Histogram = field(default_factory=dict)

    def plus(self, outcome: Outcome) -> "Seen":
        """With one more report."""
        return Seen(
            self.attempts + outcome.attempts,
            self.failed + outcome.failed,
            merged(self.latency, outcome.latency),
        )

    def scaled(self, factor: float) -> "Seen":
        """The same, counting so much of itself."""
        latency = {bucket: count * factor for bucket, count in self.latency.items()}
        return Seen(self.attempts * factor, self.failed * factor, latency)


@dataclass(frozen=True, slots=True)
class Side:
    """One version, or all others: calls in all, their latencies by Pop, distinct hosts."""

    attempts: float = 0.0
    failed: float = 0.0
    hosts: int = 0
    by_pop: Mapping[str, Histogram] = field(default_factory=dict)

    @classmethod
    def of(cls, seen: Mapping[Whence, Seen]) -> "Side":
        """All that hosts saw, each of them for no more than a third."""
        calls: dict[str, float] = {}
        for whence, each in seen.items():
            calls[whence.host] = calls.get(whence.host, 0.0) + each.attempts
        calls = {host: count for host, count in calls.items() if count > 0}
        most = _most(sorted(calls.values(), reverse=True))
        attempts = failed = 0.0
        by_pop: dict[str, Histogram] = {}
        for whence, each in sorted(seen.items()):
            if not each.attempts:
                continue
            counted = each.scaled(min(1.0, most / calls[whence.host]))
            attempts += counted.attempts
            failed += counted.failed
            by_pop[whence.pop] = merged(by_pop.get(whence.pop, {}), counted.latency)
        return cls(attempts, failed, len(calls), by_pop)


def _most(calls: list[float]) -> float:
    """For how many calls one host may count; `calls` of all hosts, the most first."""
    if len(calls) < _MOST_OF_ALL:
        return max(calls, default=0.0)
    for capped in range(_MOST_OF_ALL):
        most = sum(calls[capped:]) / (_MOST_OF_ALL - capped)
        if calls[capped] <= most:
            return most
    return calls[_MOST_OF_ALL - 1]


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that gates look at.

    `instances` of the new version that probes have judged, and how many of them are up: a mean
    over some seconds, so they are not whole.
    """

    new: Side = field(default=Side())
    old: Side = field(default=Side())
    instances: float = 0.0
    up: float = 0.0
