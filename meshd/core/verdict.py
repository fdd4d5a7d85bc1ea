"""The verdict on an instance: what follows from probes, and which word outranks which.

              probe passed                           probe failed
  up          up                                     failing, or down at the fall-th in a row
  failing     up                                     failing, or down at the fall-th in a row
  down        recovering, or up at the rise-th       down
  recovering  recovering, or up at the rise-th       down

Whatever flaps comes up late: it stays failing or recovering until it has been calm (`Probed`).

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
_OUT = (Verdict.DOWN, Verdict.RECOVERING)
# Coming up and ceasing to be up each count for so long, and at most so many may count at a time:
# a burst of three, then one each 30 s. Nothing is kept up for it: what may wait is coming up, and
# it waits until ceasing to be up right afterwards would fit in too.
_COUNTS_S = 30.0
_BURST = 3


class Probed(NamedTuple):
    """What probes made of an instance: verdict, and results in a row of one kind.

    `is_fresh`: not probed yet by this process, so that the first result decides alone about what
    was not up; who was up needs all of `fall` to be down, or a core that starts on a busy machine
    would take out everybody. `calm_at`: when its last change counts no more (monotonic seconds).
    """

    verdict: Verdict = Verdict.UP
    passed: bool = True
    row: int = 0
    is_fresh: bool = True
    calm_at: float = float("-inf")

    def damped_until(self) -> float:
        """Until when (monotonic seconds) it does not come up, whatever probes find."""
        return self.calm_at - (_BURST - 2) * _COUNTS_S


def judge(probed: Probed, passed: bool, check: Check, now: float) -> Probed:
    """What one more probe makes of an instance; `now` in monotonic seconds."""
    row = probed.row + 1 if probed.passed == passed else 1
    wanted = check.rise if passed else check.fall
    before, at_count = (_PASSED if passed else _FAILED)[probed.verdict]
    decides_alone = probed.is_fresh and probed.verdict in _OUT
    verdict = at_count if decides_alone or row >= wanted else before
    if decides_alone or (verdict is Verdict.UP) == (probed.verdict is Verdict.UP):
        return Probed(verdict, passed, row, False, probed.calm_at)
    if verdict is Verdict.UP and now < probed.damped_until():
        held = Verdict.RECOVERING if probed.verdict in _OUT else probed.verdict
        return Probed(held, passed, row, False, probed.calm_at)
    return Probed(verdict, passed, row, False, max(now, probed.calm_at) + _COUNTS_S)


def quick_s(check: Check) -> float:
    """Seconds between probes while the verdict may turn: an eighth, as HAProxy's fastinter.

    So a crash is down in about one interval, whatever `fall` is.
    """
    return check.every_s / 8


def is_turning(probed: Probed, check: Check) -> bool:
    """True while a few more of the same results would take an instance out, or bring it in."""
    if probed.passed:
        return probed.verdict is Verdict.RECOVERING and probed.row < check.rise
    return probed.verdict is Verdict.FAILING and probed.row < check.fall
