"""From a name and a client to an Answer: which instances, in which order, for how long, and why.

`resolve` reads one snapshot and nothing else.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

from meshd.core.hashing import client_bucket, permuted
from meshd.core.ladder import Ladder, lead, rank_first, rank_rest
from meshd.core.model import Port, Prefix
from meshd.core.motion import NOT_DRAWN, STILL, Draw
from meshd.core.names import Place
from meshd.core.ranges import NEUTRAL, Policy
from meshd.core.ranking import Leaders, Member, Ranked
from meshd.core.selector import LATEST, Arm, Channel, Exact, Family, Selector, Split, select
from meshd.core.snapshot import ServiceView, Snapshot
from meshd.core.ttl import TtlTerms, answer_ttl
from meshd.core.verdict import Verdict


class Client(NamedTuple):
    """Where a question comes from: IP version, address as a number, how many bits are known."""

    version: int
    address: int
    length: int

    @classmethod
    def parse(cls, text: str) -> "Client | None":
        """Read an address or prefix; /0 is no client. Invalid if it is neither."""
        prefix = Prefix.parse(text)
        return cls(*prefix) if prefix.length else None

    def __str__(self) -> str:
        made = IPv4Address if self.version == 4 else IPv6Address
        return f"{made(self.address)}/{self.length}"


class Status(StrEnum):
    """What came of a question."""

    FOUND = "found"
    NO_NAME = "no such name"
    NOT_OURS = "not in a zone of ours"
    NOT_READY = "no instance is ready"


@dataclass(frozen=True, slots=True)
class Spot:
    """What the labels in front of a service name ask for; all empty for the name itself."""

    port: Port | None = None
    version: Arm | None = None
    pop: str | None = None
    member: Member | None = None
    is_empty: bool = False

    @property
    def is_asked(self) -> bool:
        """True if it names a version or an instance."""
        return self.version is not None or self.member is not None

    @property
    def is_fixed(self) -> bool:
        """True if no client sees anything else than another."""
        return self.is_empty or self.member is not None


class Locus(NamedTuple):
    """What an answer of one service depends on of the client."""

    policy: Policy
    bucket: int
    key_length: int


@dataclass(frozen=True)
class Choice:
    """The instances for one (service, spot, Range policy, bucket), best first.

    `chosen` is the set that A and AAAA show; what else is in the order is ranked when asked.
    """

    chosen: tuple[Ranked, ...]
    ttl: TtlTerms
    selector: Selector
    arm: Arm
    ladder: Ladder
    order: "Order"
    is_keyed: bool
    draw: Draw

    @property
    def is_asked(self) -> bool:
        """True if a name asks for a version or an instance."""
        return self.order.spot.is_asked

    @cached_property
    def first(self) -> tuple[Ranked, ...]:
        """The tier that `chosen` was taken from."""
        return tuple(self.order.first())

    @cached_property
    def ranked(self) -> tuple[Ranked, ...]:
        """The first tier and all that follows it."""
        return (*self.first, *self.order.rest())

    def following(self, count: int) -> Sequence[Ranked]:
        """The first `count` of those that follow the first tier."""
        return self.order.rest(count)


class Answer(NamedTuple):
    """What came of a question, with all that it was decided on."""

    status: Status
    place: Place | None = None
    spot: Spot | None = None
    view: ServiceView | None = None
    locus: Locus | None = None
    choice: Choice | None = None
    scope: int = 0


def resolve(snapshot: Snapshot, name: bytes, client: Client | None) -> Answer:
    """Answer for a lower-cased wire name (RFC 1035 3.1) and a client, or None for no client."""
    return decide(snapshot, aim(snapshot, name, client), client)


def aim(snapshot: Snapshot, name: bytes, client: Client | None) -> Answer:
    """The part of `resolve` that finds what is asked, for whom: by it, answers are remembered."""
    place = snapshot.directory.find(name)
    if place is None:
        return Answer(Status.NOT_OURS)
    if not place.service:
        return Answer(Status.FOUND if place.exists else Status.NO_NAME, place)
    view = snapshot.views[place.service]
    spot = find_spot(view, place.front)
    if spot is None:
        return Answer(Status.NO_NAME, place, view=view)
    locus = None if spot.is_empty else locate(snapshot, view, client)
    return Answer(Status.FOUND, place, spot, view, locus)


def decide(snapshot: Snapshot, aimed: Answer, client: Client | None) -> Answer:
    """The part of `resolve` that ranks."""
    view, spot, locus = aimed.view, aimed.spot, aimed.locus
    if view is None or spot is None or locus is None:
        return aimed
    choice = choose(view, spot, locus.policy, locus.bucket)
    scope = 0 if spot.is_fixed else scope_of(snapshot, choice.is_keyed, locus, client)
    closed = choice.ladder.all_down and not view.service.fail_open
    status = Status.NOT_READY if closed and spot.member is None else Status.FOUND
    return aimed._replace(status=status, choice=choice, scope=scope)


def locate(snapshot: Snapshot, view: ServiceView, client: Client | None) -> Locus:
    """The policy and bucket of a client as one service sees it."""
    if client is None:
        return Locus(NEUTRAL, 0, 0)
    version, address, length = client
    policy = snapshot.topology.ranges.family(version).policy(address)
    sticky = view.service.sticky
    kept = min(length, sticky.v4 if version == 4 else sticky.v6)
    bits = 32 if version == 4 else 128
    return Locus(policy, client_bucket(address >> bits - kept, kept), kept)


def scope_of(snapshot: Snapshot, is_keyed: bool, locus: Locus, client: Client | None) -> int:
    """The shortest prefix around the client with this answer (RFC 7871 7.2.1), 0 without one."""
    if client is None:
        return 0
    table = snapshot.topology.ranges.family(client.version)
    return table.scope(client.address, locus.key_length if is_keyed else 0)


def find_spot(view: ServiceView, front: Sequence[bytes]) -> Spot | None:
    """What stands at the labels in front of a service name; None if nothing does."""
    labels = [label.decode("latin-1") for label in front]
    port: Port | None = None
    if labels and labels[-1] in ("_tcp", "_udp") and len(labels) == 1:
        known = any(each.proto == labels[0][1:] for each in view.service.ports)
        return Spot(is_empty=True) if known else None
    if len(labels) >= 2 and labels[0][:1] == "_" and labels[1][:1] == "_":
        wanted = (labels[0][1:], labels[1][1:])
        port = next((p for p in view.service.ports if (p.name, p.proto) == wanted), None)
        labels = labels[2:]
        if port is None:
            return None
    if not labels:
        return Spot(port)
    if labels[-1] not in ("version", "pop", "instance") or len(labels) > 2:
        return None
    return _selected(view, labels, port)


def _selected(view: ServiceView, labels: Sequence[str], port: Port | None) -> Spot | None:
    if len(labels) == 1:
        # `instance.api...` is there because names below it may be.
        return Spot(is_empty=True) if port is None else None
    value, kind = labels
    if kind == "version":
        arm = _arm_of_label(view, value)
        return Spot(port, version=arm) if arm else None
    if kind == "pop":
        return Spot(port, pop=value) if value in view.pops else None
    found = next((m for m in view.members if m.instance.name == value), None)
    return Spot(port, member=found) if found else None


def _arm_of_label(view: ServiceView, label: str) -> Arm | None:
    """`1-2-0` is a version, `1-2` all of 1.2.*, `latest` and channels by name."""
    if label == "latest":
        return LATEST
    if label in view.channels:
        return Channel(label)
    exact = next((version for version in view.versions if version.label == label), None)
    if exact is not None:
        return Exact(exact)
    parts = label.split("-")
    if len(parts) > 3 or not all(part.isdigit() for part in parts):
        return None
    numbers = tuple(map(int, parts))
    family = Family(numbers)
    return family if select(family, view.versions, {}) else None


def choose(view: ServiceView, spot: Spot, policy: Policy, bucket: int) -> Choice:
    """Rank the instances of one spot for a policy and bucket."""
    own = policy.selectors.get(view.service.name, view.service.selector)
    draw = NOT_DRAWN if spot.is_asked else drawn(view, policy, bucket)
    selector = spot.version or draw.selector or own
    arm = selector
    if isinstance(arm, Split):
        arm = arm.arm_at(permuted(bucket, view.salt))
    ladder = view.ladder(policy.pop, arm, is_asked=spot.is_asked)
    order = Order(view, spot, ladder, bucket)
    # Resolvers shuffle what A and AAAA show: who should get no clients must not be among them.
    chosen = tuple(order.lead(view.service.max_answers))
    is_keyed = not ladder.is_fixed or isinstance(selector, Split) or draw.is_keyed
    members = [ranked.member for ranked in chosen]
    ttl = answer_ttl(view.service, members, ladder.all_down, draw.most_s)
    return Choice(chosen, ttl, selector, arm, ladder, order, is_keyed, draw)


def drawn(view: ServiceView, policy: Policy, bucket: int) -> Draw:
    """What experiments and rollouts make of a policy and bucket."""
    if view.motion is STILL:
        return NOT_DRAWN
    own = policy.selectors.get(view.service.name)
    return view.motion.draw(policy, bucket, own, view.channels)


class Order(NamedTuple):
    """The order at one spot for a bucket."""

    view: ServiceView
    spot: Spot
    ladder: Ladder
    bucket: int

    def lead(self, count: int) -> Sequence[Ranked]:
        """The first `count` of the first tier, ejected ones only if all are."""
        if self.spot.member is None and self.spot.pop is None:
            return lead(self.ladder, self.bucket, self.view.salt, count)
        first = self.first()
        return ([ranked for ranked in first if not ranked.member.is_ejected] or first)[:count]

    def first(self) -> Sequence[Ranked]:
        """The first tier."""
        if self.spot.member is not None:
            return [Ranked(self.spot.member, 0, 0)]
        first = rank_first(self.ladder, self.bucket, self.view.salt)
        if self.spot.pop is None:
            return first
        rest = rank_rest(self.ladder, self.bucket, self.view.salt)
        return _only_pop(self.view, first + rest, self.spot.pop)

    def rest(self, count: int | None = None) -> Sequence[Ranked]:
        """What follows the first tier, or the first `count` of it."""
        if self.spot.member is not None or self.spot.pop is not None:
            return ()
        ladder = self.ladder
        if self.spot.version is not None:
            # Who asks for a version gets no other one behind it.
            ladder = replace(ladder, tail=Leaders(()))
        return rank_rest(ladder, self.bucket, self.view.salt, count)


def _only_pop(view: ServiceView, ranked: Sequence[Ranked], pop: str) -> Sequence[Ranked]:
    """Keep one Pop; where none of it is ready, all of it that is not forced down."""
    kept = [
        Ranked(entry.member, 0, entry.cost) for entry in ranked if entry.member.instance.pop == pop
    ]
    if not kept:
        kept = [
            Ranked(member, 0, 0)
            for member in view.members
            if member.instance.pop == pop and member.verdict is not Verdict.FORCED_DOWN
        ]
    return kept
