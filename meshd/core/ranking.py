"""Order: which instances of a service a (Range policy, bucket) gets, best first.

Tiers (one per Pop) by nearness; inside a tier weighted rendezvous. A pure function of the
view, the policy and the bucket: every node gives the same order (design section 6).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from meshd.core.hashing import BUCKETS, permuted, rendezvous_cost, seed
from meshd.core.model import Instance
from meshd.core.signals import Signal
from meshd.core.verdict import Verdict

WEIGHT_ONE = 1000
# What is held back (core/removal.py) or ejected (core/ejection.py) comes last.
_LAST_SHARE = 0.001
# A tier takes all its clients until this much of its capacity is gone (as Envoy: 1.4 -> 29 %).
_OVERPROVISIONING = 1.4


@dataclass(frozen=True, slots=True)
class Member:
    """An instance as the ranking sees it: verdict, signal, weight (1000: capacity 1)."""

    instance: Instance
    verdict: Verdict
    signal: Signal
    weight: int
    seed: int

    @classmethod
    def of(cls, instance: Instance, verdict: Verdict, signal: Signal) -> "Member":
        """Judge an instance."""
        # Squared: each call that fails costs a client, so what fails half of them gets a quarter.
        success = 1.0 if verdict is Verdict.FORCED_UP else signal.success**2
        share = _LAST_SHARE if signal.held else max(_LAST_SHARE, signal.share * success)
        weight = max(1, round(instance.capacity * share * WEIGHT_ONE))
        return cls(instance, verdict, signal, weight, seed(instance.name))

    @property
    def is_ejected(self) -> bool:
        """True if clients see it fail so often that it gets none; an operator knows better."""
        return not self.signal.success and self.verdict is not Verdict.FORCED_UP

    @property
    def is_last_resort(self) -> bool:
        """True if it is there only for want of others."""
        return self.signal.held or self.is_ejected


@dataclass(frozen=True, slots=True)
class Tier:
    """The members of one Pop, nearness already decided, and the share of clients it takes."""

    pop: str
    members: tuple[Member, ...]
    health: float


@dataclass(frozen=True)
class Ladder:
    """Tiers nearest first, and below them what only explicit orders show.

    `tail` holds members of other versions; `all_down` says that nobody is ready and all stand in.
    """

    tiers: tuple[Tier, ...]
    tail: tuple[Member, ...]
    all_down: bool
    note: str

    @property
    def is_fixed(self) -> bool:
        """True if every bucket gets the same order."""
        return sum(len(tier.members) for tier in self.tiers) + len(self.tail) <= 1

    @cached_property
    def thresholds(self) -> tuple[int, ...]:
        """Bucket positions at which each tier's clients end (Envoy's priority levels)."""
        whole = sum(tier.health for tier in self.tiers)
        scale = 1.0 if whole >= 1 or whole == 0 else 1 / whole
        reached = 0.0
        ends = []
        for tier in self.tiers:
            reached = min(1.0, reached + tier.health * scale)
            ends.append(round(reached * BUCKETS))
        return tuple(ends)

    def first_tier(self, bucket: int, salt: int) -> int:
        """The tier that a bucket is sent to: whole buckets spill, not all clients at once."""
        position = permuted(bucket, salt)
        for index, end in enumerate(self.thresholds):
            if position < end:
                return index
        return 0


def tier_health(ready: int, whole: int) -> float:
    """The share of its clients that a tier can take, by ready and whole capacity."""
    return min(1.0, _OVERPROVISIONING * ready / whole) if whole else 0.0


def build_ladder(wanted: Sequence[Member], others: Sequence[Member], pops: Sequence[str]) -> Ladder:
    """Sort members of the wanted versions into tiers; `others` serve only where order is explicit.

    When no wanted member is ready the others take over; when nobody is, all stand in.
    """
    note = ""
    usable = [m for m in wanted if m.verdict is not Verdict.FORCED_DOWN]
    if not any(member.verdict.is_ready for member in usable):
        spare = [m for m in others if m.verdict is not Verdict.FORCED_DOWN]
        if spare and (not usable or any(member.verdict.is_ready for member in spare)):
            note = "no instance of the selected version is ready: other versions take over"
            usable, others = spare, ()
    all_down = bool(usable) and not any(member.verdict.is_ready for member in usable)
    if all_down:
        said = "no instance is ready: all that are not forced down are answered"
        note = f"{note}; {said}" if note else said
    tiers = []
    # Without a Pop (the neutral view) all members are one tier.
    for pop in pops or ("",):
        here = [member for member in usable if pop in ("", member.instance.pop)]
        ready = tuple(member for member in here if all_down or member.verdict.is_ready)
        if ready:
            sure = [member for member in ready if all_down or not member.is_last_resort]
            health = tier_health(_capacity(sure), _capacity(here))
            kept = 1.0 if all_down else min(member.signal.kept for member in ready)
            tiers.append(Tier(pop, ready, min(health, kept)))
    tail = tuple(member for member in others if member.verdict.is_ready)
    return Ladder(tuple(tiers), tail, all_down, note)


def _capacity(members: Sequence[Member]) -> int:
    return sum(round(member.instance.capacity * WEIGHT_ONE) for member in members)


@dataclass(frozen=True, slots=True)
class Ranked:
    """A member in its place: tier 0 is the one that the client was given; cost decided inside."""

    member: Member
    tier: int
    cost: int


def ordered(members: Sequence[Member], bucket: int, tier: int) -> list[Ranked]:
    """One tier in rendezvous order."""
    costs = [
        (
            member.is_last_resort,
            rendezvous_cost(bucket, member.seed, member.weight),
            member.instance.name,
            member,
        )
        for member in members
    ]
    costs.sort(key=lambda entry: entry[:3])
    return [Ranked(member, tier, cost) for _, cost, _, member in costs]


def rank_first(ladder: Ladder, bucket: int, salt: int) -> list[Ranked]:
    """The order inside the tier that this bucket is sent to."""
    if not ladder.tiers:
        return []
    return ordered(ladder.tiers[ladder.first_tier(bucket, salt)].members, bucket, 0)


def rank_rest(ladder: Ladder, bucket: int, salt: int) -> list[Ranked]:
    """What follows the first tier: the other tiers by nearness, then other versions."""
    first = ladder.first_tier(bucket, salt)
    rest = [tier.members for index, tier in enumerate(ladder.tiers) if index != first]
    rest.append(ladder.tail)
    return [
        ranked
        for tier, members in enumerate((members for members in rest if members), start=1)
        for ranked in ordered(members, bucket, tier)
    ]
