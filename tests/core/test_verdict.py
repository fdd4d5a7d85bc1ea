"""What probes make of an instance: the table as stories, a dumb twin, and flapping targets."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.core.model import Check
from meshd.core.verdict import Probed, Verdict, is_turning, judge

EVERY_S = 2.0
CALM = float("-inf")
OUT = (Verdict.DOWN, Verdict.RECOVERING)


def check(rise: int = 2, fall: int = 3) -> Check:
    return Check("tcp", every_s=EVERY_S, rise=rise, fall=fall)


def story(begin: Probed, results: str, rule: Check, every_s: float = 1000.0) -> list[Verdict]:
    """The verdict after each probe: `+` passed, `-` failed."""
    probed, seen = begin, []
    for number, result in enumerate(results):
        probed = judge(probed, result == "+", rule, number * every_s)
        seen.append(probed.verdict)
    return seen


SHORT = {"u": Verdict.UP, "f": Verdict.FAILING, "d": Verdict.DOWN, "r": Verdict.RECOVERING}


@pytest.mark.parametrize(
    ("begin", "results", "verdicts"),
    [
        # Up: three failures in a row are down, fewer are not.
        ("u", "+++", "uuu"),
        ("u", "--+", "ffu"),
        ("u", "---", "ffd"),
        ("u", "--+--+", "ffuffu"),
        # Down: two passes in a row are up; one is not, and a failure begins anew.
        ("d", "--", "dd"),
        ("d", "++", "ru"),
        ("d", "+-++", "rdru"),
        ("d", "-+-+-", "drdrd"),
        # The whole way and back.
        ("u", "---++---", "ffdruffd"),
    ],
)
def test_the_table(begin: str, results: str, verdicts: str) -> None:
    """Probes far apart, so that nothing is damped; rise 2, fall 3."""
    held = Probed(SHORT[begin], passed=begin == "u", row=1, is_fresh=False)
    assert story(held, results, check()) == [SHORT[letter] for letter in verdicts]


@pytest.mark.parametrize(
    ("begin", "results", "verdicts"),
    [
        # A newcomer, or one that was down when this core stopped: the first probe decides.
        ("r", "+", "u"),
        ("r", "-", "d"),
        ("d", "+", "u"),
        ("d", "-", "d"),
        # One that was up is not out for one lost packet after a start.
        ("u", "-", "f"),
        ("u", "---", "ffd"),
        ("u", "+", "u"),
        ("f", "+", "u"),
        ("f", "--", "ff"),
    ],
)
def test_the_first_result(begin: str, results: str, verdicts: str) -> None:
    seen = story(Probed(SHORT[begin], passed=begin == "u"), results, check())
    assert seen == [SHORT[letter] for letter in verdicts]


def test_one_of_each_decides_at_once_where_the_check_says_so() -> None:
    held = Probed(is_fresh=False)
    assert story(held, "-+-", check(rise=1, fall=1)) == [Verdict.DOWN, Verdict.UP, Verdict.DOWN]


class Twin:
    """The rules said again, without a table: it keeps everything and counts it each time."""

    def __init__(self, rule: Check) -> None:
        self.rule = rule
        self.results: list[bool] = []
        self.verdict = Verdict.UP
        self.changes: list[float] = []

    def judge(self, passed: bool, now: float) -> Verdict:
        self.results.append(passed)
        row = 0
        while row < len(self.results) and self.results[-1 - row] == passed:
            row += 1
        was_up = self.verdict is Verdict.UP
        if not passed:
            if row >= self.rule.fall or self.verdict in OUT:
                self.verdict = Verdict.DOWN
            else:
                self.verdict = Verdict.FAILING
        elif not was_up:
            ready = self.verdict not in OUT
            if (ready or row >= self.rule.rise) and self._has_room(now):
                self.verdict = Verdict.UP
            elif not ready:
                self.verdict = Verdict.RECOVERING
        if was_up != (self.verdict is Verdict.UP):
            self.changes.append(now)
        return self.verdict

    def _has_room(self, now: float) -> bool:
        """Two more changes now would leave no stretch of time with more than 3 + length/30."""
        kept = [*self.changes, now, now]
        return all(len(kept) - first <= 3 + (now - kept[first]) / 30 for first in range(len(kept)))


@given(
    st.integers(1, 4),
    st.integers(1, 4),
    # Quarters of a second are exact in floats: the two must agree to the last bit.
    st.lists(st.tuples(st.booleans(), st.integers(1, 240)), max_size=120),
)
def test_judge_is_its_twin(rise: int, fall: int, probes: Sequence[tuple[bool, int]]) -> None:
    rule = check(rise, fall)
    probed, twin, now = Probed(is_fresh=False), Twin(rule), 0.0
    for passed, quarters in probes:
        now += quarters / 4
        probed = judge(probed, passed, rule, now)
        assert probed.verdict is twin.judge(passed, now)


def changes_of(period_s: float, shift_s: float, rule: Check, *, ready: bool) -> list[float]:
    """When a target that toggles each `period_s` changed (to or from up, or ready), in 20 min."""
    probed, changes, now = Probed(is_fresh=False), [], 0.0
    while now < 1200:
        before = probed.verdict
        passed = int((now + shift_s) / period_s) % 2 == 0
        probed = judge(probed, passed, rule, now)
        if ready:
            has_changed = before.is_ready != probed.verdict.is_ready
        else:
            has_changed = (before is Verdict.UP) != (probed.verdict is Verdict.UP)
        if has_changed:
            changes.append(now)
        now += EVERY_S
    return changes


@pytest.mark.parametrize("rule", [check(), check(1, 1), check(1, 3), check(3, 1)])
def test_a_flapping_target_changes_answers_at_most_every_30_s(rule: Check) -> None:
    """Each period from 1 to 60 s: at most three changes at once, then one each 30 s."""
    most = 0
    for period_s in range(1, 61):
        for shift_s in (0.0, 0.5, period_s / 2):
            for ready in (True, False):
                changes = changes_of(period_s, shift_s, rule, ready=ready)
                for first, began in enumerate(changes):
                    for last, ended in enumerate(changes[first:], start=first):
                        allowed = 3 + (ended - began) / 30
                        assert last - first + 1 <= allowed, (period_s, shift_s, changes)
                most = max(most, len(changes))
    # It is the limit that was tested, not a target that never changed.
    assert most >= 30


def test_what_flapped_and_is_calm_comes_up() -> None:
    probed, now = Probed(is_fresh=False), 0.0
    for number in range(40):
        probed = judge(probed, number % 2 == 0, check(1, 1), now)
        now += EVERY_S
    assert probed.verdict in OUT
    until = probed.damped_until()
    assert now < until <= now + 60
    while now < until:
        probed = judge(probed, True, check(1, 1), now)
        assert probed.verdict is (Verdict.RECOVERING if now < until else Verdict.UP)
        now += EVERY_S
    assert judge(probed, True, check(1, 1), now).verdict is Verdict.UP


def test_what_is_down_is_never_kept_up() -> None:
    """Damping holds back coming up only: the fall-th failure is down, however often it came."""
    probed, now = Probed(is_fresh=False), 0.0
    for _ in range(20):
        for result in "++++---":
            probed = judge(probed, result == "+", check(), now)
            now += EVERY_S
        assert probed.verdict is Verdict.DOWN


def test_what_may_turn() -> None:
    """Between the first surprise and the verdict, and not while damping holds it."""
    probed, now, seen = Probed(is_fresh=False), 0.0, []
    for result in "+---++++-+":
        probed = judge(probed, result == "+", check(), now)
        seen.append(is_turning(probed, check()))
        now += EVERY_S
    assert seen == [False, True, True, False, True, False, False, False, True, False]
    # The last one: it changed four times, stays failing, and more passes do not hurry that.
    assert probed.verdict is Verdict.FAILING
