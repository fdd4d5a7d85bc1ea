"""Who is ejected: worse than its like, never too many, for longer each time."""

from collections.abc import Sequence

import pytest

from meshd.core.ejection import Ejection, allowed, ejections
from meshd.core.outcomes import Folded

NOW = 1000.0


def found(*rates: float, voices: int = 3, evidence: float = 30) -> dict[str, Folded]:
    return {f"i{n}": Folded(rate, voices, evidence, 0) for n, rate in enumerate(rates)}


def out(before: dict[str, Ejection], now: float = NOW) -> str:
    return " ".join(sorted(name for name, each in before.items() if each.is_out(now)))


@pytest.mark.parametrize(
    ("rates", "ejected"),
    [
        ((0.5, 1, 1), "i0"),
        ((0.0, 1, 1, 1), "i0"),
        # Of two nobody: half of a service would go.
        ((0.0, 1), ""),
        # It fails, but not so much; it fails much, but all do; others are not much better.
        ((0.75, 1, 1), ""),
        ((0.0, 0.0, 0.0), ""),
        ((0.3, 0.3, 0.4, 0.4), ""),
        ((0.6, 0.75, 0.75, 0.75), ""),
        # Not more than a third, and the worst of them.
        ((0.2, 0.0, 0.1, 1, 1, 1, 1, 1), "i1 i2"),
        ((0.2, 0.0, 1, 1, 1), "i1"),
        # Most fail: it is not they.
        ((0.0, 0.0, 0.0, 1, 1), ""),
        # Those that are apart anyway must be far off.
        ((0.6, 0.7, 0.8, 0.9, 1.0), ""),
    ],
)
def test_who_is_ejected(rates: Sequence[float], ejected: str) -> None:
    assert out(ejections(found(*rates), {}, len(rates), NOW)) == ejected


@pytest.mark.parametrize(("lately", "ejected"), [(0.5, "i0"), (0.75, ""), (1.0, "")])
def test_what_has_just_begun_to_fail_fails(lately: float, ejected: str) -> None:
    """For longer it was well."""
    said = found(0.9, 1, 1)
    said["i0"] = said["i0"]._replace(lately=lately)
    assert out(ejections(said, {}, 3, NOW)) == ejected


@pytest.mark.parametrize(
    "said",
    [
        found(0.0, 1, 1, voices=2),
        found(0.0, 1, 1, evidence=9),
        found(0.0),
        {**found(0.0), "i1": Folded(1, 0, 0, 0)},
    ],
    ids=["two voices", "few calls", "nothing is known of others", "nothing counts of others"],
)
def test_too_little_is_known(said: dict[str, Folded]) -> None:
    assert ejections(said, {}, 3, NOW) == {}


def test_how_many() -> None:
    assert [allowed(n) for n in (0, 1, 2, 3, 4, 5, 6, 9, 100)] == [0, 0, 0, 1, 1, 1, 2, 3, 33]


def test_out_for_longer_each_time_and_forgiven_in_time() -> None:
    bad = found(0.0, 1, 1)
    first = ejections(bad, {}, 3, NOW)
    assert first == {"i0": Ejection(1, NOW + 10)}
    assert ejections(bad, first, 3, NOW + 5) == first
    second = ejections(bad, first, 3, NOW + 10)
    assert second == {"i0": Ejection(2, NOW + 30)}
    good = found(1, 1, 1)
    assert ejections(good, second, 3, NOW + 40) == second
    assert out(second, NOW + 40) == ""
    # A minute of calm takes one off, two all.
    assert ejections(bad, second, 3, NOW + 91)["i0"] == Ejection(2, NOW + 111)
    assert ejections(good, second, 3, NOW + 151) == {}
    often = {"i0": Ejection(80, NOW)}
    assert ejections(bad, often, 3, NOW)["i0"].until == NOW + 300


def test_when_others_go_an_ejected_one_comes_back() -> None:
    before = {"i0": Ejection(1, NOW + 5), "i1": Ejection(1, NOW + 9)}
    said = found(0.0, 0.0, 1, 1, 1, 1)
    assert out(ejections(said, before, 6, NOW)) == "i0 i1"
    assert out(ejections(said, before, 4, NOW)) == "i1"
    assert out(ejections(said, before, 2, NOW)) == ""
