"""Order: in which order a bucket gets the members of one tier.

Weighted rendezvous, and behind all others those that are there only for want of them. A pure
function of the members and the bucket: every node gives the same order (design section 6).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter

from meshd.core.hashing import rendezvous_cost, rendezvous_costs, seed
from meshd.core.model import Instance
from meshd.core.signals import Signal
from meshd.core.verdict import Verdict

WEIGHT_ONE = 1000
# What is held back (core/removal.py) or ejected (core/ejection.py) comes last.
_LAST_SHARE = 0.001
_HELD, _EJECTED = 1, 2
# Costs are below it.
_COST_BITS = 64

_SEED, _WEIGHT = attrgetter("seed"), attrgetter("weight")


@dataclass(frozen=True, slots=True, eq=False)
class Member:
    """An instance as the ranking sees it: verdict, signal, weight (1000: capacity 1).

    `room` is its capacity in the unit of weights, `resort` above 0 if it is a last resort. Equal
    only to itself: who is judged anew is another member.
    """

    instance: Instance
    verdict: Verdict
    signal: Signal
    weight: int
    seed: int
    room: int
    resort: int
    is_ready: bool

    @classmethod
    def of(cls, instance: Instance, verdict: Verdict, signal: Signal) -> "Member":
        """Judge an instance."""
        # Squared: each call that fails costs a client, so what fails half of them gets a quarter.
        success = 1.0 if verdict is Verdict.FORCED_UP else signal.success**2
        share = _LAST_SHARE if signal.held else max(_LAST_SHARE, signal.share * success)
        room = round(instance.capacity * WEIGHT_ONE)
        weight = room if share == 1 else max(1, round(instance.capacity * share * WEIGHT_ONE))
        resort = _HELD if signal.held else 0
        if not success:
            # Clients see it fail so often that it gets none; an operator knows better.
            resort = _EJECTED
        return cls(
            instance, verdict, signal, weight, seed(instance.name), room, resort, verdict.is_ready
        )

    @property
    def is_ejected(self) -> bool:
        """True if clients see it fail so often that it gets none."""
        return self.resort == _EJECTED

    @property
    def is_last_resort(self) -> bool:
        """True if it is there only for want of others."""
        return self.resort > 0


@dataclass(frozen=True, slots=True)
class Ranked:
    """A member in its place: tier 0 is the one that the client was given; cost decided inside."""

    member: Member
    tier: int
    cost: int


def ordered(members: Sequence[Member], bucket: int, tier: int) -> list[Ranked]:
    """One tier in rendezvous order."""
    costs = rendezvous_costs(bucket, map(_SEED, members), map(_WEIGHT, members))
    found = [
        (member.resort > 0, cost, member.instance.name, member)
        for cost, member in zip(costs, members, strict=True)
    ]
    found.sort(key=lambda entry: entry[:3])
    return [Ranked(member, tier, cost) for _, cost, _, member in found]


# Key (resort, then cost), name, member. Names differ, so that members are never compared.
_Place = tuple[int, str, Member]


def _place(bucket: int, member: Member) -> _Place:
    cost = rendezvous_cost(bucket, member.seed, member.weight)
    return member.resort << _COST_BITS | cost, member.instance.name, member


def _first_places(bucket: int, members: Sequence[Member], count: int) -> list[_Place]:
    """The first places; hardly more than `count` of the members are looked at twice."""
    costs = rendezvous_costs(bucket, map(_SEED, members), map(_WEIGHT, members))
    keys = [member.resort << _COST_BITS | cost for cost, member in zip(costs, members, strict=True)]
    last = sorted(keys)[:count][-1:]
    places = [
        (key, member.instance.name, member)
        for key, member in zip(keys, members, strict=True)
        if key <= last[0]
    ]
    return sorted(places)[:count]


# Members below which ranking anew is as cheap as remembering.
_FEW = 48
# Remembered behind those that are asked for, as some of them will go.
_SPARE = 8
# Changes that are remembered, and the part of the members that they may be about.
_MOST_CHANGES, _MOST_PART = 64, 1 / 4

# Who went and who came; a member that changed is another one.
_Change = tuple[frozenset[Member], frozenset[Member]]


class Leaders:
    """The first members of a tier for each bucket, ejected ones behind those held back.

    Of large tiers they are remembered while members change: who did not change keeps its order, so
    only who did is placed anew. Memories are those of at most twice as many buckets as members.
    """

    __slots__ = ("_age", "_changes", "_first", "_since", "members")

    def __init__(self, members: Sequence[Member], before: "Leaders | None" = None) -> None:
        self.members = members
        # Bucket -> at which age, and who was first then, in order.
        self._first: dict[int, tuple[int, tuple[Member, ...]]] = {}
        # What made each age of the one before, up to this one.
        self._changes: tuple[_Change, ...] = ()
        self._age = 0
        # Age -> all that changed since.
        self._since: dict[int, _Change] = {}
        if before is not None and self.is_many:
            self._inherit(before)

    @property
    def is_many(self) -> bool:
        """True if they are so many that what was found is remembered."""
        return len(self.members) >= _FEW

    def __repr__(self) -> str:
        return f"<Leaders: {len(self.members)} members, {len(self._first)} buckets remembered>"

    def _inherit(self, before: "Leaders") -> None:
        """Take the memories of another, who begins anew: only one may bring them up to date."""
        was, now = frozenset(before.members), frozenset(self.members)
        changes = (*before._changes[1 - _MOST_CHANGES :], (was - now, now - was))
        room = len(now) * _MOST_PART
        fitting = 0
        for gone, come in reversed(changes):
            room -= len(gone) + len(come)
            if room < 0:
                break
            fitting += 1
        self._changes = changes[len(changes) - fitting :]
        self._age = before._age + 1
        if fitting:
            self._first, before._first = before._first, {}

    def first(self, bucket: int, count: int, tier: int) -> list[Ranked]:
        """The first `count` for a bucket, or as many as there are."""
        places = self._places(bucket, min(count, len(self.members)))
        mask = (1 << _COST_BITS) - 1
        return [Ranked(member, tier, key & mask) for key, _, member in places]

    def _places(self, bucket: int, count: int) -> list[_Place]:
        if not self.is_many:
            return _first_places(bucket, self.members, count)
        places = self._remembered(bucket)
        if len(places) < count:
            places = _first_places(bucket, self.members, count + _SPARE)
        if bucket in self._first or len(self._first) < 2 * len(self.members):
            members = tuple(member for _, _, member in places[: count + _SPARE])
            self._first[bucket] = self._age, members
        return places[:count]

    def _remembered(self, bucket: int) -> list[_Place]:
        """The first places, as far as they follow from what is remembered."""
        age, first = self._first.get(bucket, (-1, ()))
        if age == self._age:
            return [_place(bucket, member) for member in first]
        if not 0 < self._age - age <= len(self._changes):
            return []
        gone, come = self._changed_since(age)
        # Behind the last one, nobody is known who did not change.
        last = _place(bucket, first[-1])[:2]
        places = [_place(bucket, member) for member in first if member not in gone]
        new = (_place(bucket, member) for member in come)
        return sorted(places + [place for place in new if place[:2] <= last])

    def _changed_since(self, age: int) -> _Change:
        known = self._since.get(age)
        if known is None:
            gone: frozenset[Member] = frozenset()
            come: frozenset[Member] = frozenset()
            for went, came in self._changes[age - self._age :]:
                gone, come = gone | went, come - went | came
            known = self._since[age] = gone, come
        return known
