"""What a core needs to know of all rollouts to move them: pure, made anew when they change."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from meshd.core.model import Service
from meshd.core.release import OnMissing, OnNew, Phase, Rollout
from meshd.core.selector import Exact, Split, select
from meshd.core.snapshot import Snapshot
from meshd.core.topology import Topology

# How long a step has lasted is written down so often, and after this share of the longer of its
# time and what has passed: a core that dies costs that much at most.
_NOTE_S, _NOTE_SHARE = 5.0, 0.1
_UNDERWAY = (Phase.RUNNING, Phase.PAUSED)


@dataclass(frozen=True, slots=True)
class Lines:
    """The rollouts of each service, the one of each that is under way, and who receives versions.

    `receiving`: services in which new versions wait for their rollout.
    """

    rollouts: Mapping[str, Rollout]
    services: Mapping[str, Service]
    by_service: Mapping[str, Sequence[Rollout]]
    moving: Mapping[str, Rollout]
    receiving: Sequence[str]

    @classmethod
    def of(cls, topology: Topology) -> "Lines":
        """The lines of a topology."""
        by_service: dict[str, list[Rollout]] = {}
        for rollout in sorted(topology.rollouts.values(), key=lambda each: each.order):
            by_service.setdefault(rollout.service, []).append(rollout)
        newest = {service: line[-1] for service, line in by_service.items()}
        moving = {service: each for service, each in newest.items() if each.phase in _UNDERWAY}
        receiving = [s.name for s in topology.services.values() if s.on_new is not OnNew.FOLLOW]
        return cls(topology.rollouts, topology.services, by_service, moving, receiving)

    def are_of(self, topology: Topology) -> bool:
        """True if they still are what the topology holds."""
        return self.rollouts is topology.rollouts and self.services is topology.services


def settled(snapshot: Snapshot, rollout: Rollout) -> Service | None:
    """The service as it must be once a rollout is done; None: as it is, all get the version.

    Where its selector stands for other versions too, some clients would go back to them.
    """
    view = snapshot.views.get(rollout.service)
    if view is None or isinstance(view.service.selector, Split):
        return None
    seen = [version for version in view.versions if not view.motion.why_hidden(version)]
    if select(view.service.selector, [*seen, rollout.to], view.channels) == {rollout.to}:
        return None
    return replace(view.service, selector=Exact(rollout.to))


def patient(rollout: Rollout, heard_s: float) -> Rollout:
    """A rollout whose gates are waited for: who took it over has not listened for a whole step."""
    if heard_s >= rollout.course.steps[rollout.step].hold_s:
        return rollout
    return replace(rollout, course=replace(rollout.course, on_gate_missing=OnMissing.WAIT))


def note_in_s(rollout: Rollout) -> float:
    """After how long what a step has lasted is written down again."""
    hold_s = rollout.course.steps[rollout.step].hold_s
    return max(_NOTE_S, _NOTE_SHARE * max(hold_s, rollout.held_s))


def what_became(before: Rollout, after: Rollout) -> str:
    """What the audit says of a write."""
    name = f"rollout {after.name}"
    if after.phase is not before.phase:
        return f"{name} {after.phase}: {after.reason}" if after.reason else f"{name} {after.phase}"
    if after.step != before.step:
        return f"{name} step {after.step + 1}: {after.percent:g} %"
    return f"{name} noted"
