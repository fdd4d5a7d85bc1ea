"""Longest match: a client address -> the policy of the Ranges around it, and how far it holds.

Each IP version is one sequence of chunks; a chunk holds a few hundred Ranges and, once asked,
the disjoint intervals they make. A change copies one chunk, so tables share what is unchanged.
"""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise

from meshd.core.model import Prefix, Range
from meshd.core.selector import Selector

CHUNK_RANGES = 512
# One change costs about as much as so many Ranges of a new table.
_REBUILD_SHARE = 200
# A scope is widened over at most so many equal intervals: always right, at worst too narrow.
_WIDEN_STEPS = 64


class Policy:
    """What a client gets by its Ranges: the Pop of the innermost, selectors of all of them.

    `marks` names those of them by which clients are told apart just now (motion.py). Compared by
    identity: equal policies of one table and its successors are one object.
    """

    __slots__ = ("marks", "pop", "selectors")

    def __init__(
        self,
        pop: str | None,
        selectors: Mapping[str, Selector],
        marks: frozenset[str] = frozenset(),
    ) -> None:
        self.pop = pop
        self.selectors = selectors
        self.marks = marks

    def __repr__(self) -> str:
        chosen = ", ".join(f"{name}@{selector}" for name, selector in self.selectors.items())
        return f"<Policy {self.pop}: {chosen}>"


# Clients that no Range holds, and questions without a client.
NEUTRAL = Policy(None, {})

_Selectors = tuple[tuple[str, Selector], ...]
# The Ranges by which clients are told apart.
Marks = frozenset[Prefix]


class _Policies:
    """Makes each distinct policy once; a memo, shared by a table and its successors."""

    __slots__ = ("_children", "_known")

    def __init__(self) -> None:
        self._known: dict[tuple[str, frozenset[tuple[str, Selector]], frozenset[str]], Policy] = {}
        self._children: dict[tuple[int, str, _Selectors, str], Policy] = {}

    def under(self, parent: Policy, inner: Range, marks: Marks) -> Policy:
        mark = inner.name if inner.prefix in marks else ""
        step = (id(parent), inner.pop, inner.selectors, mark)
        policy = self._children.get(step)
        if policy is None:
            selectors = {**parent.selectors, **dict(inner.selectors)}
            held = parent.marks | {mark} if mark else parent.marks
            key = (inner.pop, frozenset(selectors.items()), held)
            policy = self._known.setdefault(key, Policy(inner.pop, selectors, held))
            self._children[step] = policy
        return policy


class _Chunk:
    """The Ranges that begin between `first` and `last`, and those around that reach in."""

    __slots__ = ("_intervals", "around", "first", "last", "ranges")

    def __init__(
        self, first: int, last: int, ranges: Sequence[Range], around: tuple[Range, ...]
    ) -> None:
        self.first = first
        self.last = last
        self.ranges = ranges
        self.around = around
        self._intervals: tuple[list[int], list[Policy]] | None = None

    def intervals(self, policies: _Policies, marks: Marks) -> tuple[list[int], list[Policy]]:
        """Where each interval starts, and its policy; made when first asked.

        All tables that share it have the same `marks` in it.
        """
        made = self._intervals
        if made is None:
            made = self._intervals = self._sweep(policies, marks)
        return made

    def _sweep(self, policies: _Policies, marks: Marks) -> tuple[list[int], list[Policy]]:
        starts: list[int] = []
        found: list[Policy] = []
        open_ends = [(self.last, NEUTRAL)]

        def begin(at: int, policy: Policy) -> None:
            if starts and starts[-1] == at:
                starts.pop(), found.pop()
            if not found or found[-1] is not policy:
                starts.append(at)
                found.append(policy)

        def close(before: int) -> None:
            while open_ends[-1][0] < before:
                ended, _ = open_ends.pop()
                begin(ended + 1, open_ends[-1][1])

        begin(self.first, NEUTRAL)
        for entry in (*self.around, *self.ranges):
            at = max(entry.prefix.network, self.first)
            close(at)
            policy = policies.under(open_ends[-1][1], entry, marks)
            open_ends.append((min(entry.prefix.last, self.last), policy))
            begin(at, policy)
        close(self.last)
        return starts, found


class FamilyTable:
    """The Ranges of one IP version; immutable but for the intervals made on demand."""

    __slots__ = ("_firsts", "_policies", "bits", "chunks", "marks", "size")

    def __init__(
        self, bits: int, chunks: Sequence[_Chunk], policies: _Policies, marks: Marks = frozenset()
    ) -> None:
        self.bits = bits
        self.chunks = chunks
        self.marks = marks
        self.size = sum(len(chunk.ranges) for chunk in chunks)
        self._firsts = [chunk.first for chunk in chunks]
        self._policies = policies

    @classmethod
    def build(
        cls, bits: int, ranges: Iterable[Range], policies: _Policies, marks: Marks = frozenset()
    ) -> "FamilyTable":
        """Make the table of any number of Ranges with distinct prefixes."""
        return cls(bits, _chunked(bits, sorted(ranges, key=_by_prefix)), policies, marks)

    def policy(self, address: int) -> Policy:
        """The policy of one address."""
        chunk = self.chunks[bisect_right(self._firsts, address) - 1]
        starts, found = chunk.intervals(self._policies, self.marks)
        return found[bisect_right(starts, address) - 1]

    def scope(self, address: int, floor: int) -> int:
        """The length of the shortest prefix around an address, not below `floor`, of one policy."""
        index = bisect_right(self._firsts, address) - 1
        starts, found = self.chunks[index].intervals(self._policies, self.marks)
        at = bisect_right(starts, address) - 1
        low = starts[at]
        high = starts[at + 1] - 1 if at + 1 < len(starts) else self.chunks[index].last
        length = self._covering(address, low, high)
        if length <= floor:
            return floor
        low = self._reach(index, low, found[at], -1)
        high = self._reach(index, high, found[at], 1)
        return max(floor, self._covering(address, low, high))

    def _covering(self, address: int, low: int, high: int) -> int:
        """The shortest prefix around `address` inside low..high."""
        length = 0
        if low > 0:
            length = self.bits + 1 - (address ^ (low - 1)).bit_length()
        if high < (1 << self.bits) - 1:
            length = max(length, self.bits + 1 - (address ^ (high + 1)).bit_length())
        return length

    def _reach(self, index: int, edge: int, policy: Policy, step: int) -> int:
        """Follow equal policies over chunk borders, where cuts are not the user's."""
        for _ in range(_WIDEN_STEPS):
            chunk = self.chunks[index]
            index += step
            at_border = edge == (chunk.first if step < 0 else chunk.last)
            if not at_border or not 0 <= index < len(self.chunks):
                break
            chunk = self.chunks[index]
            starts, found = chunk.intervals(self._policies, self.marks)
            if found[-1 if step < 0 else 0] is not policy:
                break
            after = starts[1] - 1 if len(starts) > 1 else chunk.last
            edge = starts[-1] if step < 0 else after
        return edge

    def around(self, address: int) -> tuple[Range, ...]:
        """The Ranges that hold an address, widest first."""
        chunk = self.chunks[bisect_right(self._firsts, address) - 1]
        return tuple(
            entry
            for entry in (*chunk.around, *chunk.ranges)
            if entry.prefix.network <= address <= entry.prefix.last
        )

    def get(self, prefix: Prefix) -> Range | None:
        """The Range of exactly this prefix."""
        chunk = self.chunks[self._chunk_of(prefix)]
        at = bisect_left(chunk.ranges, prefix, key=_by_prefix)
        if at < len(chunk.ranges) and chunk.ranges[at].prefix == prefix:
            return chunk.ranges[at]
        return None

    def __iter__(self) -> Iterator[Range]:
        for chunk in self.chunks:
            yield from chunk.ranges

    def _chunk_of(self, prefix: Prefix) -> int:
        return bisect_right(self._firsts, prefix.network) - 1

    def changed_all(self, changes: Mapping[Prefix, Range | None]) -> "FamilyTable":
        """A table after many changes: one by one, or made anew where that is less work."""
        if len(changes) * _REBUILD_SHARE > self.size + _REBUILD_SHARE:
            held = {entry.prefix: entry for entry in self if entry.prefix not in changes}
            entries = (*held.values(), *(entry for entry in changes.values() if entry))
            return FamilyTable.build(self.bits, entries, self._policies, self.marks)
        table = self
        for prefix, entry in changes.items():
            table = table.changed(prefix, entry)
        return table

    def changed(self, prefix: Prefix, entry: Range | None) -> "FamilyTable":
        """A table where `prefix` is `entry`, or is absent if that is None."""
        index = self._chunk_of(prefix)
        chunk = self.chunks[index]
        ranges = [kept for kept in chunk.ranges if kept.prefix != prefix]
        if entry is not None:
            insort(ranges, entry, key=_by_prefix)
        chunks = list(self.chunks)
        chunks[index] = _Chunk(chunk.first, chunk.last, ranges, chunk.around)
        self._change_around(chunks, index, prefix, entry)
        if len(ranges) > 2 * CHUNK_RANGES:
            chunks[index : index + 1] = _split(chunks[index])
        return FamilyTable(self.bits, chunks, self._policies, self.marks)

    def marked(self, marks: Marks) -> "FamilyTable":
        """The table with other marks; chunks in which they are the same are shared."""
        chunks = list(self.chunks)
        for prefix in marks ^ self.marks:
            for at in range(self._chunk_of(prefix), len(chunks)):
                chunk = chunks[at]
                if chunk.first > prefix.last:
                    break
                chunks[at] = _Chunk(chunk.first, chunk.last, chunk.ranges, chunk.around)
        return FamilyTable(self.bits, chunks, self._policies, marks)

    def _change_around(
        self, chunks: list[_Chunk], index: int, prefix: Prefix, entry: Range | None
    ) -> None:
        for at in range(index + 1, len(chunks)):
            chunk = chunks[at]
            if chunk.first > prefix.last:
                break
            around = [kept for kept in chunk.around if kept.prefix != prefix]
            if entry is not None:
                insort(around, entry, key=_by_prefix)
            chunks[at] = _Chunk(chunk.first, chunk.last, chunk.ranges, tuple(around))


def _by_prefix(entry: Range) -> Prefix:
    return entry.prefix


def _cut_points(ranges: Sequence[Range]) -> Iterator[int]:
    """Where chunks begin; Ranges of one network address stay together."""
    at = CHUNK_RANGES
    while at < len(ranges):
        while at < len(ranges) and ranges[at].prefix.network == ranges[at - 1].prefix.network:
            at += 1
        if at < len(ranges):
            yield at
        at += CHUNK_RANGES


def _chunked(
    bits: int,
    ranges: Sequence[Range],
    first: int = 0,
    last: int | None = None,
    around: tuple[Range, ...] = (),
) -> list[_Chunk]:
    last = (1 << bits) - 1 if last is None else last
    cuts = [0, *_cut_points(ranges), len(ranges)]
    chunks: list[_Chunk] = []
    for begin, end in pairwise(cuts):
        start = ranges[begin].prefix.network if begin else first
        around = tuple(entry for entry in around if entry.prefix.last >= start)
        if chunks:
            chunks[-1].last = start - 1
        chunks.append(_Chunk(start, last, ranges[begin:end], around))
        around = tuple(e for e in (*around, *ranges[begin:end]) if e.prefix.last > start)
    return chunks


def _split(chunk: _Chunk) -> list[_Chunk]:
    bits = 32 if chunk.ranges[0].prefix.version == 4 else 128
    return _chunked(bits, chunk.ranges, chunk.first, chunk.last, chunk.around)


class RangeTable:
    """All Ranges, IPv4 and IPv6."""

    __slots__ = ("v4", "v6")

    def __init__(self, v4: FamilyTable, v6: FamilyTable) -> None:
        self.v4 = v4
        self.v6 = v6

    @classmethod
    def build(cls, ranges: Iterable[Range]) -> "RangeTable":
        """Make the table of any number of Ranges with distinct prefixes."""
        by_version: dict[int, list[Range]] = {4: [], 6: []}
        for entry in ranges:
            by_version[entry.prefix.version].append(entry)
        policies = _Policies()
        return cls(
            FamilyTable.build(32, by_version[4], policies),
            FamilyTable.build(128, by_version[6], policies),
        )

    @property
    def marks(self) -> Marks:
        """The Ranges by which clients are told apart."""
        return self.v4.marks | self.v6.marks

    def marked(self, marks: Marks) -> "RangeTable":
        """The table with these marks, whether or not there are such Ranges."""
        if marks == self.marks:
            return self
        v4 = frozenset(prefix for prefix in marks if prefix.version == 4)
        return RangeTable(self.v4.marked(v4), self.v6.marked(marks - v4))

    def family(self, version: int) -> FamilyTable:
        """The table of IP version 4 or 6."""
        return self.v4 if version == 4 else self.v6

    def get(self, prefix: Prefix) -> Range | None:
        """The Range of exactly this prefix."""
        return self.family(prefix.version).get(prefix)

    def changed(self, changes: Mapping[Prefix, Range | None]) -> "RangeTable":
        """A table where each prefix is its entry, or is absent if that is None."""
        by_version: dict[int, dict[Prefix, Range | None]] = {4: {}, 6: {}}
        for prefix, entry in changes.items():
            by_version[prefix.version][prefix] = entry
        v4 = self.v4.changed_all(by_version[4]) if by_version[4] else self.v4
        v6 = self.v6.changed_all(by_version[6]) if by_version[6] else self.v6
        return RangeTable(v4, v6)

    def __iter__(self) -> Iterator[Range]:
        yield from self.v4
        yield from self.v6

    def __len__(self) -> int:
        return self.v4.size + self.v6.size
