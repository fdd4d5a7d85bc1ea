"""Versions in their order, selectors in all forms, splits that move only what they must."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.core.errors import Invalid
from meshd.core.hashing import BUCKETS, permuted, seed
from meshd.core.selector import LATEST, Split, Version, by_nearness, parse_selector, select

SERVED = tuple(map(Version, ("1.2.0", "1.2.3", "1.3.0", "1.3.1-rc.1", "2.0.0-beta", "0.9")))
CHANNELS = {"beta": parse_selector("2.0.0-beta"), "loop": parse_selector("beta")}


@pytest.mark.parametrize(
    ("text", "versions"),
    [
        ("1.2", "1.2.0"),
        ("v1.2.0", "1.2.0"),
        ("1.2.*", "1.2.0 1.2.3"),
        ("1.*", "1.2.0 1.2.3 1.3.0"),
        (">=1.2.1,<2", "1.2.3 1.3.0"),
        (">1.2, <=1.3", "1.2.3 1.3.0"),
        ("!=1.3", "0.9 1.2.0 1.2.3"),
        ("latest", "1.3.0"),
        ("beta", "2.0.0-beta"),
        ("loop", ""),
        ("nightly", ""),
        ("1.3.1-rc.1", "1.3.1-rc.1"),
        ("7", ""),
        # A pre-release is taken by what names it, and is inside no other bounds.
        ("=1.3.1-rc.1", "1.3.1-rc.1"),
        (">=1.3.1-rc.1", ""),
        ("1.3.1.*", ""),
        ("=1.3.1-rc.1,<1.3", ""),
    ],
)
def test_select(text: str, versions: str) -> None:
    arm = parse_selector(text)
    assert not isinstance(arm, Split)
    assert select(arm, SERVED, CHANNELS) == set(map(Version, versions.split()))


@pytest.mark.parametrize(
    ("text", "chosen", "order"),
    [
        ("1.3", "1.3.0", "1.2.3 1.2.0 0.9 2.1 1.3.1-rc.1 2.0.0-beta"),
        ("1.2.2", "", "1.2.0 0.9 1.2.3 1.3.0 2.1 1.3.1-rc.1 2.0.0-beta"),
        ("1.2.*", "1.2.0 1.2.3", "0.9 1.3.0 2.1 1.3.1-rc.1 2.0.0-beta"),
        ("1.1.*", "", "0.9 1.2.0 1.2.3 1.3.0 2.1 1.3.1-rc.1 2.0.0-beta"),
        (">=3,<4", "", "2.1 1.3.0 1.2.3 1.2.0 0.9 2.0.0-beta 1.3.1-rc.1"),
        ("latest", "2.1", "1.3.0 1.2.3 1.2.0 0.9 2.0.0-beta 1.3.1-rc.1"),
        ("latest", "", "2.1 1.3.0 1.2.3 1.2.0 0.9 2.0.0-beta 1.3.1-rc.1"),
        ("beta", "", "1.3.0 1.2.3 1.2.0 0.9 2.1 2.0.0-beta 1.3.1-rc.1"),
        ("nightly", "", "2.1 1.3.0 1.2.3 1.2.0 0.9 2.0.0-beta 1.3.1-rc.1"),
        ("loop", "", "2.1 1.3.0 1.2.3 1.2.0 0.9 2.0.0-beta 1.3.1-rc.1"),
    ],
)
def test_which_takes_over(text: str, chosen: str, order: str) -> None:
    """The highest below, then the lowest above, pre-releases last."""
    arm = parse_selector(text)
    assert not isinstance(arm, Split)
    named = set(map(Version, chosen.split()))
    others = [version for version in (*SERVED, Version("2.1")) if version not in named]
    assert by_nearness(arm, named, others, CHANNELS) == list(map(Version, order.split()))


def test_latest_of_nothing_but_candidates() -> None:
    assert select(LATEST, [Version("1.0.0-rc.1")], {}) == set()


def test_order_of_versions() -> None:
    """semver 2.0 section 11, with its own example."""
    texts = ["1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2",
             "1.0.0-beta.11", "1.0.0-rc.1", "1.0.0", "1.0.1", "1.2", "1.10", "2",
             "2.0.0.1"]  # fmt: skip
    made = [Version(text) for text in texts]
    assert sorted(reversed(made)) == made
    assert Version("1.2") == Version("1.2.0") == Version("1.2.0.0")
    assert hash(Version("1.2")) == hash(Version("1.2.0"))
    assert Version("1.2.0-rc.1").label == "1-2-0-rc-1"


@pytest.mark.parametrize(
    "text",
    ["", "1.2.3.4.5", "1..2", "Beta!", "1.x", ">=", ">=beta", "{}", "{1.2}", "{1.2: -1}",
     "{1.2: 0}", "{1.2: 5, 1.2.0: 5}", "1.2:x", ".*", "1.2.3.4.*", "{1.2: 1000001}"],
)  # fmt: skip
def test_wrong_selectors(text: str) -> None:
    with pytest.raises(Invalid):
        parse_selector(text)


@given(st.text(max_size=30))
def test_any_text_is_a_selector_or_invalid(text: str) -> None:
    try:
        selector = parse_selector(text)
    except Invalid:
        return
    assert parse_selector(str(selector)) == selector


def test_both_ways_to_write_a_split() -> None:
    assert parse_selector("{1.2: 95, 1.3: 5}") == parse_selector("1.3:5 1.2:95")


def split_of(*weights: int) -> Split:
    made = parse_selector("{" + ", ".join(f"1.{n}: {w}" for n, w in enumerate(weights)) + "}")
    assert isinstance(made, Split)
    return made


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=6).filter(any))
def test_shares_are_exact(weights: list[int]) -> None:
    split = split_of(*weights)
    arms = [str(split.arm_at(position)) for position in range(BUCKETS)]
    for number, weight in enumerate(weights):
        share = BUCKETS * weight / sum(weights)
        assert abs(arms.count(f"1.{number}") - share) <= 1


@given(st.integers(0, 99), st.integers(0, 99), st.integers(0, 2**64 - 1))
def test_more_weight_moves_only_what_is_added(one: int, other: int, salt: int) -> None:
    low, high = sorted((one, other))
    before, after = split_of(100 - low, low), split_of(100 - high, high)
    for bucket in range(BUCKETS):
        position = permuted(bucket, salt)
        was, becomes = str(before.arm_at(position)), str(after.arm_at(position))
        assert (was, becomes) != ("1.1", "1.0"), "nobody goes back while the share grows"


def test_salts_choose_different_clients() -> None:
    split = split_of(95, 5)
    chosen = [
        {b for b in range(BUCKETS) if str(split.arm_at(permuted(b, seed(name)))) == "1.1"}
        for name in ("api", "auth")
    ]
    assert [len(buckets) for buckets in chosen] == [51, 51]
    assert len(chosen[0] & chosen[1]) < 20
