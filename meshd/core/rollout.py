"""What becomes of a rollout next: by its gates and the time, or by hand.

A rollout is a value; each function returns the one that follows. Time comes as seconds that it
has stood at its step, and as Unix seconds that only people read.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

from meshd.core.errors import Conflict, Refused
from meshd.core.evidence import Evidence
from meshd.core.judging import Reading, Ruling, readings
from meshd.core.model import Service
from meshd.core.release import Course, OnMissing, OnNew, Phase, Rollout, Scope
from meshd.core.selector import Version

# Finished rollouts of a service that are kept.
KEPT = 20
_LONGEST_REASON = 1000
_BY_HAND = "paused: "


def of_service(rollouts: Iterable[Rollout], service: str) -> Sequence[Rollout]:
    """The rollouts of a service, newest first."""
    found = [rollout for rollout in rollouts if rollout.service == service]
    return sorted(found, key=lambda rollout: -rollout.order)


def advanced(
    rollout: Rollout, evidence: Evidence, elapsed_s: float, now_unix_s: float
) -> Rollout | None:
    """What it becomes now; None: it stays where it is.

    A gate that is surely broken rolls it back at once. When its step's time is over, it goes on
    if all gates hold; one that cannot be judged keeps it waiting, or fails it. Once all in a
    scope that is not everybody have it, it pauses.
    """
    if rollout.phase is not Phase.RUNNING:
        return None
    seen = gates_of(rollout, evidence)
    told = replace(rollout, figures=tuple(map(str, seen)), changed_unix_s=now_unix_s)
    broken = [reading for reading in seen if reading.ruling is Ruling.FAIL]
    if broken:
        return _back(told, f"gate {broken[0]}")
    step = rollout.course.steps[rollout.step]
    if elapsed_s < step.hold_s:
        return None
    open_ = [reading for reading in seen if reading.ruling is not Ruling.PASS]
    if not open_:
        return _on(told, elapsed_s)
    if rollout.course.on_gate_missing is OnMissing.FAIL:
        return _back(told, f"gate {open_[0]}, when the time of its step was over")
    return None


def _on(rollout: Rollout, elapsed_s: float) -> Rollout:
    """To the next step; to those out of its scope it does not go by itself."""
    if rollout.scope.is_all or rollout.step < len(rollout.course.steps) - 1:
        return _next(rollout, "all gates hold")
    said = f"{rollout.scope}: all have it and all gates hold; `promote` brings it to everybody"
    return replace(rollout, phase=Phase.PAUSED, held_s=elapsed_s, reason=said)


def is_settled(rollout: Rollout) -> bool:
    """True if all in a scope that is not everybody have it, and it waits for a word."""
    step = rollout.course.steps[-1]
    return (
        rollout.phase is Phase.PAUSED
        and not rollout.scope.is_all
        and rollout.step == len(rollout.course.steps) - 1
        and rollout.held_s >= step.hold_s
        and not rollout.reason.startswith(_BY_HAND)
    )


def gates_of(rollout: Rollout, evidence: Evidence) -> tuple[Reading, ...]:
    """What its gates say now."""
    is_last = rollout.step == len(rollout.course.steps) - 1
    return readings(rollout.course, evidence, is_last=is_last)


def waits_for(rollout: Rollout, seen: Sequence[Reading], elapsed_s: float) -> str:
    """Why a rollout that runs is still at its step, for people."""
    left_s = rollout.course.steps[rollout.step].hold_s - elapsed_s
    open_ = [reading for reading in seen if reading.ruling is not Ruling.PASS]
    said = [f"{left_s:.0f} s left"] if left_s > 0 else []
    return "; ".join([*said, *(f"waits for {reading}" for reading in open_)])[:_LONGEST_REASON]


def noted(rollout: Rollout, seen: Sequence[Reading], elapsed_s: float) -> Rollout:
    """The same rollout with how long it has stood there, and what its gates say."""
    return replace(
        rollout,
        held_s=elapsed_s,
        reason=waits_for(rollout, seen, elapsed_s),
        figures=tuple(map(str, seen)),
    )


class Begun(NamedTuple):
    """A rollout that was wanted, whether it is new, and a held one that it takes the place of."""

    rollout: Rollout
    is_new: bool
    replaced: Rollout | None = None


def begun(rollouts: Collection[Rollout], wanted: Rollout) -> Begun:
    """The rollout that is wanted; its order is given here.

    The one of the same id if it is the same. Conflict: it is another; Refused: one of the
    service is not over. One that is held for the same version begins by it.
    """
    known = next((each for each in rollouts if each.name == wanted.name), None)
    if known is not None and known.phase is not Phase.HELD:
        if _asked(known) != _asked(wanted):
            raise Conflict(f"there is a rollout {known.name} already, and it is another one")
        return Begun(known, False)
    own = of_service(rollouts, wanted.service)
    moving = next((each for each in own if not each.phase.is_over), None)
    if moving is not None and (moving.phase is not Phase.HELD or moving.to != wanted.to):
        raise Refused(
            f"rollout {moving.name} of {moving.service} to {moving.to} is {moving.phase}:"
            " finish it or roll it back first"
        )
    order = 1 + max((each.order for each in own), default=0)
    replaced = moving if moving is not None and moving.name != wanted.name else None
    return Begun(replace(wanted, order=order), True, replaced)


def _asked(rollout: Rollout) -> tuple[str, Version, Course, Scope]:
    return rollout.service, rollout.to, rollout.course, rollout.scope


def over_and_done(rollouts: Collection[Rollout], service: str) -> Sequence[Rollout]:
    """Those of a service that are forgotten when one more begins."""
    finished = [each for each in of_service(rollouts, service) if each.phase.is_over]
    kept = set(finished[: KEPT - 1])
    # The baseline stays however old it is (motion.py).
    settled = baseline(finished)
    kept |= {each for each in finished if each.to == settled and each.phase is Phase.DONE}
    return [each for each in finished if each not in kept]


def paused(rollout: Rollout, elapsed_s: float, why: str, now_unix_s: float) -> Rollout:
    """Its share and its time stand still."""
    _demand(rollout, Phase.RUNNING)
    told = why or "by hand"
    return replace(
        rollout,
        phase=Phase.PAUSED,
        held_s=elapsed_s,
        reason=f"{_BY_HAND}{told}",
        changed_unix_s=now_unix_s,
    )


def resumed(rollout: Rollout, why: str, now_unix_s: float) -> Rollout:
    """It goes on where it stood."""
    _demand(rollout, Phase.PAUSED)
    return replace(
        rollout, phase=Phase.RUNNING, reason=why or "resumed by hand", changed_unix_s=now_unix_s
    )


def promoted(rollout: Rollout, why: str, now_unix_s: float) -> Rollout:
    """To the next step, whatever its gates say; from the last one it is done."""
    _demand(rollout, Phase.RUNNING, Phase.PAUSED, Phase.HELD)
    told = replace(rollout, changed_unix_s=now_unix_s)
    if rollout.phase is Phase.HELD:
        return replace(told, phase=Phase.RUNNING, held_s=0.0, reason=why or "begun by hand")
    return _next(told, why or "by hand")


def finished(rollout: Rollout, why: str, now_unix_s: float) -> Rollout:
    """To all clients at once, and done."""
    _demand(rollout, Phase.RUNNING, Phase.PAUSED, Phase.HELD)
    return replace(
        rollout,
        phase=Phase.DONE,
        step=len(rollout.course.steps) - 1,
        held_s=0.0,
        reason=f"finished: {why or 'by hand'}",
        changed_unix_s=now_unix_s,
    )


def rolled_back(rollout: Rollout, why: str, now_unix_s: float) -> Rollout:
    """Nobody gets its version any more."""
    _demand(rollout, Phase.RUNNING, Phase.PAUSED, Phase.HELD)
    return _back(replace(rollout, changed_unix_s=now_unix_s), why or "by hand")


def _demand(rollout: Rollout, *phases: Phase) -> None:
    if rollout.phase not in phases:
        wanted = " or ".join(phases)
        over = "; start one to the version that you want" if rollout.phase.is_over else ""
        raise Refused(f"rollout {rollout.name} is {rollout.phase}, not {wanted}{over}")


def _next(rollout: Rollout, why: str) -> Rollout:
    if rollout.step == len(rollout.course.steps) - 1:
        return replace(rollout, phase=Phase.DONE, held_s=0.0, reason=f"done: {why}")
    step = rollout.step + 1
    percent = rollout.course.steps[step].percent
    return replace(
        rollout, phase=Phase.RUNNING, step=step, held_s=0.0, reason=f"{percent:g} %: {why}"
    )


def _back(rollout: Rollout, why: str) -> Rollout:
    reason = f"rolled back at {rollout.percent:g} %: {why}"[:_LONGEST_REASON]
    return replace(rollout, phase=Phase.ROLLED_BACK, held_s=0.0, reason=reason)


def baseline(rollouts: Iterable[Rollout]) -> Version | None:
    """The highest version that a rollout of these has brought to its end; None: there was none."""
    done = [each.to for each in rollouts if each.phase is Phase.DONE]
    return max(done, default=None)


def due(service: Service, rollouts: Iterable[Rollout], served: Iterable[Version]) -> Rollout | None:
    """The rollout that a service's policy on new versions wants; `begun` gives it its order.

    First, that what is served is the baseline; later, one for the highest release above it that
    no rollout was ever about.
    """
    if service.on_new is OnNew.FOLLOW:
        return None
    name, course = service.name, service.course
    releases = [version for version in served if version.is_release]
    own = of_service(rollouts, name)
    settled = baseline(own)
    if not releases or any(not each.phase.is_over for each in own):
        return None
    if settled is None:
        last = len(course.steps) - 1
        said = "it was served when the policy began"
        return Rollout(
            _id(name, "initial", own), name, max(releases), course,
            phase=Phase.DONE, step=last, reason=said,
        )  # fmt: skip
    # Instances of one that was rolled back may still be there: they stop none below it.
    known = {each.to for each in own}
    newest = max((each for each in releases if each > settled and each not in known), default=None)
    if newest is None:
        return None
    phase = Phase.HELD if service.on_new is OnNew.HOLD else Phase.RUNNING
    said = "a new version appeared" + (": it is held back" if phase is Phase.HELD else "")
    return Rollout(_id(name, newest.label, own), name, newest, course, phase=phase, reason=said)


def default_id(service: str, to: Version, rollouts: Iterable[Rollout]) -> str:
    """The id of a rollout that was given none."""
    return _id(service, to.label, of_service(rollouts, service))


def _id(service: str, what: str, own: Sequence[Rollout]) -> str:
    order = 1 + max((each.order for each in own), default=0)
    end = f"-{what[:24].strip('-')}-{order}"
    # A label has 63 characters (RFC 1035 2.3.4).
    return service[: 63 - len(end)].rstrip("-") + end
