"""Topology and signals, frozen: all that an answer is made from.

A snapshot is made from the one before; views of services that did not change are shared, and
with them what was remembered of their answers.
"""

from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from operator import attrgetter
from typing import Any, NamedTuple

from meshd.core.hashing import seed
from meshd.core.ladder import EVERYWHERE, Ladder, Rungs, Spare
from meshd.core.model import Instance, Pop, Service
from meshd.core.motion import STILL, Motion
from meshd.core.names import Directory
from meshd.core.nearness import Nearness
from meshd.core.ranges import Policy
from meshd.core.ranking import Leaders, Member
from meshd.core.renewal import motions_after, motions_of, renewed, rosters_after, touch
from meshd.core.selector import Arm, Channel, Exact, Version, by_nearness, select
from meshd.core.signals import NO_SIGNAL, Signal
from meshd.core.topology import Change, Kind, Topology
from meshd.core.verdict import Verdict, combine

# Ladders of one view; distinct (Pop, selector arm) pairs beyond it are worked out each time.
_MEMO_LADDERS = 4096

# Instances that are looked at in one step.
_STEP = 100

_NAME = attrgetter("instance.name")


class Shape(NamedTuple):
    """What some instances have: IP versions in order, and versions in the order of their texts."""

    families: tuple[int, ...]
    versions: tuple[Version, ...]

    @classmethod
    def of(cls, members: Iterable[Member]) -> "Shape":
        """The shape of some members."""
        instances = [member.instance for member in members]
        families = {address.version for each in instances for address in each.addresses}
        versions = {each.version.text: each.version for each in instances}
        return cls(tuple(sorted(families)), tuple(versions[text] for text in sorted(versions)))

    def with_all(self, members: Iterable[Member]) -> "Shape":
        """The shape with more members."""
        other = Shape.of(members)
        families = {*self.families, *other.families}
        versions = {version.text: version for version in (*other.versions, *self.versions)}
        return Shape(tuple(sorted(families)), tuple(versions[text] for text in sorted(versions)))


# An arm, and whether it sees hidden versions.
_Sight = tuple[Arm, bool]


class ServiceView:
    """One service with its members as judged now, and memos of what follows from them."""

    __slots__ = (
        "_hidden",
        "_keys",
        "_ladders",
        "_leaders",
        "_nearness",
        "_rungs",
        "channels",
        "members",
        "motion",
        "policy_keys",
        "replies",
        "salt",
        "service",
        "shape",
    )

    def __init__(
        self,
        service: Service,
        members: Sequence[Member],
        nearness: Nearness,
        shape: Shape,
        leaders: Mapping[_Sight, Mapping[str, Leaders]],
        motion: Motion,
    ) -> None:
        """`members` in the order of their names; `leaders` of the view before, by arm and Pop."""
        self.service = service
        self.motion = motion
        self._hidden: Mapping[str, str] | None = None if motion is not STILL else {}
        self.members = tuple(members)
        self.salt = seed(service.name)
        self.channels = dict(service.channels)
        self.shape = shape
        # Finished replies, filled by the answerer: slot -> (policy key, bucket) -> reply.
        self.replies: dict[Any, dict[int, Any]] = {}
        self._nearness = nearness
        self._leaders = leaders
        self._rungs: dict[_Sight, Rungs] = {}
        self._ladders: dict[tuple[str | None, _Sight], Ladder] = {}
        self._keys: dict[tuple[str | None, object, frozenset[str]], int] = {}
        # Policy -> its small number, as `policy_key` gave it out.
        self.policy_keys: dict[Policy, int] = {}

    @classmethod
    def of(
        cls,
        service: Service,
        members: Iterable[Member],
        nearness: Nearness,
        motion: Motion = STILL,
    ) -> "ServiceView":
        """A view that follows no other."""
        found = sorted(members, key=_NAME)
        return cls(service, found, nearness, Shape.of(found), {}, motion)

    def changed(
        self,
        service: Service,
        nearness: Nearness,
        news: Mapping[str, Member | None],
        motion: Motion,
    ) -> "ServiceView":
        """The view after some members changed (None: it is a member no more)."""
        members = list(self.members)
        come: list[Member] = []
        is_any_gone = False
        for name, member in news.items():
            at = bisect_left(members, name, key=_NAME)
            old = members[at : at + 1]
            if not old or old[0].instance.name != name:
                old = []
            members[at : at + len(old)] = [member] if member else []
            # Of who is only judged anew, the shape is known.
            if not (member and old and member.instance is old[0].instance):
                come += [member] if member else []
                is_any_gone = is_any_gone or bool(old)
        shape = self.shape
        if is_any_gone:
            shape = Shape.of(members)
        elif come:
            shape = shape.with_all(come)
        leaders = {**self._leaders, **{arm: each.leaders for arm, each in self._rungs.items()}}
        kept = {arm: each for arm, each in leaders.items() if each}
        return ServiceView(service, members, nearness, shape, kept, motion)

    @property
    def pops(self) -> Mapping[str, Pop]:
        """All Pops."""
        return self._nearness.pops

    @property
    def families(self) -> tuple[int, ...]:
        """IP versions that some instance has an address of."""
        return self.shape.families

    @property
    def versions(self) -> tuple[Version, ...]:
        """The versions that are served, each by its text."""
        return self.shape.versions

    @property
    def hidden(self) -> Mapping[str, str]:
        """The texts of served versions that selectors do not see, and why."""
        if self._hidden is None:
            why = {version.text: self.motion.why_hidden(version) for version in self.versions}
            self._hidden = {text: said for text, said in why.items() if said}
        return self._hidden

    def chosen(self, arm: Arm, *, is_asked: bool = False) -> frozenset[Version]:
        """The versions, of those served, that an arm stands for; hidden ones only for want of
        others, or where it names them or a name asks for them.
        """
        if self.hidden and not is_asked and not isinstance(arm, Exact | Channel):
            seen = [version for version in self.versions if version.text not in self.hidden]
            found = select(arm, seen, self.channels)
            if found:
                return found
        return select(arm, self.versions, self.channels)

    def policy_key(self, policy: Policy) -> int:
        """A small number, equal for policies that this service cannot tell apart."""
        key = self.policy_keys.get(policy)
        if key is None:
            marks = policy.marks & self.motion.marks if policy.marks else policy.marks
            told_apart = (policy.pop, policy.selectors.get(self.service.name), marks)
            key = self._keys.setdefault(told_apart, len(self._keys))
            self.policy_keys[policy] = key
        return key

    def ladder(self, pop: str | None, arm: Arm, *, is_asked: bool = False) -> Ladder:
        """The tiers that clients of a Pop see under one arm of a selector.

        `is_asked`: a name asks for it, so that hidden versions are seen.
        """
        sight = arm, is_asked and bool(self.hidden)
        ladder = self._ladders.get((pop, sight))
        if ladder is None:
            rungs = self._rungs_under(sight)
            ladder = Ladder.of(rungs, self._pop_order(pop, rungs))
            if len(self._ladders) < _MEMO_LADDERS:
                self._ladders[pop, sight] = ladder
        return ladder

    def _rungs_under(self, sight: _Sight) -> Rungs:
        rungs = self._rungs.get(sight)
        if rungs is None:
            rungs = Rungs(*self._parted(*sight), self._leaders.get(sight, {}))
            if len(self._rungs) < _MEMO_LADDERS:
                self._rungs[sight] = rungs
        return rungs

    def _parted(self, arm: Arm, is_asked: bool) -> tuple[Sequence[Member], Sequence[Spare]]:
        """The members that an arm stands for, and the others by version, the next best first."""
        chosen = self.chosen(arm, is_asked=is_asked)
        # By text: versions are slow to compare.
        texts = {version.text for version in self.versions if version in chosen}
        if len(texts) == len(self.versions):
            return self.members, ()
        left = [version for version in self.versions if version.text not in texts]
        order = by_nearness(arm, chosen, left, self.channels)
        spares = {version: list[Member]() for version in order}
        by_text = {version.text: spares[version] for version in left}
        wanted: list[Member] = []
        for member in self.members:
            by_text.get(member.instance.version.text, wanted).append(member)
        found = [
            Spare(version, held, not version.is_release or version.text in self.hidden)
            for version, held in spares.items()
        ]
        return wanted, sorted(found, key=attrgetter("is_last"))

    def _pop_order(self, pop: str | None, rungs: Rungs) -> Iterable[str]:
        if pop is None:
            return (EVERYWHERE,)
        return dict.fromkeys((*self._nearness[pop], *sorted(rungs.pops)))


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One moment: what was decided, what is known, and a view for each service."""

    topology: Topology
    signals: Mapping[str, Signal]
    views: Mapping[str, ServiceView]
    rosters: Mapping[str, frozenset[str]] = field(repr=False)
    directory: Directory = field(repr=False)
    nearness: Nearness = field(repr=False, compare=False)

    @classmethod
    def build(cls, topology: Topology, signals: Mapping[str, Signal] | None = None) -> "Snapshot":
        """Make a snapshot of nothing but its parts."""
        rosters: dict[str, set[str]] = {name: set() for name in topology.services}
        for instance in topology.instances.values():
            rosters.setdefault(instance.service, set()).add(instance.name)
        frozen = {name: frozenset(roster) for name, roster in rosters.items()}
        signals = signals or {}
        nearness = Nearness(topology.pops)
        judge = partial(_member, topology, signals)
        motions = motions_of(topology, topology.services)
        views = {
            name: ServiceView.of(service, map(judge, frozen[name]), nearness, motions[name])
            for name, service in topology.services.items()
        }
        directory = Directory.build(topology.zones.values(), topology.services.values())
        return cls(topology, signals, views, frozen, directory, nearness)

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
        """As `advance`, in steps of less than a millisecond; the last one yields it.

        Steps that copy a table of the topology take longer, if it is large.
        """
        topology = self.topology
        if revision is not None:
            topology = topology.apply(changes, revision)
            yield None
        known = _updated(self.signals, signals or {})
        yield None
        rosters = rosters_after(self.rosters, self.topology, changes)
        yield None
        motions = motions_after(self.topology, topology, changes)
        yield None
        kinds = {change.kind for change in changes}
        touched = {change.name: set[str]() for change in changes if change.kind is Kind.SERVICES}
        nearness, directory = self.nearness, self.directory
        if Kind.POPS in kinds:
            nearness = Nearness(topology.pops)
            touched = {name: set() for name in (*self.views, *topology.services)}
        for name, motion in motions.items():
            if name in self.views and motion != self.views[name].motion:
                touched.setdefault(name, set())
        if kinds & {Kind.ZONES, Kind.SERVICES}:
            directory = Directory.build(topology.zones.values(), topology.services.values())
        for part in _parts(renewed(topology, changes, signals or {})):
            touch(touched, (self.topology, topology), part)
            yield None
        views = dict(self.views)
        after = Snapshot(topology, known, views, rosters, directory, nearness)
        for name, instances in touched.items():
            yield from after._renew(views, motions, name, instances)
        yield after if touched else replace(after, views=self.views)

    def _renew(
        self,
        views: dict[str, ServiceView],
        motions: Mapping[str, Motion],
        name: str,
        instances: Collection[str],
    ) -> Iterator[None]:
        """Make the view of a service anew, of which these instances must be judged."""
        view = views.pop(name, None)
        service = self.topology.services.get(name)
        if service is None:
            return
        roster = self.rosters.get(name, frozenset())
        if view is None:
            view, instances = ServiceView.of(service, (), self.nearness), roster
        motion = motions.get(name, view.motion)
        for part in _parts(instances):
            news = {
                each: _member(self.topology, self.signals, each) if each in roster else None
                for each in part
            }
            view = view.changed(service, self.nearness, news, motion)
            yield None
        views[name] = view


def _parts(names: Collection[str]) -> Iterator[Collection[str]]:
    """Names in parts that take less than a millisecond; at least one part, be it empty."""
    held = list(names)
    for at in range(0, max(1, len(held)), _STEP):
        yield held[at : at + _STEP]


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


def _member(topology: Topology, signals: Mapping[str, Signal], name: str) -> Member:
    instance = topology.instances[name]
    signal = signals.get(name, NO_SIGNAL)
    return Member.of(instance, _verdict(topology, signal, instance), signal)


def _verdict(topology: Topology, signal: Signal, instance: Instance) -> Verdict:
    present = not instance.registered or instance.name in topology.presence
    return combine(signal.verdict, present, signal.held, topology.force_on(instance.name))
