"""Longest match against a dumb twin: a linear scan over all ranges."""

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.core import ranges as module
from meshd.core.model import Prefix, Range
from meshd.core.ranges import NEUTRAL, RangeTable
from meshd.core.selector import Selector, parse_selector
from tests.core.strategies import POPS, prefixes, ranges

SPACE = {4: (0x0A000000, 1024), 6: (0x20010DB8 << 96, 1024)}


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """So small that every table has borders between chunks."""
    monkeypatch.setattr(module, "CHUNK_RANGES", 2)


Said = tuple[str | None, dict[str, Selector], set[str]]
NO_MARKS: frozenset[Prefix] = frozenset()


def dumb(
    entries: Sequence[Range], version: int, address: int, marks: frozenset[Prefix] = NO_MARKS
) -> Said:
    """The twin: from the widest to the narrowest, each overrides."""
    pop: str | None = None
    chosen: dict[str, Selector] = {}
    marked: set[str] = set()
    for entry in sorted(entries, key=lambda entry: entry.prefix.length):
        prefix = entry.prefix
        if prefix.version == version and prefix.network <= address <= prefix.last:
            pop = entry.pop
            chosen.update(entry.selectors)
            marked |= {str(prefix)} if prefix in marks else set()
    return pop, chosen, marked


def said(table: RangeTable, version: int, address: int) -> Said:
    policy = table.family(version).policy(address)
    return policy.pop, dict(policy.selectors), set(policy.marks)


def check_all(
    table: RangeTable, entries: Sequence[Range], marks: frozenset[Prefix] = NO_MARKS
) -> None:
    for version, (first, size) in SPACE.items():
        for address in (
            *range(first - 2, first + size + 2, 7),
            0,
            (1 << (32 if version == 4 else 128)) - 1,
        ):
            assert said(table, version, address) == dumb(entries, version, address, marks)
    assert sorted(table, key=lambda e: e.prefix) == sorted(entries, key=lambda e: e.prefix)
    assert len(table) == len(entries)
    for entry in entries:
        assert table.get(entry.prefix) == entry


@given(ranges())
def test_policies(entries: tuple[Range, ...]) -> None:
    check_all(RangeTable.build(entries), entries)


@given(ranges(), st.lists(st.tuples(prefixes(), st.sampled_from([*POPS, None])), max_size=8))
def test_changes(entries: tuple[Range, ...], steps: list[tuple[Prefix, str | None]]) -> None:
    table = RangeTable.build(entries)
    held = {entry.prefix: entry for entry in entries}
    for prefix, pop in steps:
        before, were = table, dict(held)
        if pop is None:
            held.pop(prefix, None)
            table = table.changed({prefix: None})
        else:
            held[prefix] = Range(prefix, pop)
            table = table.changed({prefix: held[prefix]})
        check_all(table, list(held.values()))
        check_all(before, list(were.values()))


@given(ranges(), ranges(), st.sampled_from([1, 1000]))
def test_many_changes_at_once(
    before: tuple[Range, ...], after: tuple[Range, ...], share: int
) -> None:
    """One by one and made anew come to the same."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_REBUILD_SHARE", share)
        changes: dict[Prefix, Range | None] = {entry.prefix: None for entry in before[::2]}
        changes |= {entry.prefix: entry for entry in after}
        table = RangeTable.build(before).changed(changes)
    held = {entry.prefix: entry for entry in before} | changes
    check_all(table, [entry for entry in held.values() if entry])


some_marks = st.frozensets(prefixes(), max_size=3)


@given(ranges(), st.lists(st.tuples(some_marks, ranges()), min_size=1, max_size=4), st.data())
def test_marks(
    entries: tuple[Range, ...],
    steps: list[tuple[frozenset[Prefix], tuple[Range, ...]]],
    data: st.DataObject,
) -> None:
    """Marks that come and go while Ranges do, asked of all tables that there were."""
    table = RangeTable.build(entries)
    held = {entry.prefix: entry for entry in entries}
    line = [(table, list(held.values()), NO_MARKS)]
    for others, more in steps:
        own = data.draw(st.frozensets(st.sampled_from([*held] or [Prefix(4, 0, 0)]), max_size=3))
        marks = others | own
        held |= {entry.prefix: entry for entry in more}
        table = table.marked(marks).changed({entry.prefix: entry for entry in more})
        line.append((table, list(held.values()), marks))
        if data.draw(st.booleans()):
            check_all(*line[-1])
    for each in line:
        check_all(*each)


@given(ranges(), some_marks, st.integers(0, 1023), st.integers(0, 32))
def test_scopes_are_true_and_as_wide_as_can_be(
    entries: tuple[Range, ...], others: frozenset[Prefix], offset: int, floor: int
) -> None:
    marks = others | {entry.prefix for entry in entries[::3]}
    table = RangeTable.build(entries).marked(marks)
    address = SPACE[4][0] + offset
    length = table.v4.scope(address, floor)
    assert floor <= length <= 32
    wanted = dumb(entries, 4, address, marks)

    def uniform(bits: int) -> bool:
        # Policies change only where a range begins or ends.
        low = address >> 32 - bits << 32 - bits
        high = low | (1 << 32 - bits) - 1
        edges = {low, high}
        for entry in entries:
            if entry.prefix.version == 4:
                edges |= {entry.prefix.network, entry.prefix.last + 1}
        inside = [edge for edge in edges if low <= edge <= high]
        return all(dumb(entries, 4, edge, marks) == wanted for edge in inside)

    assert uniform(length)
    if length > floor:
        assert not uniform(length - 1)


def test_around_is_widest_first() -> None:
    entries = [
        Range(Prefix.parse(text), "eu") for text in ("0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16")
    ]
    table = RangeTable.build(entries)
    assert [e.name for e in table.v4.around(0x0A010203)] == [
        "0.0.0.0/0",
        "10.0.0.0/8",
        "10.1.0.0/16",
    ]
    assert [e.name for e in table.v4.around(0x0A020203)] == ["0.0.0.0/0", "10.0.0.0/8"]


def test_equal_policies_are_one_object() -> None:
    """Also in successors: a service remembers answers by policy."""
    split = (("api", parse_selector("1.2")),)
    entries = [Range(Prefix(4, n << 24, 8), "eu", split) for n in range(0, 40, 2)]
    table = RangeTable.build(entries)
    found = {table.v4.policy(n << 24) for n in range(0, 40, 2)}
    assert len(found) == 1
    later = table.changed({Prefix(4, 0, 8): Range(Prefix(4, 0, 8), "us")})
    assert {later.v4.policy(n << 24) for n in range(2, 40, 2)} == found
    assert table.v4.policy(1 << 24) is NEUTRAL


def test_unchanged_chunks_are_shared() -> None:
    entries = [Range(Prefix(4, n << 16, 16), "eu") for n in range(200)]
    table = RangeTable.build(entries)
    later = table.changed({Prefix(4, 5 << 16, 24): Range(Prefix(4, 5 << 16, 24), "us")})
    fresh = [a for a, b in zip(table.v4.chunks, later.v4.chunks, strict=True) if a is not b]
    assert len(fresh) == 1
    assert later.v6 is table.v6


def test_chunks_in_which_marks_are_the_same_are_shared() -> None:
    """Policies too, so that what is remembered by them is found again."""
    entries = [Range(Prefix(4, n << 16, 16), "eu") for n in range(200)]
    table = RangeTable.build(entries)
    before = table.v4.policy(5 << 16)
    marked = table.marked(frozenset({entries[5].prefix}))
    fresh = [a for a, b in zip(table.v4.chunks, marked.v4.chunks, strict=True) if a is not b]
    assert len(fresh) == 1
    assert marked.v4.policy(5 << 16).marks == {"0.5.0.0/16"}
    assert marked.v4.policy(6 << 16) is before is table.v4.policy(5 << 16)
    assert marked.marked(frozenset()).v4.policy(5 << 16) is before
    assert marked.marked(frozenset({entries[5].prefix})) is marked


def test_full_chunks_are_split() -> None:
    table = RangeTable.build([])
    for n in range(50):
        table = table.changed({Prefix(4, n << 16, 16): Range(Prefix(4, n << 16, 16), POPS[n % 3])})
    assert len(table.v4.chunks) > 10
    assert all(len(chunk.ranges) <= 4 for chunk in table.v4.chunks)
    assert [table.v4.policy(n << 16).pop for n in range(50)] == [POPS[n % 3] for n in range(50)]


def test_a_large_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK_RANGES", 512)
    entries = [Range(Prefix(4, n << 12, 20 + n % 5), POPS[n % 3]) for n in range(100_000)]
    table = RangeTable.build(entries)
    for n in range(0, 100_000, 997):
        assert table.v4.policy(n << 12).pop == POPS[n % 3]
        last = (n << 12) + (1 << 12 - n % 5)
        assert n % 5 == 0 or table.v4.policy(last) is NEUTRAL
    firsts = [chunk.first for chunk in table.v4.chunks]
    assert all(one < other for one, other in pairwise(firsts))
