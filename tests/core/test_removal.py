"""How much of a service may go at once: the budget, its order, and what waits."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshd.core.removal import WINDOW_S, Gone, budget, removals

NOBODY: dict[str, float] = {}


def out(found: dict[str, Gone]) -> set[str]:
    """Who was let through."""
    return {name for name, gone in found.items() if gone.out_at is not None}


@pytest.mark.parametrize(
    ("share", "members", "allowed"),
    [(0.5, 4, 2), (0.5, 5, 3), (0.5, 1, 1), (0.01, 3, 1), (1.0, 7, 7), (0.34, 3, 2), (0.5, 0, 1)],
)
def test_budget(share: float, members: int, allowed: int) -> None:
    assert budget(share, members) == allowed


def test_not_more_than_the_budget_within_a_minute() -> None:
    down = ["a", "b", "c", "d"]
    first = removals(down, {}, 2, NOBODY, 100.0)
    assert out(first) == {"a", "b"}
    assert out(removals(down, first, 2, NOBODY, 100.0 + WINDOW_S - 0.1)) == {"a", "b"}
    later = removals(down, first, 2, NOBODY, 100.0 + WINDOW_S)
    assert out(later) == set(down)
    assert later["c"] == Gone(100.0, 100.0 + WINDOW_S)


def test_who_went_first_is_let_through_first() -> None:
    before = removals(["x"], {}, 1, NOBODY, 0.0)
    before = removals(["x", "z"], before, 1, NOBODY, 1.0)
    before = removals(["x", "z", "a", "b"], before, 1, NOBODY, 2.0)
    assert out(before) == {"x"}
    before = removals(["x", "z", "a", "b"], before, 1, NOBODY, 60.0)
    assert out(before) == {"x", "z"}
    assert out(removals(["x", "z", "a", "b"], before, 1, NOBODY, 120.0)) == {"x", "z", "a"}


def test_who_comes_back_frees_the_budget() -> None:
    before = removals(["a", "b", "c"], {}, 2, NOBODY, 0.0)
    assert out(before) == {"a", "b"}
    after = removals(["b", "c"], before, 2, NOBODY, 1.0)
    assert out(after) == {"b", "c"}
    assert "a" not in after


def test_who_may_be_lost_by_the_store_waits_and_does_not_block() -> None:
    wait = {"a": 30.0}
    before = removals(["a", "b"], {}, 2, wait, 0.0)
    assert out(before) == {"b"}
    assert out(removals(["a", "b"], before, 2, wait, 29.9)) == {"b"}
    assert out(removals(["a", "b"], before, 2, wait, 30.0)) == {"a", "b"}


def test_a_pop_of_a_third_may_go_at_once() -> None:
    pop = [f"eu-{n}" for n in range(4)]
    assert out(removals(pop, {}, budget(0.5, 12), NOBODY, 0.0)) == set(pop)


def test_of_all_the_last_ones_are_held() -> None:
    everyone = [f"i{n}" for n in range(6)]
    found = removals(everyone, {}, budget(0.5, 6), NOBODY, 0.0)
    assert out(found) == {"i0", "i1", "i2"}
    assert set(found) == set(everyone)


names = st.sets(st.sampled_from("abcdefgh"))
steps = st.lists(st.tuples(names, st.floats(0, 40)), max_size=20)


@settings(deadline=None)
@given(steps, st.integers(1, 4), st.dictionaries(st.sampled_from("abcdefgh"), st.floats(0, 200)))
def test_recent_removals_never_exceed_the_budget(
    story: list[tuple[set[str], float]], allowed: int, wait: dict[str, float]
) -> None:
    found: dict[str, Gone] = {}
    now = 0.0
    for down, passed in story:
        now += passed
        before, found = found, removals(down, found, allowed, wait, now)
        assert set(found) == down
        # Nobody is held who could go, and who went stays so.
        let_through = [gone.out_at for gone in found.values() if gone.out_at is not None]
        recent = [at for at in let_through if now - at < WINDOW_S]
        assert len(recent) <= allowed
        held = down - out(found)
        assert all(wait.get(name, 0.0) > now for name in held) or len(recent) == allowed
        assert {name for name in out(before) if name in down} <= out(found)
        assert all(wait.get(name, 0.0) <= now for name in out(found) - out(before))
