"""The ladder that a client sees: tiers (one per Pop) by nearness, and which of them is its own."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter
from typing import NamedTuple

from meshd.core.hashing import BUCKETS, permuted
from meshd.core.ranking import Leaders, Member, Ranked, ordered
from meshd.core.selector import Version
from meshd.core.verdict import Verdict

# A tier takes all its clients until this much of its capacity is gone (as Envoy: 1.4 -> 29 %).
_OVERPROVISIONING = 1.4
# All members as one tier: the neutral view.
EVERYWHERE = ""
# Where the leaders of the tail are kept; no Pop is called so.
_TAIL = "*"

_KEPT = attrgetter("signal.kept")


@dataclass(frozen=True, slots=True)
class Tier:
    """The members of one Pop, nearness already decided, and the share of clients it takes."""

    pop: str
    health: float
    leaders: Leaders

    @property
    def members(self) -> Sequence[Member]:
        """Who may be answered."""
        return self.leaders.members


def tier_health(sure: Sequence[Member], whole: Sequence[Member]) -> float:
    """The share of its clients that a tier can take, by capacity: who is sure, of the whole."""
    if len(sure) == len(whole):
        return 1.0
    room = sum(member.room for member in sure)
    return min(1.0, _OVERPROVISIONING * room / sum(member.room for member in whole))


class Spare(NamedTuple):
    """The members of one version that was not chosen; `is_last`: there only for want of others."""

    version: Version
    members: Sequence[Member]
    is_last: bool


class Rungs:
    """Who may be answered under one arm of a selector; tiers are made when asked for.

    `tail` holds members of other versions; `all_down` says that nobody is ready and all stand in.
    `leaders` are those of the view before, by Pop.
    """

    __slots__ = ("_by_pop", "_tiers", "_usable", "all_down", "leaders", "note", "tail")

    def __init__(
        self,
        wanted: Sequence[Member],
        others: Sequence[Spare],
        leaders: Mapping[str, Leaders],
    ) -> None:
        """When no wanted member is ready the next best version takes over, the first of `others`
        that is; when nobody is, all of one version stand in.
        """
        self.note = ""
        usable = _not_forced_down(wanted)
        if not _is_any_ready(usable):
            best = _next_best(others, is_needed=not usable)
            if best is not None:
                self.note = (
                    f"no instance of the selected version is ready: {best.version} takes over"
                )
                usable = _not_forced_down(best.members)
                others = [spare for spare in others if spare is not best]
        self.all_down = bool(usable) and not _is_any_ready(usable)
        if self.all_down:
            said = "no instance is ready: all that are not forced down are answered"
            self.note = f"{self.note}; {said}" if self.note else said
        self.leaders = dict(leaders)
        self._usable = usable
        self._by_pop: dict[str, list[Member]] = {}
        for member in usable:
            self._by_pop.setdefault(member.instance.pop, []).append(member)
        self._tiers: dict[str, Tier | None] = {}
        shown = (member for spare in others if not spare.is_last for member in spare.members)
        self.tail = self._lead(_TAIL, [member for member in shown if member.is_ready])

    @property
    def pops(self) -> Iterable[str]:
        """The Pops in which somebody may be answered."""
        return self._by_pop

    def tier(self, pop: str) -> Tier | None:
        """The tier of a Pop, or of all (EVERYWHERE); None if nobody is ready there."""
        if pop not in self._tiers:
            here = self._by_pop.get(pop, []) if pop else self._usable
            self._tiers[pop] = self._made(pop, here)
        return self._tiers[pop]

    def _made(self, pop: str, here: Sequence[Member]) -> Tier | None:
        if self.all_down:
            return Tier(pop, 1.0, self._lead(pop, here)) if here else None
        ready = [member for member in here if member.is_ready]
        if not ready:
            return None
        sure = [member for member in ready if not member.resort]
        health = tier_health(sure, here)
        kept = min(map(_KEPT, ready))
        return Tier(pop, min(health, kept), self._lead(pop, ready))

    def _lead(self, pop: str, members: Sequence[Member]) -> Leaders:
        made = Leaders(members, self.leaders.pop(pop, None))
        if made.is_many:
            self.leaders[pop] = made
        return made


def _next_best(spares: Sequence[Spare], *, is_needed: bool) -> Spare | None:
    """The first version of which anybody is ready; if one is needed, else the first usable one."""
    ready = next((spare for spare in spares if _is_any_ready(spare.members)), None)
    if ready is not None or not is_needed:
        return ready
    return next((spare for spare in spares if _not_forced_down(spare.members)), None)


def _not_forced_down(members: Sequence[Member]) -> list[Member]:
    forced_down = Verdict.FORCED_DOWN
    return [member for member in members if member.verdict is not forced_down]


def _is_any_ready(members: Sequence[Member]) -> bool:
    return any(member.is_ready for member in members)


@dataclass(frozen=True)
class Ladder:
    """Tiers nearest first, and below them what only explicit orders show (as in `Rungs`)."""

    tiers: tuple[Tier, ...]
    tail: Leaders
    all_down: bool
    note: str

    @classmethod
    def of(cls, rungs: Rungs, pops: Iterable[str]) -> "Ladder":
        """The tiers in the order of their Pops."""
        tiers = tuple(tier for pop in pops if (tier := rungs.tier(pop)))
        return cls(tiers, rungs.tail, rungs.all_down, rungs.note)

    @property
    def is_fixed(self) -> bool:
        """True if every bucket gets the same order."""
        return sum(len(tier.members) for tier in self.tiers) + len(self.tail.members) <= 1

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


def rank_first(ladder: Ladder, bucket: int, salt: int) -> list[Ranked]:
    """The order inside the tier that this bucket is sent to."""
    if not ladder.tiers:
        return []
    return ordered(ladder.tiers[ladder.first_tier(bucket, salt)].members, bucket, 0)


def lead(ladder: Ladder, bucket: int, salt: int, count: int) -> list[Ranked]:
    """The first `count` of the tier that this bucket is sent to, ejected ones only if all are."""
    if not ladder.tiers:
        return []
    found = ladder.tiers[ladder.first_tier(bucket, salt)].leaders.first(bucket, count, 0)
    return [ranked for ranked in found if not ranked.member.is_ejected] or found


def rank_rest(ladder: Ladder, bucket: int, salt: int, count: int | None = None) -> list[Ranked]:
    """What follows the first tier: the other tiers by nearness, then other versions.

    With a `count`, only so many.
    """
    first = ladder.first_tier(bucket, salt)
    rest = [tier.leaders for index, tier in enumerate(ladder.tiers) if index != first]
    found: list[Ranked] = []
    for tier, leaders in enumerate((each for each in (*rest, ladder.tail) if each.members), 1):
        if count is None:
            found += ordered(leaders.members, bucket, tier)
        elif len(found) < count:
            found += _first(leaders, bucket, tier, count - len(found))
    return found


def _first(leaders: Leaders, bucket: int, tier: int, count: int) -> Sequence[Ranked]:
    found = leaders.first(bucket, count, tier)
    if found[-1].member.is_last_resort:
        # Explicit orders do not put who is held back before who is ejected.
        return ordered(leaders.members, bucket, tier)[:count]
    return found
