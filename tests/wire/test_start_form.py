"""How a rollout is asked for: what the form takes, what it stands for, what it refuses."""

import pytest

from meshd.core.errors import Invalid
from meshd.core.gates import Gate, Measure
from meshd.core.release import Course, OnMissing, Step, steps_of
from meshd.wire.release_messages import course_from_message
from meshd.wire.start_form import read_start

WHO = {"service": "api", "version": "1.3.0"}


def test_nothing_is_told_but_whom_and_what() -> None:
    request = read_start(WHO).request()
    assert (request.service, request.to, request.id, request.author) == ("api", "1.3.0", "", "")
    usual = Course(steps_of((50, 100), 7), (), 5, 6, OnMissing.FAIL)
    assert course_from_message(request.course, usual) == usual
    assert not request.scope.pops and not request.scope.ranges


def test_all_of_it() -> None:
    request = read_start(
        WHO
        | {"id": "build-7", "steps": "1, 5%,100", "every": "2m", "gates": ["p99<=1.2x"]}
        | {"min_outcomes": 20, "min_reporters": 3, "on_gate_missing": "fail", "author": "ci"}
        | {"pops": ["eu"], "ranges": ["10.1.0.0/16"]}
    ).request()
    course = course_from_message(request.course, Course())
    assert course == Course(
        (Step(1, 120), Step(5, 120), Step(100, 120)),
        (Gate(Measure.SLOWER, 1.2, 0.99),),
        20,
        3,
        OnMissing.FAIL,
    )
    assert (request.id, request.author) == ("build-7", "ci")
    assert (list(request.scope.pops), list(request.scope.ranges)) == (["eu"], ["10.1.0.0/16"])


@pytest.mark.parametrize("every", ["90s", 90, 90.0, "1.5m"])
def test_what_is_half_told_of_steps_is_as_the_service_has_it(every: object) -> None:
    usual = Course(steps_of((20, 100), 7))
    half = read_start(WHO | {"every": every})
    assert half.wants_usual
    assert course_from_message(half.request(usual).course, usual).steps == steps_of((20, 100), 90)
    half = read_start(WHO | {"steps": [10, 100]})
    assert half.wants_usual
    assert course_from_message(half.request(usual).course, usual).steps == steps_of((10, 100), 7)
    for told in ({}, {"steps": [100], "every": every}):
        assert not read_start(WHO | told).wants_usual


@pytest.mark.parametrize("gates", [[], ["none"], "none"])
def test_no_gates_is_not_the_usual_gates(gates: object) -> None:
    request = read_start(WHO | {"gates": gates}).request()
    assert course_from_message(request.course, Course()).gates == ()


def test_every_fault_is_listed() -> None:
    wrong = {
        "version": "new",
        "id": "Build 7",
        "steps": [50, 10],
        "every": "soon",
        "gates": ["success>=99%", "fast"],
        "min_outcomes": 0,
        "min_reporters": "many",
        "on_gate_missing": "panic",
        "pops": ["eu", "E U"],
        "ranges": ["10.1.0.1/16"],
        "author": "me\n",
        "stepz": 1,
    }
    with pytest.raises(Invalid) as refused:
        read_start(wrong)
    said = [str(fault) for fault in refused.value.faults]
    expected = [
        ("service", "is missing"),
        ("version", "'new' is not a version"),
        ("id", "lower-case"),
        ("steps", "must rise, and end at 100"),
        ("every", "'soon' is not a duration"),
        ("gates", "'fast' is no gate"),
        ("min_outcomes", "greater than or equal to 1"),
        ("min_reporters", "must be a whole number"),
        ("on_gate_missing", "'wait' or 'fail'"),
        ("pops", "'E U'"),
        ("ranges", "10.1.0.1/16"),
        ("author", "printable"),
        ("stepz", "is not known here"),
    ]
    assert len(said) == len(expected), said
    for line, (where, what) in zip(said, expected, strict=True):
        assert line.startswith(where) and what in line, line


@pytest.mark.parametrize("steps", [[1, 200], [0, 100], ["x"], [], True, {"a": 1}])
def test_steps_that_are_none(steps: object) -> None:
    with pytest.raises(Invalid):
        read_start(WHO | {"steps": steps})
