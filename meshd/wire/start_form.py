"""The form in which a rollout is asked for, by flags or JSON, and the request it stands for."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
)

from meshd.core.errors import Fault, Invalid
from meshd.core.gates import Gate
from meshd.core.model import Prefix
from meshd.core.release import Course, steps_of
from meshd.core.selector import Version
from meshd.core.valid import label, one_line, require
from meshd.v1 import records_pb2, rollout_pb2
from meshd.wire.forms import Seconds, Strings
from meshd.wire.rollout_form import percents

_WORDS = {
    "missing": "is missing",
    "extra_forbidden": "is not known here",
    "string_type": "must be text",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
}


def _number_as_text(value: Any) -> Any:
    """JSON has numbers where documents have none: seconds."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return f"{value}" if is_number else value


def _checked(value: str, make: Any) -> str:
    """A text that can be read as what it stands for."""
    try:
        make(value)
    except Invalid as error:
        raise ValueError(error.faults[0].what) from None
    return value


def _version(value: str) -> str:
    return _checked(value, Version)


def _gate(value: str) -> str:
    return value if value == "none" else _checked(value, Gate.parse)


def _name(value: str) -> str:
    return _checked(value, lambda text: require(label(text)))


def _line(value: str) -> str:
    if not one_line(value, 128):
        raise ValueError("must be at most 128 printable characters")
    return value


def _prefix(value: str) -> str:
    return _checked(value, Prefix.parse)


def _rising(value: list[float]) -> list[float]:
    try:
        Course(steps_of(tuple(value), 0))
    except Invalid as error:
        raise ValueError(error.faults[0].what) from None
    return value


_Percents = Annotated[list[float], BeforeValidator(percents), AfterValidator(_rising)]
_Duration = Annotated[Seconds, BeforeValidator(_number_as_text)]
_Name = Annotated[str, AfterValidator(_name)]
_Gates = Annotated[Strings, AfterValidator(lambda values: list(map(_gate, values)))]
_Names = Annotated[Strings, AfterValidator(lambda values: list(map(_name, values)))]
_Prefixes = Annotated[Strings, AfterValidator(lambda values: list(map(_prefix, values)))]


class StartForm(BaseModel):
    """{service, version, id, steps, every, gates, ..., pops, ranges}; what is absent is as usual.

    The gate `none`, or an empty list, stands for no gate at all.
    """

    model_config = ConfigDict(extra="forbid")

    service: _Name
    version: Annotated[str, AfterValidator(_version)]
    id: _Name | None = None
    steps: _Percents | None = None
    every: _Duration | None = None
    gates: _Gates | None = None
    min_outcomes: int | None = Field(None, ge=1, le=10_000_000)
    min_reporters: int | None = Field(None, ge=1, le=10_000)
    on_gate_missing: Literal["wait", "fail"] | None = None
    pops: _Names = []
    ranges: _Prefixes = []
    author: Annotated[str, AfterValidator(_line)] = ""

    @property
    def wants_usual(self) -> bool:
        """True if its steps are half told: the service's course has the other half."""
        return (self.steps is None) != (self.every is None)

    def request(self, usual: Course | None = None) -> rollout_pb2.StartRequest:
        """The request, with the course that the service has."""
        return rollout_pb2.StartRequest(
            service=self.service,
            to=self.version,
            id=self.id or "",
            course=self._course(usual or Course()),
            scope=records_pb2.Scope(pops=self.pops, ranges=self.ranges),
            author=self.author,
        )

    def _course(self, usual: Course) -> records_pb2.Course:
        gates = self.gates if self.gates is None or self.gates else ["none"]
        return records_pb2.Course(
            steps=self._steps(usual),
            gates=gates,
            min_outcomes=self.min_outcomes,
            min_reporters=self.min_reporters,
            on_gate_missing=self.on_gate_missing,
        )

    def _steps(self, usual: Course) -> list[records_pb2.Step]:
        """None if nothing is told of them."""
        if self.steps is None and self.every is None:
            return []
        told = self.steps or [step.percent for step in usual.steps]
        hold_s = usual.steps[0].hold_s if self.every is None else self.every
        return [records_pb2.Step(percent=percent, hold_s=hold_s) for percent in told]


def read_start(given: Mapping[str, Any]) -> StartForm:
    """A form that is right in itself; Invalid lists every fault."""
    try:
        return StartForm.model_validate(given)
    except ValidationError as error:
        raise Invalid(
            Fault(".".join(map(str, found["loc"])), _WORDS.get(found["type"]) or _said(found))
            for found in error.errors()
        ) from None


def _said(found: Any) -> str:
    said: str = found["msg"].removeprefix("Value error, ")
    return said
