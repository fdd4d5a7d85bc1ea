"""Versions in motion: what experiments and rollouts make of the versions that a client gets.

      experiment   its arm, of the first experiment that takes the client
      rollout      its version, while it is under way, for its share of the clients in scope
      selector     for all others what their Range or service says, without hidden versions

Hidden is the version of a rollout that is not done, or was rolled back; and, where new versions
wait for their rollout, each above the highest that was rolled out. A name that asks for a
version or an instance is not touched by any of it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from meshd.core.errors import Invalid
from meshd.core.hashing import BUCKETS, permuted, seed
from meshd.core.model import Prefix
from meshd.core.ranges import Marks, Policy
from meshd.core.release import Experiment, ExperimentArm, OnNew, Phase, Rollout, Scope
from meshd.core.selector import Exact, Selector, Split, Version, select

_UNDERWAY = (Phase.RUNNING, Phase.PAUSED)


class Draw(NamedTuple):
    """What motion makes of one client: its selector (None: its own), and by what.

    `rollout` is one that the client takes part in, `is_moved` says whether it gets its version;
    `is_keyed`: other clients of its Ranges may get another; `most_s` bounds the TTL.
    """

    selector: Selector | None = None
    experiment: str = ""
    arm: str = ""
    rollout: str = ""
    is_moved: bool = False
    is_keyed: bool = False
    most_s: float | None = None


NOT_DRAWN = Draw()


@dataclass(frozen=True, slots=True)
class Underway:
    """A rollout that moves clients now; `hold_s`: how long its share stays as it is at least."""

    name: str
    to: Version
    percent: float
    hold_s: float
    scope: Scope

    def draw(self, bucket: int, *, is_keyed: bool) -> Draw:
        """What it makes of a client that takes part; as it grows, nobody goes back."""
        is_moved = permuted(bucket, seed(f"rollout:{self.name}")) * 100 < self.percent * BUCKETS
        return Draw(
            Exact(self.to) if is_moved else None,
            rollout=self.name,
            is_moved=is_moved,
            is_keyed=is_keyed or self.percent < 100,
            most_s=0.0 if is_moved else self.hold_s / 2,
        )


@dataclass(frozen=True, slots=True)
class Motion:
    """All that changes answers in the rollouts and experiments of one service.

    Equal motions make equal answers: what rollouts note for people is not in it.
    """

    experiments: tuple[Experiment, ...] = ()
    underway: Underway | None = None
    held: frozenset[Version] = frozenset()
    rolled_back: frozenset[Version] = frozenset()
    # The highest version that was rolled out, where new ones wait for their rollout.
    baseline: Version | None = None
    # The Ranges that scopes name.
    marks: frozenset[str] = frozenset()

    @classmethod
    def of(
        cls, on_new: OnNew, rollouts: Iterable[Rollout], experiments: Iterable[Experiment]
    ) -> "Motion":
        """The motion of a service by its policy, its rollouts and its experiments."""
        line = sorted(rollouts, key=lambda rollout: (rollout.order, rollout.name))
        newest = {rollout.to: rollout.phase for rollout in line}
        done = [rollout.to for rollout in line if rollout.phase is Phase.DONE]
        underway = _underway(line[-1]) if line and line[-1].phase in _UNDERWAY else None
        lasting = sorted(map(_lasting, experiments), key=lambda each: (each.order, each.name))
        scopes = [each.scope for each in lasting] + ([underway.scope] if underway else [])
        return cls(
            tuple(lasting),
            underway,
            frozenset(v for v, phase in newest.items() if not phase.is_over),
            frozenset(v for v, phase in newest.items() if phase is Phase.ROLLED_BACK),
            max(done) if done and on_new is not OnNew.FOLLOW else None,
            frozenset(name for scope in scopes for name in scope.ranges),
        )

    def draw(
        self, policy: Policy, bucket: int, own: Selector | None, channels: Mapping[str, Selector]
    ) -> Draw:
        """What it makes of a client; `own` is what its Ranges say of the service."""
        is_keyed = False
        for experiment in self.experiments:
            if _holds(experiment.scope, policy):
                is_keyed = is_keyed or len(experiment.arms) > 1 or experiment.arms[0].percent < 100
                arm = _arm_at(experiment, bucket)
                if arm is not None:
                    return Draw(arm.selector, experiment.name, arm.name, is_keyed=is_keyed)
        underway = self.underway
        if underway is None or not _holds(underway.scope, policy):
            return Draw(is_keyed=is_keyed)
        if own is not None and not _admits(own, underway.to, channels):
            return Draw(is_keyed=is_keyed)
        return underway.draw(bucket, is_keyed=is_keyed)

    def why_hidden(self, version: Version) -> str:
        """Why selectors do not see a version; empty if they do."""
        if version in self.rolled_back:
            return f"held back: {version} was rolled back"
        if version in self.held or (self.baseline is not None and version > self.baseline):
            return f"held back: {version} is not rolled out yet"
        return ""


# Nothing moves.
STILL = Motion()


def _underway(rollout: Rollout) -> Underway:
    hold_s = rollout.course.steps[rollout.step].hold_s
    return Underway(rollout.name, rollout.to, rollout.percent, hold_s, _named(rollout.scope))


def _lasting(experiment: Experiment) -> Experiment:
    """An experiment without what is there for people."""
    return replace(experiment, scope=_named(experiment.scope), author="", began_unix_s=0.0)


def _named(scope: Scope) -> Scope:
    """A scope with its Ranges as they are called."""
    return replace(scope, ranges=tuple(str(_prefix(name) or name) for name in scope.ranges))


def _prefix(name: str) -> Prefix | None:
    """The prefix of a Range that a scope names; None for what no Range can be called."""
    try:
        return Prefix.parse(name)
    except Invalid:
        return None


def marked(rollouts: Iterable[Rollout], experiments: Iterable[Experiment]) -> Marks:
    """The Ranges by which clients must be told apart."""
    scopes = [rollout.scope for rollout in rollouts if rollout.phase in _UNDERWAY]
    scopes += [experiment.scope for experiment in experiments]
    named = {_prefix(name) for scope in scopes for name in scope.ranges}
    return frozenset(prefix for prefix in named if prefix is not None)


def changes_answers(before: Rollout | None, after: Rollout | None) -> bool:
    """False if a rollout changed by no more than what it notes."""
    return (before and _essence(before)) != (after and _essence(after))


def _essence(rollout: Rollout) -> Rollout:
    return replace(
        rollout, held_s=0.0, reason="", figures=(), author="", began_unix_s=0.0, changed_unix_s=0.0
    )


def _holds(scope: Scope, policy: Policy) -> bool:
    if scope.is_all:
        return True
    return policy.pop in scope.pops or not policy.marks.isdisjoint(scope.ranges)


def _arm_at(experiment: Experiment, bucket: int) -> ExperimentArm | None:
    position = permuted(bucket, seed(f"experiment:{experiment.name}"))
    reached = 0.0
    for arm in experiment.arms:
        reached += arm.percent
        if position * 100 < reached * BUCKETS:
            return arm
    return None


def _admits(own: Selector, version: Version, channels: Mapping[str, Selector]) -> bool:
    """True if a Range's own selector lets its clients take part: floors do, pins and splits not."""
    return not isinstance(own, Split) and version in select(own, [version], channels)
