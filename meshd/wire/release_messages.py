"""Rollouts and experiments as protobuf messages; what is wrong in one is Invalid."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from enum import StrEnum
from typing import TypeVar

from meshd.core.errors import Fault, Invalid
from meshd.core.gates import Gate
from meshd.core.release import (
    Course,
    Experiment,
    ExperimentArm,
    OnMissing,
    Phase,
    Rollout,
    Scope,
    Step,
)
from meshd.core.selector import Version, parse_selector
from meshd.v1 import records_pb2 as pb

E = TypeVar("E", bound=StrEnum)
P = TypeVar("P")
T = TypeVar("T")


def chosen(kind: type[E], text: str, usual: E) -> E:
    """One of an enumeration's words; empty: the usual one. Invalid lists the words."""
    if not text:
        return usual
    if text not in list(kind):
        raise Invalid(f"{text!r} is none of {', '.join(kind)}")
    return kind(text)


def course_to_message(course: Course) -> pb.Course:
    """A course as it is stored and sent."""
    return pb.Course(
        steps=[pb.Step(percent=step.percent, hold_s=step.hold_s) for step in course.steps],
        gates=map(str, course.gates or ("none",)),
        min_outcomes=course.min_outcomes,
        min_reporters=course.min_reporters,
        on_gate_missing=course.on_gate_missing,
    )


def course_from_message(message: pb.Course, usual: Course) -> Course:
    """A course; what is empty in it is as usual. The gate `none` stands for no gate at all.

    Invalid lists every step and gate that is none.
    """
    faults: list[Fault] = []
    steps = tuple(_each(faults, "steps", message.steps, lambda s: Step(s.percent, s.hold_s)))
    gates = tuple(
        _each(faults, "gates", [text for text in message.gates if text != "none"], Gate.parse)
    )
    if faults:
        raise Invalid(faults)
    return Course(
        steps or usual.steps,
        gates if message.gates else usual.gates,
        message.min_outcomes or usual.min_outcomes,
        message.min_reporters or usual.min_reporters,
        chosen(OnMissing, message.on_gate_missing, usual.on_gate_missing),
    )


def _each(
    faults: list[Fault], where: str, parts: Iterable[P], make: Callable[[P], T]
) -> Iterator[T]:
    """What can be made of parts; the faults of the others are added."""
    for part in parts:
        try:
            yield make(part)
        except Invalid as error:
            faults.extend(replace(f, where=f"{where}.{f.where}".strip(".")) for f in error.faults)


def scope_to_message(scope: Scope) -> pb.Scope:
    """A scope as it is stored and sent."""
    return pb.Scope(pops=scope.pops, ranges=scope.ranges)


def scope_from_message(message: pb.Scope) -> Scope:
    """A scope; each name once, in order."""
    return Scope(tuple(sorted(set(message.pops))), tuple(sorted(set(message.ranges))))


def rollout_to_message(rollout: Rollout) -> pb.Rollout:
    """A rollout as it is stored and sent."""
    return pb.Rollout(
        name=rollout.name,
        service=rollout.service,
        to=rollout.to.text,
        course=course_to_message(rollout.course),
        scope=scope_to_message(rollout.scope),
        phase=rollout.phase,
        step=rollout.step,
        held_s=rollout.held_s,
        order=rollout.order,
        reason=rollout.reason,
        figures=rollout.figures,
        author=rollout.author,
        began_unix_s=rollout.began_unix_s,
        changed_unix_s=rollout.changed_unix_s,
    )


def rollout_from_message(message: pb.Rollout) -> Rollout:
    """A rollout as it was stored or sent."""
    return Rollout(
        message.name,
        message.service,
        Version(message.to),
        course_from_message(message.course, Course()),
        scope_from_message(message.scope),
        chosen(Phase, message.phase, Phase.RUNNING),
        message.step,
        message.held_s,
        message.order,
        message.reason,
        tuple(message.figures),
        message.author,
        message.began_unix_s,
        message.changed_unix_s,
    )


def experiment_to_message(experiment: Experiment) -> pb.Experiment:
    """An experiment as it is stored and sent."""
    return pb.Experiment(
        name=experiment.name,
        service=experiment.service,
        arms=[
            pb.ExperimentArm(name=arm.name, selector=str(arm.selector), percent=arm.percent)
            for arm in experiment.arms
        ],
        scope=scope_to_message(experiment.scope),
        order=experiment.order,
        author=experiment.author,
        began_unix_s=experiment.began_unix_s,
    )


def experiment_from_message(message: pb.Experiment) -> Experiment:
    """An experiment as it was stored or sent."""
    arms = tuple(
        ExperimentArm(arm.name, parse_selector(arm.selector), arm.percent) for arm in message.arms
    )
    return Experiment(
        message.name,
        message.service,
        arms,
        scope_from_message(message.scope),
        message.order,
        message.author,
        message.began_unix_s,
    )
