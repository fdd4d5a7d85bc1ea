"""Topology and signals, frozen: all that an answer is made from.

A snapshot is made from the one before; views of services that did not change are shared, and
with them what was remembered of their answers.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import asin, cos, radians, sin, sqrt
from typing import Any

from meshd.core.hashing import seed
from meshd.core.model import Instance, Pop, Service
from meshd.core.names import Directory
from meshd.core.ranges import Policy
from meshd.core.ranking import Ladder, Member, build_ladder
from meshd.core.selector import Arm, select
from meshd.core.signals import NO_SIGNAL, Signal
from meshd.core.topology import Change, Kind, Topology
from meshd.core.verdict import Verdict, combine

# Ladders of one view; distinct (Pop, selector arm) pairs beyond it are worked out each time.
_MEMO_LADDERS = 4096


def pops_by_nearness(pop: str, pops: Mapping[str, Pop]) -> tuple[str, ...]:
    """A Pop, its fallback list, then the others by distance, those without location last."""
    home = pops.get(pop)
    fixed = (pop, *(home.fallback if home else ()))
    others = sorted(
        (name for name in pops if name not in fixed),
        key=lambda name: (_distance(home, pops[name]), name),
    )
    return tuple(dict.fromkeys((*fixed, *others)))


def _distance(one: Pop | None, other: Pop) -> float:
    """Great-circle distance in degrees (haversine); infinite where a location is missing."""
    if one is None or one.location is None or other.location is None:
        return float("inf")
    lat1, lon1, lat2, lon2 = (radians(x) for x in (*one.location, *other.location))
    half = sin((lat2 - lat1) / 2) ** 2 + cos(lat1) * cos(lat2) * sin((lon2 - lon1) / 2) ** 2
    # Rounded, so that equal distances are equal on every machine.
    return round(2 * asin(min(1.0, sqrt(half))), 6)


class ServiceView:
    """One service with its members as judged now, and memos of what follows from them."""

    __slots__ = (
        "_keys",
        "_ladders",
        "channels",
        "families",
        "members",
        "policy_keys",
        "pops",
        "replies",
        "salt",
        "service",
        "versions",
    )

    def __init__(
        self, service: Service, members: Sequence[Member], pops: Mapping[str, Pop]
    ) -> None:
        self.service = service
        self.members = tuple(sorted(members, key=lambda member: member.instance.name))
        self.pops = pops
        self.salt = seed(service.name)
        self.channels = dict(service.channels)
        # IP versions that some instance has an address of.
        self.families = tuple(
            sorted({a.version for member in self.members for a in member.instance.addresses})
        )
        self.versions = frozenset(member.instance.version for member in self.members)
        # Finished replies, filled by the answerer: slot -> (policy key, bucket) -> reply.
        self.replies: dict[Any, dict[int, Any]] = {}
        self._ladders: dict[tuple[str | None, Arm], Ladder] = {}
        self._keys: dict[tuple[str | None, object], int] = {}
        # Policy -> its small number, as `policy_key` gave it out.
        self.policy_keys: dict[Policy, int] = {}

    def policy_key(self, policy: Policy) -> int:
        """A small number, equal for policies that this service cannot tell apart."""
        key = self.policy_keys.get(policy)
        if key is None:
            told_apart = (policy.pop, policy.selectors.get(self.service.name))
            key = self._keys.setdefault(told_apart, len(self._keys))
            self.policy_keys[policy] = key
        return key

    def ladder(self, pop: str | None, arm: Arm) -> Ladder:
        """The tiers that clients of a Pop see under one arm of a selector."""
        ladder = self._ladders.get((pop, arm))
        if ladder is None:
            chosen = select(arm, self.versions, self.channels)
            wanted = [m for m in self.members if m.instance.version in chosen]
            others = [m for m in self.members if m.instance.version not in chosen]
            ladder = build_ladder(wanted, others, self._pop_order(pop))
            if len(self._ladders) < _MEMO_LADDERS:
                self._ladders[pop, arm] = ladder
        return ladder

    def _pop_order(self, pop: str | None) -> tuple[str, ...]:
        if pop is None:
            return ()
        present = sorted({member.instance.pop for member in self.members})
        return tuple(dict.fromkeys((*pops_by_nearness(pop, self.pops), *present)))


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One moment: what was decided, what is known, and a view for each service."""

    topology: Topology
    signals: Mapping[str, Signal]
    views: Mapping[str, ServiceView]
    rosters: Mapping[str, frozenset[str]] = field(repr=False)
    directory: Directory = field(repr=False)

    @classmethod
    def build(cls, topology: Topology, signals: Mapping[str, Signal] | None = None) -> "Snapshot":
        """Make a snapshot of nothing but its parts."""
        rosters: dict[str, set[str]] = {name: set() for name in topology.services}
        for instance in topology.instances.values():
            rosters.setdefault(instance.service, set()).add(instance.name)
        frozen = {name: frozenset(roster) for name, roster in rosters.items()}
        signals = signals or {}
        views = {
            name: _view(topology, signals, service, frozen[name])
            for name, service in topology.services.items()
        }
        directory = Directory.build(topology.zones.values(), topology.services.values())
        return cls(topology, signals, views, frozen, directory)

    def verdict(self, instance: Instance) -> Verdict:
        """The verdict that counts for an instance."""
        return _verdict(self.topology, self.signals.get(instance.name, NO_SIGNAL), instance)

    def advance(
        self,
        changes: Sequence[Change] = (),
        revision: int | None = None,
        signals: Mapping[str, Signal | None] | None = None,
    ) -> "Snapshot":
        """The snapshot after committed changes and new signals (None: known no more)."""
        *_, after = self.advancing(changes, revision, signals)
        assert after is not None, "the last step is the snapshot"
        return after

    def advancing(
        self,
        changes: Sequence[Change],
        revision: int | None,
        signals: Mapping[str, Signal | None] | None,
    ) -> Iterator["Snapshot | None"]:
        """As `advance`, a step for each service that is made anew; the last one yields it."""
        topology = self.topology
        if revision is not None:
            topology = topology.apply(changes, revision)
        known = _updated(self.signals, signals or {})
        rosters = _rosters_after(self.rosters, self.topology, changes)
        kinds = {change.kind for change in changes}
        renewed = _renewed(topology, changes, signals or {})
        touched = _touched(self.topology, topology, changes, renewed)
        if Kind.POPS in kinds:
            touched = set(self.views) | set(topology.services)
        views = dict(self.views) if touched else self.views
        for name in touched:
            service = topology.services.get(name)
            if service is None:
                views.pop(name, None)  # type: ignore[attr-defined]
            else:
                held = _held(self.views.get(name), renewed)
                roster = rosters.get(name, frozenset())
                views[name] = _view(topology, known, service, roster, held)  # type: ignore[index]
            yield None
        directory = self.directory
        if kinds & {Kind.ZONES, Kind.SERVICES}:
            directory = Directory.build(topology.zones.values(), topology.services.values())
        yield Snapshot(topology, known, views, rosters, directory)


def _updated(
    known: Mapping[str, Signal], news: Mapping[str, Signal | None]
) -> Mapping[str, Signal]:
    if not news:
        return known
    merged = {**known, **{name: signal for name, signal in news.items() if signal is not None}}
    for name, signal in news.items():
        if signal is None:
            merged.pop(name, None)
    return merged


def _view(
    topology: Topology,
    signals: Mapping[str, Signal],
    service: Service,
    roster: Iterable[str],
    held: Mapping[str, Member] | None = None,
) -> ServiceView:
    """A view; members that are `held` are as they were."""
    held = held or {}
    members = [
        held.get(name) or _member(topology, signals, topology.instances[name]) for name in roster
    ]
    return ServiceView(service, members, topology.pops)


def _held(view: ServiceView | None, renewed: Collection[str]) -> Mapping[str, Member]:
    """The members of a view that nothing has changed for."""
    members = view.members if view else ()
    return {m.instance.name: m for m in members if m.instance.name not in renewed}


def _member(topology: Topology, signals: Mapping[str, Signal], instance: Instance) -> Member:
    signal = signals.get(instance.name, NO_SIGNAL)
    return Member.of(instance, _verdict(topology, signal, instance), signal)


def _verdict(topology: Topology, signal: Signal, instance: Instance) -> Verdict:
    present = not instance.registered or instance.name in topology.presence
    return combine(signal.verdict, present, signal.held, topology.force_on(instance.name))


def _rosters_after(
    rosters: Mapping[str, frozenset[str]], before: Topology, changes: Iterable[Change]
) -> Mapping[str, frozenset[str]]:
    moved = [change for change in changes if change.kind is Kind.INSTANCES]
    if not moved:
        return rosters
    made: dict[str, set[str]] = {}
    # One instance may have changed several times.
    latest: dict[str, Instance | None] = {}
    for change in moved:
        old = latest.get(change.name, before.instances.get(change.name))
        if old is not None:
            made.setdefault(old.service, set(rosters.get(old.service, ()))).discard(change.name)
        new = change.record if isinstance(change.record, Instance) else None
        latest[change.name] = new
        if new is not None:
            made.setdefault(new.service, set(rosters.get(new.service, ()))).add(change.name)
    return {**rosters, **{service: frozenset(roster) for service, roster in made.items()}}


def _renewed(after: Topology, changes: Iterable[Change], signals: Iterable[str]) -> set[str]:
    """Instances that must be judged anew."""
    renewed = set(signals)
    for change in changes:
        if change.kind in (Kind.INSTANCES, Kind.PRESENCE):
            renewed.add(change.name)
        elif change.kind is Kind.OVERRIDES:
            renewed.update(after.matching(change.name))
    return renewed


def _touched(
    before: Topology, after: Topology, changes: Iterable[Change], instances: Iterable[str]
) -> set[str]:
    """Services whose view must be made anew."""
    touched = {change.name for change in changes if change.kind is Kind.SERVICES}
    for name in instances:
        for topology in (before, after):
            instance = topology.instances.get(name)
            if instance is not None and instance.service in after.services:
                touched.add(instance.service)
    return touched
