"""The state machine of rollouts: forward, back, by hand, and what may never happen."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.core import rollout as machine
from meshd.core.errors import Conflict, Invalid, Refused
from meshd.core.evidence import Evidence, Seen, Side, Whence
from meshd.core.gates import Gate
from meshd.core.model import Port, Service
from meshd.core.release import Course, OnMissing, OnNew, Phase, Rollout, Scope, Step, steps_of
from meshd.core.selector import Version

NEW, OLD = Version("1.3.0"), Version("1.2.0")
COURSE = Course(steps_of((1, 5, 100), 10.0), (Gate.parse("success>=99%"),), 100, 2)
ROLLOUT = Rollout("api-1", "api", NEW, COURSE)


def evidence(attempts: float = 1000, failed: float = 0) -> Evidence:
    part = Seen(attempts / 4, failed / 4)
    return Evidence(Side.of({Whence(str(n), "eu"): part for n in range(4)}))


GOOD, BAD, NONE = evidence(), evidence(failed=100), Evidence()


def test_all_the_way() -> None:
    rollout = ROLLOUT
    seen = []
    while not rollout.phase.is_over:
        assert machine.advanced(rollout, GOOD, 9.9, 1) is None
        after = machine.advanced(rollout, GOOD, 10, 2)
        assert after is not None
        rollout = after
        seen.append((rollout.phase.value, rollout.percent, rollout.held_s))
    assert seen == [("running", 5, 0), ("running", 100, 0), ("done", 100, 0)]
    assert rollout.figures == ("success>=99%: pass, 100.00% succeed, 1000 outcomes of 4 reporters",)
    assert rollout.changed_unix_s == 2


@pytest.mark.parametrize("step", [0, 1, 2])
def test_a_broken_gate_rolls_back_at_once_and_says_why(step: int) -> None:
    after = machine.advanced(replace(ROLLOUT, step=step), BAD, 0.0, 1)
    assert after is not None
    assert (after.phase, after.percent, after.step) == (Phase.ROLLED_BACK, 0, step)
    percent = COURSE.steps[step].percent
    assert after.reason == (
        f"rolled back at {percent:g} %: gate success>=99%: fail, 90.00% succeed,"
        " 1000 outcomes of 4 reporters"
    )


def test_what_cannot_be_judged_waits_or_fails() -> None:
    assert machine.advanced(ROLLOUT, NONE, 1e6, 1) is None
    unsure = evidence(failed=13)
    assert machine.advanced(ROLLOUT, unsure, 1e6, 1) is None
    strict = replace(ROLLOUT, course=replace(COURSE, on_gate_missing=OnMissing.FAIL))
    assert machine.advanced(strict, NONE, 9.9, 1) is None
    for seen in (NONE, unsure):
        after = machine.advanced(strict, seen, 10, 1)
        assert after is not None
        assert after.phase is Phase.ROLLED_BACK
        assert "when the time of its step was over" in after.reason


def test_without_gates_time_alone_decides() -> None:
    bare = replace(ROLLOUT, course=replace(COURSE, gates=()))
    assert machine.advanced(bare, BAD, 9, 1) is None
    after = machine.advanced(bare, BAD, 10, 1)
    assert after is not None
    assert after.percent == 5


def test_by_hand() -> None:
    paused = machine.paused(ROLLOUT, 4.5, "lunch", 1)
    assert (paused.phase, paused.percent, paused.held_s) == (Phase.PAUSED, 1, 4.5)
    assert paused.reason == "paused: lunch"
    assert machine.advanced(paused, BAD, 1e6, 1) is None
    resumed = machine.resumed(paused, "", 1)
    assert (resumed.phase, resumed.held_s) == (Phase.RUNNING, 4.5)
    promoted = machine.promoted(paused, "", 1)
    assert (promoted.phase, promoted.step, promoted.held_s) == (Phase.RUNNING, 1, 0)
    assert machine.promoted(replace(ROLLOUT, step=2), "", 1).phase is Phase.DONE
    assert machine.promoted(replace(ROLLOUT, phase=Phase.HELD), "", 1).percent == 1
    assert machine.finished(ROLLOUT, "", 1).percent == 100
    back = machine.rolled_back(paused, "no", 1)
    assert (back.phase, back.reason) == (Phase.ROLLED_BACK, "rolled back at 1 %: no")


@pytest.mark.parametrize("phase", [Phase.DONE, Phase.ROLLED_BACK])
def test_what_is_over_stays_so(phase: Phase) -> None:
    over = replace(ROLLOUT, phase=phase)
    assert machine.advanced(over, BAD, 1e6, 1) is None
    for what in ("pause", "resume", "promote", "finish", "back"):
        with pytest.raises(Refused, match=f"rollout api-1 is {phase}, not "):
            moved(over, what, BAD, 0)


def moved(rollout: Rollout, what: str, seen: Evidence, elapsed_s: float) -> Rollout:
    match what:
        case "tick":
            return machine.advanced(rollout, seen, elapsed_s, 1) or rollout
        case "pause":
            return machine.paused(rollout, elapsed_s, "", 1)
        case "resume":
            return machine.resumed(rollout, "", 1)
        case "promote":
            return machine.promoted(rollout, "", 1)
        case "finish":
            return machine.finished(rollout, "", 1)
    return machine.rolled_back(rollout, "", 1)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["tick", "pause", "resume", "promote", "finish", "back"]),
            st.sampled_from([GOOD, BAD, NONE]),
            st.floats(0, 30),
        ),
        max_size=30,
    )
)
def test_never_two_steps_nor_back_but_to_nothing(
    moves: list[tuple[str, Evidence, float]],
) -> None:
    rollout = ROLLOUT
    for what, seen, elapsed_s in moves:
        before = rollout
        try:
            rollout = moved(rollout, what, seen, elapsed_s)
        except Refused:
            assert rollout == before
        if before.phase.is_over:
            assert rollout == before
        if what in ("tick", "promote"):
            assert rollout.step - before.step in (0, 1)
        if what in ("pause", "resume"):
            assert rollout.percent == before.percent
        assert rollout.percent >= before.percent or rollout.phase is Phase.ROLLED_BACK
        assert (rollout.name, rollout.to, rollout.order) == ("api-1", NEW, 1)


def test_beginning() -> None:
    wanted = replace(ROLLOUT, order=1)
    assert machine.begun([], wanted) == (wanted, True, None)
    # The same once more, however far it has come.
    moving = replace(ROLLOUT, step=1, order=1)
    assert machine.begun([moving], wanted) == (moving, False, None)
    with pytest.raises(Conflict, match="another one"):
        machine.begun([moving], replace(wanted, to=Version("1.4.0")))
    with pytest.raises(Refused, match=r"rollout api-1 of api to 1\.3\.0 is running"):
        machine.begun([moving], replace(wanted, name="api-2"))
    over = replace(moving, phase=Phase.ROLLED_BACK)
    made = machine.begun([over], replace(wanted, name="api-2"))
    assert (made.rollout.order, made.is_new) == (2, True)
    other = replace(moving, service="web", name="web-1")
    assert machine.begun([other], wanted).is_new


def test_one_that_is_held_begins() -> None:
    held = replace(ROLLOUT, phase=Phase.HELD, order=4)
    assert machine.begun([held], ROLLOUT) == (replace(ROLLOUT, order=5), True, None)
    made = machine.begun([held], replace(ROLLOUT, name="mine"))
    assert (made.rollout.name, made.is_new, made.replaced) == ("mine", True, held)
    with pytest.raises(Refused, match="is held"):
        machine.begun([held], replace(ROLLOUT, name="mine", to=Version("1.4.0")))


def test_history_is_bounded_and_keeps_the_baseline() -> None:
    done = replace(ROLLOUT, name="first", phase=Phase.DONE, order=1)
    back = [
        replace(ROLLOUT, name=f"b{n}", phase=Phase.ROLLED_BACK, order=n, to=Version(f"1.4.{n}"))
        for n in range(2, 40)
    ]
    gone = machine.over_and_done([done, *back], "api")
    assert len([done, *back]) - len(gone) == machine.KEPT
    assert done not in gone
    assert back[-1] not in gone
    assert machine.over_and_done([done, *back], "web") == []


def service(on_new: OnNew) -> Service:
    ports = (Port("http", 80),)
    return Service("api", "api.mesh.internal.", ports, on_new=on_new, course=COURSE)


def test_new_versions_by_policy() -> None:
    beta = Version("1.4.0-beta.1")
    assert machine.due(service(OnNew.FOLLOW), [], [OLD, NEW]) is None
    for on_new, phase in ((OnNew.HOLD, Phase.HELD), (OnNew.CANARY, Phase.RUNNING)):
        policy = service(on_new)
        assert machine.due(policy, [], []) is None
        first = machine.due(policy, [], [OLD, beta])
        assert first is not None
        assert (first.to, first.phase, first.percent) == (OLD, Phase.DONE, 100)
        assert machine.due(policy, [first], [OLD, beta]) is None
        after = machine.due(policy, [first], [OLD, NEW, beta])
        assert after is not None
        assert (after.to, after.phase, after.course) == (NEW, phase, COURSE)
        known = [first, replace(after, order=2)]
        assert machine.due(policy, known, [OLD, NEW, Version("2.0")]) is None
        # What was rolled back does not begin again.
        over = [first, replace(after, order=2, phase=Phase.ROLLED_BACK)]
        assert machine.due(policy, over, [OLD, NEW]) is None
        # Nor does it stop one below it that repairs what was wrong.
        between = machine.due(policy, over, [OLD, Version("1.2.1"), NEW])
        assert between is not None
        assert between.to == Version("1.2.1")
        later = machine.due(policy, over, [OLD, NEW, Version("1.3.1")])
        assert later is not None
        assert later.to == Version("1.3.1")
        assert len({first.name, after.name, later.name}) == 3


def test_ids_fit_into_a_label() -> None:
    long = "x" * 63
    assert Rollout(machine.default_id(long, NEW, []), long, NEW)
    assert machine.default_id("api", NEW, [ROLLOUT]) == "api-1-3-0-2"


def test_notes_change_no_answer() -> None:
    seen = machine.gates_of(ROLLOUT, NONE)
    noted = machine.noted(ROLLOUT, seen, 4.0)
    assert replace(noted, held_s=0.0, reason="", figures=()) == ROLLOUT
    assert noted.reason.startswith("6 s left; waits for success>=99%: missing")


@pytest.mark.parametrize(
    ("steps", "what"),
    [((5, 1, 100), "must rise"), ((1, 50), "end at 100"), ((), "1..50"), ((0, 100), "above 0")],
)
def test_steps_that_cannot_be(steps: tuple[float, ...], what: str) -> None:
    with pytest.raises(Invalid, match=what):
        Course(tuple(Step(percent, 1.0) for percent in steps))


def test_scopes_in_words() -> None:
    assert str(Scope()) == "all clients"
    assert str(Scope(("eu",), ("10.0.0.0/8",))) == "pop eu, range 10.0.0.0/8"


def test_all_in_a_scope_have_it_and_it_goes_no_further_by_itself() -> None:
    last = replace(ROLLOUT, scope=Scope(("eu",)), step=2)
    settled = machine.advanced(last, GOOD, 10, 1)
    assert settled is not None
    assert (settled.phase, settled.percent, settled.step) == (Phase.PAUSED, 100, 2)
    assert machine.is_settled(settled)
    for other in (
        last,
        machine.paused(last, 10, "all have it", 1),
        replace(settled, held_s=9),
        replace(settled, step=1),
        replace(settled, scope=Scope()),
        machine.promoted(settled, "", 1),
    ):
        assert not machine.is_settled(other)
