"""What a change does to clients: whom they are answered first, before and after it.

Clients are the Ranges, each counted alike whatever its size, or addresses with weights. Where
that would take too long, evenly spread Ranges and buckets stand for all, and a note says so.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import islice
from typing import NamedTuple, TypeVar

from meshd.core.hashing import BUCKETS, mix64
from meshd.core.model import Instance, Prefix, Sticky
from meshd.core.ranges import NEUTRAL, Policy
from meshd.core.release import Phase, Rollout, Step
from meshd.core.resolve import Client, Spot, choose, locate
from meshd.core.snapshot import ServiceView, Snapshot
from meshd.core.topology import Change

# Up to here every Range and every service is looked at.
MOST_RANGES = 100_000
MOST_SERVICES = 100
# Rankings of one comparison: two or three seconds; each bucket that is looked at takes one.
_RANKINGS = 1 << 17
_FEWEST_BUCKETS = 32
# Kinds of clients that one service tells apart; beyond it, every so many.
_MOST_KINDS = 1024
_DIGITS = 6

T = TypeVar("T")


class WeightedClient(NamedTuple):
    """A client address or prefix, and how much it counts."""

    client: Client
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Move:
    """Which share (0..1) of a Pop's clients would get another set, or another first instance."""

    service: str
    pop: str
    set_changes: float
    first_changes: float


@dataclass(frozen=True, slots=True)
class InstanceShare:
    """The share (0..1) of a Pop's clients that are answered an instance first."""

    instance: str
    before: float
    after: float


@dataclass(frozen=True, slots=True)
class Flow:
    """The share (0..1) of a Pop's clients whose first answer goes from a version to another.

    From and to alike: they stay. An empty version: no answer. `instances` are those of
    `to_version` that gain or lose clients, by whatever flow.
    """

    service: str
    pop: str
    from_version: str
    to_version: str
    share: float
    instances: tuple[InstanceShare, ...] = ()


@dataclass(frozen=True, slots=True)
class Effect:
    """What a change does to clients, as far as anything changes for them."""

    moves: tuple[Move, ...] = ()
    flows: tuple[Flow, ...] = ()
    notes: tuple[str, ...] = ()


def flows(
    before: Snapshot, after: Snapshot, clients: Sequence[WeightedClient] | None = None
) -> tuple[Flow, ...]:
    """Where clients go; of each Pop in which a service moves any, the shares sum to 1."""
    return effect(before, after, clients).flows


def rollout_flows(snapshot: Snapshot, rollout: Rollout, percent: float) -> tuple[Flow, ...]:
    """Where clients go if a rollout is at a step of so many percent, against how things are."""
    hold_s = rollout.course.steps[0].hold_s
    percents = (percent,) if percent == 100 else (percent, 100.0)
    course = replace(rollout.course, steps=tuple(Step(each, hold_s) for each in percents))
    there = replace(rollout, course=course, step=0, phase=Phase.RUNNING)
    return flows(snapshot, snapshot.advance([Change.put(there)], snapshot.topology.revision))


def effect(
    before: Snapshot, after: Snapshot, clients: Sequence[WeightedClient] | None = None
) -> Effect:
    """What happens to clients of the Ranges, or to these, between two snapshots."""
    crowd = _Addresses(before, after, clients) if clients else _Prefixes(before, after)
    notes = [f"service {name} is new" for name in after.views if name not in before.views]
    names = sorted(name for name in before.views if name in after.views)
    names = [n for n in names if crowd.is_touched(before.views[n], after.views[n])]
    if len(names) > MOST_SERVICES:
        notes.append(f"moves are shown for {MOST_SERVICES} of {len(names)} services")
        names = names[:MOST_SERVICES]
    moves: list[Move] = []
    found: list[Flow] = []
    for name in names:
        old, new = before.views[name], after.views[name]
        for pop, tally in _tallies(old, new, crowd.cells(old, new, _RANKINGS // len(names))):
            if tally.sets or tally.firsts:
                moves.append(tally.move(name, pop))
            if tally.firsts:
                found += tally.flows(name, pop)
    return Effect(tuple(moves), tuple(found), (*notes, *crowd.notes()))


class _Kind(NamedTuple):
    """Clients of one Pop that a service cannot tell apart but by their buckets."""

    pop: str
    was: Policy
    becomes: Policy


class _Cell(NamedTuple):
    """Clients that get one answer before, and one after."""

    kind: _Kind
    bucket: int
    bucket_after: int
    weight: float


class _Prefixes:
    """The clients of all Ranges: each Range counts 1, and its clients are in all buckets."""

    def __init__(self, before: Snapshot, after: Snapshot) -> None:
        self._kinds, self._seen, self._ranges = _kinds_of_ranges(before, after)
        self._changed = [kind for kind in self._kinds if kind.was is not kind.becomes]
        self._coarse: dict[str, list[str]] = {}

    def is_touched(self, old: ServiceView, new: ServiceView) -> bool:
        """True if a service may answer anybody otherwise than before."""
        if old is not new:
            return True
        some = islice(self._changed, _MOST_KINDS)
        return any(old.policy_key(kind.was) != new.policy_key(kind.becomes) for kind in some)

    def cells(self, old: ServiceView, new: ServiceView, rankings: int) -> Iterator[_Cell]:
        """All clients of a service, as finely as so many rankings allow."""
        kinds = _merged(self._kinds, old, new)
        some = _spread(list(kinds.items()), _MOST_KINDS)
        step = 1
        while BUCKETS // step > max(_FEWEST_BUCKETS, rankings // (2 * len(some))):
            step *= 2
        seen = [f"{BUCKETS // step} of {BUCKETS} buckets of clients"] if step > 1 else []
        if len(some) < len(kinds):
            seen.append(f"{len(some)} of {len(kinds)} kinds of ranges")
        if seen:
            self._coarse.setdefault(" and ".join(seen), []).append(old.service.name)
        for kind, count in some:
            for bucket in range(0, BUCKETS, step):
                yield _Cell(kind, bucket, bucket, count)

    def notes(self) -> Iterator[str]:
        """How the shares were come by, where it was not by looking at everything."""
        if self._seen < self._ranges:
            yield f"shares are of {self._seen} of {self._ranges} ranges, evenly spread"
        for seen, names in self._coarse.items():
            whose = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if names[3:] else "")
            yield f"shares of {whose} are of {seen}"


class _Addresses:
    """Clients by their addresses, each looked at."""

    def __init__(
        self, before: Snapshot, after: Snapshot, clients: Sequence[WeightedClient]
    ) -> None:
        self._before = before
        self._after = after
        self._clients = clients
        self._by_key: dict[tuple[Sticky, Sticky], list[_Cell]] = {}

    def is_touched(self, old: ServiceView, new: ServiceView) -> bool:
        """True if a service may answer anybody otherwise than before."""
        return old is not new or self._before.topology.ranges is not self._after.topology.ranges

    def cells(self, old: ServiceView, new: ServiceView, rankings: int) -> Iterable[_Cell]:
        """All clients of a service: there are no more answers than buckets of each policy."""
        key = (old.service.sticky, new.service.sticky)
        if key not in self._by_key:
            self._by_key[key] = list(self._located(old, new))
        return self._by_key[key]

    def _located(self, old: ServiceView, new: ServiceView) -> Iterator[_Cell]:
        """Clients by what their answers depend on; services of one key length share it."""
        weights: dict[tuple[_Kind, int, int], float] = {}
        for client, weight in self._clients:
            was, bucket, _ = locate(self._before, old, client)
            becomes, bucket_after, _ = locate(self._after, new, client)
            where = _Kind(was.pop or becomes.pop or "", was, becomes), bucket, bucket_after
            weights[where] = weights.get(where, 0.0) + weight
        for (kind, bucket, bucket_after), weight in weights.items():
            yield _Cell(kind, bucket, bucket_after, weight)

    def notes(self) -> Iterator[str]:
        """Whom the shares are of."""
        yield f"shares are of the {len(self._clients)} clients given, by their weights"


def _kinds_of_ranges(before: Snapshot, after: Snapshot) -> tuple[dict[_Kind, int], int, int]:
    """The kinds of clients, how many Ranges have each; how many were looked at, and are there."""
    tables = (before.topology.ranges, after.topology.ranges)
    prefixes = sorted({entry.prefix for table in tables for entry in table})
    addresses = list(_own_addresses(prefixes))
    some = _spread(addresses, MOST_RANGES)
    found: dict[_Kind, int] = {}
    for version, address in some:
        was, becomes = (table.family(version).policy(address) for table in tables)
        kind = _Kind(was.pop or becomes.pop or "", was, becomes)
        found[kind] = found.get(kind, 0) + 1
    return found or {_Kind("", NEUTRAL, NEUTRAL): 1}, len(some), len(addresses)


def _spread(places: Sequence[T], most: int) -> Sequence[T]:
    """At most so many of some places: one of each stretch, no two at the same point of theirs.

    Every n-th would see one Pop only, where Ranges take turns.
    """
    step = -(-len(places) // most)
    if step <= 1:
        return places
    return [
        places[min(start + mix64(start) % step, len(places) - 1)]
        for start in range(0, len(places), step)
    ]


def _own_addresses(prefixes: Iterable[Prefix]) -> Iterator[tuple[int, int]]:
    """Of each prefix, in order, an address that no inner one holds (IP version, address).

    A prefix whose inner ones hold all of it has none.
    """
    # Prefixes that may still hold others, the innermost last, and up to where they are taken.
    around: list[tuple[Prefix, int]] = []

    def ended() -> Iterator[tuple[int, int]]:
        prefix, free = around.pop()
        if around and around[-1][1] == prefix.network:
            around[-1] = around[-1][0], prefix.last + 1
        if free <= prefix.last:
            yield prefix.version, free

    for prefix in prefixes:
        while around and not _holds(around[-1][0], prefix):
            yield from ended()
        around.append((prefix, prefix.network))
    while around:
        yield from ended()


def _holds(outer: Prefix, inner: Prefix) -> bool:
    return outer.version == inner.version and inner.network <= outer.last


def _merged(kinds: Mapping[_Kind, int], old: ServiceView, new: ServiceView) -> dict[_Kind, int]:
    """The kinds that one service tells apart."""
    found: dict[tuple[str, int, int], _Kind] = {}
    counts: dict[_Kind, int] = {}
    for kind, count in kinds.items():
        key = (kind.pop, old.policy_key(kind.was), new.policy_key(kind.becomes))
        first = found.setdefault(key, kind)
        counts[first] = counts.get(first, 0) + count
    return counts


def _tallies(
    old: ServiceView, new: ServiceView, cells: Iterable[_Cell]
) -> Iterable[tuple[str, "_Tally"]]:
    """What becomes of the clients of each Pop."""
    was = cache(lambda policy, bucket: _answered(old, policy, bucket))
    becomes = was if new is old else cache(lambda policy, bucket: _answered(new, policy, bucket))
    found: dict[str, _Tally] = {}
    for kind, bucket, bucket_after, weight in cells:
        tally = found.setdefault(kind.pop, _Tally())
        tally.add(was(kind.was, bucket), becomes(kind.becomes, bucket_after), weight)
    return sorted(found.items())


Answered = tuple[Instance, ...]


def _answered(view: ServiceView, policy: Policy, bucket: int) -> Answered:
    """The set that a client is answered, best first."""
    choice = choose(view, Spot(), policy, bucket)
    if choice.ladder.all_down and not view.service.fail_open:
        return ()
    return tuple(ranked.member.instance for ranked in choice.chosen)


@dataclass(slots=True)
class _Tally:
    """The clients of one service in one Pop, by weight."""

    total: float = 0.0
    sets: float = 0.0
    firsts: float = 0.0
    # (version before, after), and of each instance (before, after); version -> its instances.
    versions: dict[tuple[str, str], float] = field(default_factory=dict)
    instances: dict[tuple[str, str], list[float]] = field(default_factory=dict)

    def add(self, was: Answered, becomes: Answered, weight: float) -> None:
        self.total += weight
        key = (_version(was), _version(becomes))
        self.versions[key] = self.versions.get(key, 0.0) + weight
        for place, answered in enumerate((was, becomes)):
            if answered:
                named = (answered[0].name, answered[0].version.text)
                self.instances.setdefault(named, [0.0, 0.0])[place] += weight
        names, names_after = ([each.name for each in answered] for answered in (was, becomes))
        self.sets += weight * (set(names) != set(names_after))
        is_same_first = names[:1] == names_after[:1] and key[0] == key[1]
        self.firsts += weight * (not is_same_first)

    def move(self, service: str, pop: str) -> Move:
        return Move(service, pop, self._share(self.sets), self._share(self.firsts))

    def flows(self, service: str, pop: str) -> Iterator[Flow]:
        """Those who go first, then those who stay; the largest first."""
        shares: dict[str, list[InstanceShare]] = {}
        for (name, version), (before, after) in sorted(self.instances.items()):
            if before != after:
                gained = InstanceShare(name, self._share(before), self._share(after))
                shares.setdefault(version, []).append(gained)
        order = sorted(self.versions.items(), key=lambda each: (_stays(each[0]), -each[1], each[0]))
        for (old, new), weight in order:
            share = self._share(weight)
            yield Flow(service, pop, old, new, share, tuple(shares.get(new, ())))

    def _share(self, weight: float) -> float:
        return round(weight / self.total, _DIGITS)


def _version(answered: Answered) -> str:
    return answered[0].version.text if answered else ""


def _stays(versions: tuple[str, str]) -> bool:
    return versions[0] == versions[1]
