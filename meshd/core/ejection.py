"""Ejection: what clients see fail far more than its like gets no new clients for a while.

As Envoy's outlier detection, but against the median and the spread of the others, which small
services have as well. It is about being worse than others: if all fail, nobody is ejected.
"""

from collections.abc import Mapping
from statistics import median
from typing import NamedTuple

from meshd.core.outcomes import FAILS, FEWEST_VOICES, Folded

# At most this part of a service's instances is ejected at once.
_MOST_SHARE = 1 / 3
# Below the median of the others by this much at least, and by so many of their median distances.
_WORSE, _SPREADS = 0.2, 3.0
# Calls that speak for an ejection, counted as in `Folded.evidence`.
_LEAST_EVIDENCE = 10.0
# Out for so long times how often it was ejected; each such calm time takes one off.
_BASE_S, _MOST_S, _CALM_S = 10.0, 300.0, 60.0


class Ejection(NamedTuple):
    """How often an instance was ejected, and until when it is (monotonic seconds)."""

    times: int
    until: float

    def is_out(self, now: float) -> bool:
        """True while it is ejected."""
        return now < self.until

    def ended(self, now: float) -> "Ejection":
        """The same, over by now."""
        return self._replace(until=min(now, self.until))


def begun(now: float) -> Ejection:
    """The ejection of one that is out since not long ago, for all that is known."""
    return Ejection(1, now + _BASE_S)


def allowed(members: int) -> int:
    """How many of so many instances may be ejected at once; of one or two, none."""
    return max(1, int(members * _MOST_SHARE)) if members > 2 else 0


def ejections(
    found: Mapping[str, Folded], before: Mapping[str, Ejection], members: int, now: float
) -> dict[str, Ejection]:
    """Who of a service is ejected, and who was not long ago.

    `found` is what clients say of those that are ready, `members` how many are.
    """
    after = {name: each for name, each in before.items() if _remembered(each, now)}
    out = [name for name, each in after.items() if each.is_out(now)]
    room = allowed(members) - len(out)
    # Others went meanwhile: those that would be back first are.
    for name in sorted(out, key=lambda name: (after[name].until, name))[: max(0, -room)]:
        after[name] = after[name].ended(now)
    rest = {name: each for name, each in found.items() if name not in out}
    worst = sorted((_rate(each), name) for name, each in rest.items() if _fails(name, rest))
    for _, name in worst[: max(0, room)]:
        after[name] = _once_more(after.get(name), now)
    return after


def _remembered(ejection: Ejection, now: float) -> bool:
    return ejection.times > _forgiven(ejection, now)


def _forgiven(ejection: Ejection, now: float) -> int:
    return int(max(0.0, now - ejection.until) / _CALM_S)


def _once_more(before: Ejection | None, now: float) -> Ejection:
    times = 1 + (before.times - _forgiven(before, now) if before else 0)
    return Ejection(times, now + min(_MOST_S, _BASE_S * times))


def _fails(name: str, found: Mapping[str, Folded]) -> bool:
    """True if an instance fails in itself, and clearly more than the others of its service."""
    mine, rate = found[name], _rate(found[name])
    if mine.voices < FEWEST_VOICES or mine.evidence < _LEAST_EVIDENCE or rate > FAILS:
        return False
    others = [_rate(each) for other, each in found.items() if other != name and each.voices]
    if not others:
        return False
    middle = median(others)
    spread = median(abs(rate - middle) for rate in others)
    return rate < middle - max(_WORSE, _SPREADS * spread)


def _rate(folded: Folded) -> float:
    """The worse of what was seen for long and of late: what has just begun to fail fails."""
    return min(folded.rate, folded.lately)
