"""What an adaptive TTL is good for: less overload for the same number of questions."""

import pytest

from meshd.core.model import Ttl
from tests.simulation.scenes import ADAPTIVE, EVENING, FIXED, WEAKENS, evening
from tests.simulation.world import World, balanced


@pytest.mark.parametrize(("seed", "ttl"), [(1, FIXED), (2, Ttl(32, 32))])
def test_less_overload_for_the_same_questions(seed: int, ttl: Ttl) -> None:
    adaptive = World(evening(ADAPTIVE), balanced, seed).run(EVENING)
    fixed = World(evening(ttl), balanced, seed).run(EVENING)
    assert adaptive.questions == pytest.approx(fixed.questions, rel=0.02)
    ours, theirs = adaptive.overload(WEAKENS), fixed.overload(WEAKENS)
    print(f"overload {ours:.0f} against {theirs:.0f} instance-seconds,", end=" ")  # noqa: T201
    print(f"{adaptive.questions} questions against {fixed.questions}")  # noqa: T201
    assert ours < 0.8 * theirs
