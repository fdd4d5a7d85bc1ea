"""The judge of fault tests: it sees what is wrong, and nothing where all is right."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.docker.history import (
    STRICT,
    Answer,
    Fault,
    Outcome,
    Report,
    Rules,
    Write,
    audit_faults,
    judge,
    longest_pause_s,
)

OK, REFUSED, UNKNOWN = Outcome.ACKNOWLEDGED, Outcome.REFUSED, Outcome.UNKNOWN


def write(number: int, began: float, outcome: Outcome = OK, took: float = 0.1) -> Write:
    addresses = frozenset({f"10.0.0.{number}", f"10.0.1.{number}"})
    return Write("api", addresses, began, began + took, outcome)


def answer(number: int, asked: float, way: str = "udp", took: float = 0.01) -> Answer:
    addresses = (f"10.0.1.{number}", f"10.0.0.{number}")
    return Answer(way, "api", asked, asked + took, "NOERROR", addresses, 5)


def failed(rcode: str, asked: float) -> Answer:
    return Answer("udp", "api", asked, asked + 0.01, rcode)


# The second is there at 10.1, the third at 20.1.
WRITES = [write(1, 0), write(2, 10), write(3, 20)]


def complaints(answers: Sequence[Answer], *faults: Fault, rules: Rules = STRICT) -> list[str]:
    found = judge(WRITES, answers, faults, rules).complaints
    return [each.split(": ", 1)[1] for each in found]


def test_answers_in_time_are_right() -> None:
    # The second from when it is begun, the first until a second after it was acknowledged.
    answers = [answer(1, 1), answer(2, 10.0), answer(1, 11.0), answer(2, 12), answer(3, 20.05)]
    assert complaints(answers) == []


def test_an_answer_that_is_too_old() -> None:
    (found,) = complaints([answer(1, 1), answer(1, 11.2), answer(2, 12)])
    assert found == "1.100 s behind: 10.0.1.1,10.0.0.1"


@pytest.mark.parametrize(
    ("wrong", "what"),
    [
        (failed("NXDOMAIN", 5), "NXDOMAIN for a name that exists"),
        (failed("REFUSED", 5), "REFUSED for a name that exists"),
        (failed("NOERROR", 5), "empty, though the name has addresses"),
        (failed("SERVFAIL", 5), "SERVFAIL"),
        (failed("timeout", 5), "no reply"),
        (answer(9, 5), "no set that was ever written: 10.0.1.9,10.0.0.9"),
        (answer(2, 9), "answered before it was written: 10.0.1.2,10.0.0.2"),
        (replace(answer(1, 5), ttl_s=0), "a TTL of 0"),
        (replace(answer(1, 5), ttl_s=61), "a TTL of 61"),
        (
            replace(answer(1, 5), addresses=("10.0.0.1",)),
            "no set that was ever written: 10.0.0.1",
        ),
        (
            replace(answer(1, 5), addresses=("10.0.0.1", "10.0.1.2")),
            "no set that was ever written: 10.0.0.1,10.0.1.2",
        ),
        (
            replace(answer(1, 5), addresses=("10.0.0.1", "10.0.0.1", "10.0.1.1")),
            "no set that was ever written: 10.0.0.1,10.0.0.1,10.0.1.1",
        ),
    ],
)
def test_what_no_answer_may_be(wrong: Answer, what: str) -> None:
    assert complaints([answer(1, 1), wrong, answer(3, 21)]) == [what]


def test_a_write_that_was_refused() -> None:
    writes = [write(1, 0), write(2, 10, REFUSED)]
    (found,) = judge(writes, [answer(1, 20), answer(2, 21)]).complaints
    assert "a write that was refused" in found


def test_a_write_of_unknown_outcome_may_come_or_not() -> None:
    writes = [write(1, 0), write(2, 10, UNKNOWN), write(3, 40)]
    assert judge(writes, [answer(1, 20), answer(1, 39)]).complaints == ()
    assert judge(writes, [answer(1, 20), answer(2, 39)]).complaints == ()
    # Once it was seen, it is there.
    (found,) = judge(writes, [answer(1, 20), answer(2, 30), answer(1, 32)]).complaints
    assert "1.990 s behind" in found
    (found,) = judge(writes, [answer(2, 42)]).complaints
    assert "1.900 s behind" in found


def test_one_process_never_goes_back() -> None:
    answers = [answer(1, 10.2), answer(2, 10.4), answer(1, 10.6), answer(2, 10.8)]
    assert complaints(answers) == []
    single = Rules(single=frozenset({"udp"}))
    assert complaints(answers, rules=single) == ["went back to an older set"]
    # Asked at once: either may have been answered first.
    at_once = [answer(2, 10.4), replace(answer(1, 10.405), answered=10.45)]
    assert complaints(at_once, rules=single) == []
    assert complaints([*at_once, answer(1, 10.5)], rules=single) == ["went back to an older set"]


FAULT = Fault(
    began=10, healed=15, settle_s=2, stale_s=6, stale=frozenset({"udp"}), fails=frozenset({"tcp"})
)


def test_what_a_fault_allows_while_it_lasts() -> None:
    after = [answer(2, 18), answer(2, 18, "tcp")]
    assert complaints([answer(1, 16), *after], FAULT) == []
    # Too old even for it; not one of its ways; it is over.
    assert complaints([answer(1, 16.5), *after], FAULT) == ["6.400 s behind: 10.0.1.1,10.0.0.1"]
    others = replace(FAULT, fails=frozenset())
    assert complaints([answer(1, 15, "tcp"), *after], others) != []
    assert complaints([answer(1, 17.5), *after], FAULT) != []
    assert complaints([answer(1, 11.5), *after], replace(FAULT, began=12)) != []
    lost = Answer("tcp", "api", 12, 14, "timeout")
    assert complaints([lost, *after], FAULT) == []
    assert complaints([replace(lost, way="udp"), *after], FAULT) == ["no reply"]
    assert complaints([replace(lost, rcode="NXDOMAIN"), *after], FAULT) != []


def test_what_was_away_begins_with_what_is_on_its_disk() -> None:
    rules = Rules(single=frozenset({"tcp"}))
    answers = [answer(2, 10.5, "tcp"), answer(1, 15, "tcp"), answer(2, 18, "tcp")]
    assert complaints(answers, FAULT, rules=rules) == []
    assert complaints(answers, replace(FAULT, fails=frozenset()), rules=rules) != []
    late = [*answers, answer(1, 19, "tcp")]
    assert "went back to an older set" in complaints(late, FAULT, rules=rules)


def test_how_long_it_took_to_converge() -> None:
    answers = [answer(1, 12), answer(1, 15.5), answer(2, 15.6), answer(2, 18)]
    assert judge(WRITES, answers, [FAULT]).converged_s == pytest.approx(0.51)


def test_ways_that_nobody_watched() -> None:
    (found,) = complaints([answer(1, 12), answer(2, 16)], FAULT)
    assert found == "not asked after everything had to be well again"


def test_tallies() -> None:
    answers = [answer(1, 1), answer(1, 11, "tcp"), failed("timeout", 12), failed("SERVFAIL", 12),
               failed("NXDOMAIN", 12), failed("NOERROR", 12)]  # fmt: skip
    total = judge(WRITES, answers).total
    assert (total.asked, total.lost, total.servfail) == (6, 1, 1)
    assert (total.nxdomain, total.empty) == (1, 1)
    assert total.stale_s == pytest.approx(0.9)


def test_the_audit_has_each_write_once() -> None:
    outcomes = {"a": OK, "b": REFUSED, "c": UNKNOWN, "d": UNKNOWN}
    assert audit_faults(outcomes, ["a", "c", "other"]) == []
    assert audit_faults(outcomes, ["c"]) == ["a: acknowledged, 0 times in the audit"]
    assert audit_faults(outcomes, ["a", "a"]) == ["a: acknowledged, 2 times in the audit"]
    assert audit_faults(outcomes, ["a", "b"]) == ["b: refused, 1 times in the audit"]
    assert audit_faults(outcomes, ["a", "d", "d"]) == ["d: unknown, 2 times in the audit"]


def test_the_longest_pause() -> None:
    writes = [write(1, 0), write(2, 3), write(3, 5, REFUSED), write(4, 6, UNKNOWN), write(5, 9)]
    assert longest_pause_s(writes) == pytest.approx(6)
    assert longest_pause_s(writes[:1]) == 0


LAG_S = 1.0


@st.composite
def runs(draw: st.DrawFn) -> tuple[list[Write], list[Answer]]:
    """Writes as they come, and what copies that lag by less than is allowed answer to questions."""
    writes = []
    there: list[float] = []
    now = 0.0
    for number in range(draw(st.integers(1, 8))):
        outcome = OK if number == 0 else draw(st.sampled_from([OK, OK, OK, REFUSED, UNKNOWN]))
        took = draw(st.floats(0.01, 2))
        made = write(number, now, outcome, took)
        writes.append(made)
        is_there = outcome is OK or (outcome is UNKNOWN and draw(st.booleans()))
        there.append(now + took * draw(st.floats(0, 1)) if is_there else float("inf"))
        now += took + draw(st.floats(0, 3))
    answers = []
    for way in ("udp", "tcp"):
        shown = 0
        for asked in sorted(draw(st.lists(st.floats(3, now + 5), max_size=30))):
            at = asked - draw(st.floats(0, LAG_S))
            held = max((n for n, since in enumerate(there) if since <= at), default=0)
            shown = max(held, shown)
            answers.append(answer(shown, asked, way, took=0.0))
    return writes, answers


def verdict(writes: Sequence[Write], answers: Sequence[Answer]) -> Report:
    return judge(writes, answers, rules=Rules(LAG_S, single=frozenset({"udp", "tcp"})))


@given(runs())
def test_what_honest_copies_answer_is_right(run: tuple[list[Write], list[Answer]]) -> None:
    assert verdict(*run).complaints == ()


@given(runs(), st.integers(0, 7), st.floats(0, 30))
def test_one_answer_is_complained_of_if_it_is_too_old(
    run: tuple[list[Write], list[Answer]], number: int, asked: float
) -> None:
    """Against the rule in its plainest form, for one more answer of another way."""
    writes, answers = run
    number = number % len(writes)
    more = answer(number, asked, "other", took=0.0)
    seen = [
        min([held.ended] * (held.outcome is OK)
            + [each.answered for each in [*answers, more]
               if frozenset(each.addresses) == held.addresses], default=float("inf"))
        for held in writes
    ]  # fmt: skip
    is_wrong = (
        writes[number].outcome is REFUSED
        or asked < writes[number].began
        or any(since < asked - LAG_S for since in seen[number + 1 :])
    )
    judged = judge(writes, [*answers, more], rules=Rules(LAG_S))
    assert any(" other api" in each for each in judged.complaints) == is_wrong
