"""What a member allows an answer that holds it, by verdict and load."""

import pytest

from meshd.core.lifetime import longest_s, member_of, ready_families
from meshd.core.model import Force, Override
from meshd.core.signals import Signal
from meshd.core.topology import Change
from meshd.core.verdict import Verdict
from tests import samples

BEFORE = samples.snapshot()


def test_members_are_found_by_name() -> None:
    view = BEFORE.views["api"]
    for member in view.members:
        assert member_of(view, member.instance.name) is member
    for name in ("", "api-eu-", "zzz"):
        assert member_of(view, name) is None
    assert member_of(None, "api-eu-1") is None


@pytest.mark.parametrize(
    ("signal", "lives_s"),
    [
        (Signal(), 60),
        (Signal(load=0.95), 6),
        (Signal(verdict=Verdict.FAILING), 5),
        (Signal(verdict=Verdict.DOWN), 0),
        (Signal(verdict=Verdict.DOWN, held=True), 5),
        (Signal(success=0), 5),
    ],
)
def test_longest(signal: Signal, lives_s: float) -> None:
    view = BEFORE.advance(signals={"api-eu-1": signal}).views["api"]
    member = member_of(view, "api-eu-1")
    assert member is not None
    assert ready_families(view) == {4, 6}
    assert longest_s(view, member, ready_families(view)) == lives_s


@pytest.mark.parametrize("force", list(Force))
def test_alone_it_stands_in_unless_it_is_forced_down(force: Force) -> None:
    view = BEFORE.advance([Change.put(Override("old-1", force))], 8).views["old"]
    (member,) = view.members
    lives_s = longest_s(view, member, ready_families(view))
    assert lives_s == {Force.UP: 60, Force.DOWN: 0}.get(force, 5)
