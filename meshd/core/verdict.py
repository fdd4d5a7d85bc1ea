"""The verdict on an instance: what follows from probes, and which word outranks which.

              probe passed                           probe failed
  up          up                                     failing, or down at the fall-th in a row
  failing     up                                     failing, or down at the fall-th in a row
  down        recovering, or up at the rise-th       down
  recovering  recovering, or up at the rise-th       down

operator's force  >  lost presence  >  the instance's own word (lame duck)  >  probes
"""

from enum import StrEnum
from typing import NamedTuple

from meshd.core.model import Check, Force


class Verdict(StrEnum):
    """What is held of an instance now."""

    UP = "up"
    FAILING = "failing"
    DOWN = "down"
    RECOVERING = "recovering"
    FORCED_UP = "forced up"
    FORCED_DOWN = "forced down"
    LEAVING = "leaving"
    DRAINING = "draining"

    @property
    def is_ready(self) -> bool:
        """True if new clients may be sent there."""
        return self in _READY


_READY = frozenset({Verdict.UP, Verdict.FAILING, Verdict.FORCED_UP, Verdict.LEAVING})
_FORCED = {
    Force.UP: Verdict.FORCED_UP,
    Force.DOWN: Verdict.FORCED_DOWN,
    Force.LEAVE: Verdict.LEAVING,
    Force.DRAIN: Verdict.DRAINING,
}


def combine(found: Verdict, present: bool, held: bool, force: Force | None) -> Verdict:
    """The one verdict that counts; `held`: what took the instance out is not acted on yet."""
    if force is Force.LEAVE:
        # It says when, not whether: what is down is not up because it will drain.
        kept = combine(found, present, held, None)
        return Verdict.LEAVING if kept.is_ready else kept
    if force is not None:
        return _FORCED[force]
    verdict = found if present else Verdict.DOWN
    return Verdict.FAILING if held and verdict in (Verdict.DOWN, Verdict.RECOVERING) else verdict


# A verdict -> what a passed probe, or a failed one, makes of it, before and at the count.
_PASSED = {
    Verdict.UP: (Verdict.UP, Verdict.UP),
    Verdict.FAILING: (Verdict.UP, Verdict.UP),
    Verdict.DOWN: (Verdict.RECOVERING, Verdict.UP),
    Verdict.RECOVERING: (Verdict.RECOVERING, Verdict.UP),
}
_FAILED = {
    Verdict.UP: (Verdict.FAILING, Verdict.DOWN),
    Verdict.FAILING: (Verdict.FAILING, Verdict.DOWN),
    Verdict.DOWN: (Verdict.DOWN, Verdict.DOWN),
    Verdict.RECOVERING: (Verdict.DOWN, Verdict.DOWN),
}
# How long an instance that keeps going down stays down: nothing for the first time within the
# memory, then this and twice as much for each further time.
_DAMPED_S = 30.0
_DAMPED_MOST_S = 300.0
_MEMORY_S = 300.0


class Probed(NamedTuple):
    """What probes made of an instance: verdict, results in a row of one kind, when it went down.

    `is_fresh`: not probed yet by this process, so that the first result decides alone.
    """

    verdict: Verdict = Verdict.UP
    passed: bool = True
    row: int = 0
    downs: tuple[float, ...] = ()
    is_fresh: bool = True

    def damped_until(self) -> float:
        """Until when (monotonic seconds) it stays down, whatever probes find."""
        again = len(self.downs) - 1
        if again < 1:
            return float("-inf")
        return self.downs[-1] + min(_DAMPED_MOST_S, _DAMPED_S * 2.0 ** (again - 1))


def judge(probed: Probed, passed: bool, check: Check, now: float) -> Probed:
    """What one more probe makes of an instance; `now` in monotonic seconds."""
    row = probed.row + 1 if probed.passed == passed else 1
    wanted = check.rise if passed else check.fall
    before, at_count = (_PASSED if passed else _FAILED)[probed.verdict]
    verdict = at_count if probed.is_fresh or row >= wanted else before
    downs = tuple(at for at in probed.downs if now - at < _MEMORY_S)
    went_up = verdict is Verdict.UP and probed.verdict in (Verdict.DOWN, Verdict.RECOVERING)
    if went_up and now < probed._replace(downs=downs).damped_until():
        verdict = Verdict.RECOVERING
    if verdict is Verdict.DOWN and probed.verdict in (Verdict.UP, Verdict.FAILING):
        downs = (*downs, now)
    return Probed(verdict, passed, row, downs, is_fresh=False)
