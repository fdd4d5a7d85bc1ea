"""Versions in motion, as nouns: rollouts and experiments, frozen and validated when made.

What becomes of a rollout next is in rollout.py; what clients get by it, in motion.py.
"""

import re
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise

from meshd.core.gates import Gate, Measure
from meshd.core.selector import Selector, Split, Version
from meshd.core.valid import label, one_line, require

_ARM = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?")
_LONGEST_S = 30 * 86_400.0


class OnNew(StrEnum):
    """What a service does with a version that was never there."""

    FOLLOW = "follow"  # its selectors see it at once
    CANARY = "canary"  # a rollout to it begins by itself
    HOLD = "hold"  # nobody gets it until somebody starts its rollout


class OnMissing(StrEnum):
    """What a rollout does when a step's time is over and a gate cannot be judged yet."""

    WAIT = "wait"
    FAIL = "fail"


class Phase(StrEnum):
    """Where a rollout stands."""

    HELD = "held"  # it has not begun, and nobody gets its version
    RUNNING = "running"
    PAUSED = "paused"  # its share stays as it is, and its time stands still
    DONE = "done"
    ROLLED_BACK = "rolled-back"

    @property
    def is_over(self) -> bool:
        """True if nothing comes after it."""
        return self in (Phase.DONE, Phase.ROLLED_BACK)


@dataclass(frozen=True, slots=True)
class Step:
    """A share of the clients in scope, in percent, and for how many seconds at least."""

    percent: float
    hold_s: float

    def __post_init__(self) -> None:
        require(
            (0 < self.percent <= 100, "percent", "must be above 0, and at most 100"),
            (0 <= self.hold_s <= _LONGEST_S, "every", "must be 0s..30 days"),
        )


def steps_of(percents: tuple[float, ...], hold_s: float) -> tuple[Step, ...]:
    """Steps that all last as long."""
    return tuple(Step(percent, hold_s) for percent in percents)


@dataclass(frozen=True, slots=True)
class Course:
    """How a rollout goes: its steps, and the gates that each of them must hold.

    A gate on outcomes is judged from so many outcomes of the new version, of so many reporters
    on distinct hosts.
    """

    steps: tuple[Step, ...] = steps_of((1, 5, 25, 50, 100), 300.0)
    gates: tuple[Gate, ...] = (Gate(Measure.SUCCESS, 0.99),)
    min_outcomes: int = 100
    min_reporters: int = 2
    on_gate_missing: OnMissing = OnMissing.WAIT

    def __post_init__(self) -> None:
        percents = [step.percent for step in self.steps]
        rising = all(low < high for low, high in pairwise(percents))
        require(
            (1 <= len(self.steps) <= 50, "steps", "1..50 steps"),
            (rising and percents[-1:] == [100], "steps", "must rise, and end at 100"),
            (len(self.gates) <= 16, "gates", "at most 16"),
            (len(set(self.gates)) == len(self.gates), "gates", "one stands there twice"),
            (1 <= self.min_outcomes <= 10_000_000, "min_outcomes", "must be 1..10000000"),
            (1 <= self.min_reporters <= 10_000, "min_reporters", "must be 1..10000"),
        )


@dataclass(frozen=True, slots=True)
class Scope:
    """Which clients: those of any of these Pops or Ranges (prefixes); all, if none is named."""

    pops: tuple[str, ...] = ()
    ranges: tuple[str, ...] = ()

    @property
    def is_all(self) -> bool:
        """True if no client is left out."""
        return not self.pops and not self.ranges

    def __str__(self) -> str:
        named = [*(f"pop {pop}" for pop in self.pops), *(f"range {each}" for each in self.ranges)]
        return ", ".join(named) or "all clients"


@dataclass(frozen=True, slots=True)
class Rollout:
    """A version of a service on its way to all clients in scope, forward or back.

    `name` is its id. Of the rollouts of one service only the one of the highest `order` moves.
    `step` is where it stands, `held_s` how long it has stood there as far as it was written down;
    `reason` and `figures` (one line each gate) tell people why. Times in Unix seconds are for
    people too, and decide nothing: clocks differ.
    """

    name: str
    service: str
    to: Version
    course: Course = field(default=Course())
    scope: Scope = field(default=Scope())
    phase: Phase = Phase.RUNNING
    step: int = 0
    held_s: float = 0.0
    order: int = 1
    reason: str = ""
    figures: tuple[str, ...] = ()
    author: str = ""
    began_unix_s: float = 0.0
    changed_unix_s: float = 0.0

    def __post_init__(self) -> None:
        require(
            label(self.name),
            label(self.service, "service"),
            (0 <= self.step < len(self.course.steps), "step", "there is no such step"),
            (self.held_s >= 0, "held_s", "must not be negative"),
            (1 <= self.order < 1 << 31, "order", "must be 1..2^31"),
            (one_line(self.reason, 1024), "reason", "at most 1024 printable characters"),
            (len(self.figures) <= 16, "figures", "at most 16"),
            (all(one_line(each, 512) for each in self.figures), "figures", "one line each"),
        )

    @property
    def percent(self) -> float:
        """The share of the clients in scope that get the new version, 0..100."""
        if self.phase in (Phase.HELD, Phase.ROLLED_BACK):
            return 0.0
        return 100.0 if self.phase is Phase.DONE else self.course.steps[self.step].percent


@dataclass(frozen=True, slots=True)
class ExperimentArm:
    """One arm: its name, what its clients get, and its share of the clients in percent."""

    name: str
    selector: Selector
    percent: float

    def __post_init__(self) -> None:
        fine = bool(_ARM.fullmatch(self.name))
        require(
            (fine, "name", f"{self.name!r} is no name of an arm (as in a, b, new-cart)"),
            (0 < self.percent <= 100, "percent", "must be above 0, and at most 100"),
            (not isinstance(self.selector, Split), "version", "an arm is no split"),
        )


@dataclass(frozen=True, slots=True)
class Experiment:
    """Named arms of clients, for as long as it is there; who is in no arm is not in it.

    A client that several experiments would take is in that of the lowest `order`: one that
    begins moves nobody out of another.
    """

    name: str
    service: str
    arms: tuple[ExperimentArm, ...]
    scope: Scope = field(default=Scope())
    order: int = 1
    author: str = ""
    began_unix_s: float = 0.0

    def __post_init__(self) -> None:
        names = [arm.name for arm in self.arms]
        require(
            label(self.name),
            label(self.service, "service"),
            (1 <= len(self.arms) <= 16, "arms", "1..16 arms"),
            (len(set(names)) == len(names), "arms", "one is named twice"),
            (sum(arm.percent for arm in self.arms) <= 100.0001, "arms", "more than 100 % in all"),
            (1 <= self.order < 1 << 31, "order", "must be 1..2^31"),
        )
