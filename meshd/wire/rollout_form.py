"""The forms in which a service's document says how its rollouts go, and rollouts are shown."""

from typing import Annotated, Any

from google.protobuf.json_format import MessageToDict
from pydantic import BaseModel, BeforeValidator, ConfigDict

from meshd.core.gates import Gate
from meshd.core.release import Course, OnMissing, Rollout, Step
from meshd.wire.forms import Seconds, Strings, as_list
from meshd.wire.release_messages import chosen, rollout_to_message

_USUAL = Course()


def percents(value: Any) -> Any:
    """[1, 5, 25] or "1,5,25", with or without percent signs."""
    parts = value.split(",") if isinstance(value, str) else as_list(value)
    return [part.strip().removesuffix("%") if isinstance(part, str) else part for part in parts]


class RolloutForm(BaseModel):
    """rollout: {steps, every, gates, min_outcomes, min_reporters, on_gate_missing}."""

    model_config = ConfigDict(extra="forbid")

    steps: Annotated[list[float], BeforeValidator(percents)] = [s.percent for s in _USUAL.steps]
    every: Seconds = _USUAL.steps[0].hold_s
    gates: Strings = list(map(str, _USUAL.gates))
    min_outcomes: int = _USUAL.min_outcomes
    min_reporters: int = _USUAL.min_reporters
    on_gate_missing: str = _USUAL.on_gate_missing

    def course(self) -> Course:
        """The course."""
        return Course(
            tuple(Step(percent, self.every) for percent in self.steps),
            tuple(map(Gate.parse, self.gates)),
            self.min_outcomes,
            self.min_reporters,
            chosen(OnMissing, self.on_gate_missing, OnMissing.WAIT),
        )


def course_entry(course: Course) -> dict[str, Any]:
    """A course as a document says it; steps of a document all last as long."""
    return {
        "steps": [step.percent for step in course.steps],
        "every": f"{course.steps[0].hold_s * 1000:.0f}ms",
        "gates": list(map(str, course.gates)),
        "min_outcomes": course.min_outcomes,
        "min_reporters": course.min_reporters,
        "on_gate_missing": str(course.on_gate_missing),
    }


def rollout_entry(rollout: Rollout) -> dict[str, Any]:
    """A rollout for programs: its record, and the share of clients that get its version."""
    made: dict[str, Any] = MessageToDict(
        rollout_to_message(rollout),
        preserving_proto_field_name=True,
        always_print_fields_with_no_presence=True,
    )
    return made | {"percent": rollout.percent}
