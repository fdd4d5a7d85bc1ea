"""Why an answer is as it is: every decision of `resolve`, laid out for a person."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from meshd.core.model import Range
from meshd.core.motion import Underway
from meshd.core.names import Place
from meshd.core.ranking import Member, Ranked
from meshd.core.resolve import Answer, Choice, Client, Locus, resolve
from meshd.core.signals import headroom
from meshd.core.snapshot import ServiceView, Snapshot
from meshd.core.verdict import Verdict


@dataclass(frozen=True, slots=True)
class Line:
    """One instance in an explanation; `place` 0: not in the order, `excluded` says why."""

    member: Member
    headroom: float
    place: int
    tier: int
    cost: int
    in_set: bool
    excluded: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """An answer, the Ranges that hold the client (widest first), and where the selector is from."""

    answer: Answer
    ranges: tuple[Range, ...]
    selector_from: str
    lines: tuple[Line, ...]
    notes: tuple[str, ...]


def explain(snapshot: Snapshot, name: bytes, client: Client | None) -> Explanation:
    """Resolve a lower-cased wire name and say why."""
    answer = resolve(snapshot, name, client)
    ranges = ranges_of(snapshot, client)
    if answer.view is None or answer.spot is None or answer.choice is None or answer.locus is None:
        return Explanation(answer, ranges, "", (), _place_notes(answer.place))
    lines = _lines(answer.view, answer.choice)
    notes = _notes(answer.view, answer.choice, answer.locus, client)
    return Explanation(answer, ranges, selector_from(answer, ranges), lines, notes)


def ranges_of(snapshot: Snapshot, client: Client | None) -> tuple[Range, ...]:
    """The Ranges that hold a client, widest first."""
    if client is None:
        return ()
    return snapshot.topology.ranges.family(client.version).around(client.address)


def _place_notes(place: Place | None) -> tuple[str, ...]:
    if place is None:
        return ("no zone here holds this name",)
    return () if place.exists else (f"nothing has this name in zone {place.zone.name}",)


def selector_from(answer: Answer, ranges: Sequence[Range]) -> str:
    """What decided which versions a client gets; `ranges` hold it, widest first."""
    view, choice = answer.view, answer.choice
    if view is None or choice is None:
        return ""
    if answer.spot is not None and answer.spot.version is not None:
        return "name"
    draw = choice.draw
    if draw.arm:
        return f"experiment {draw.experiment}: arm {draw.arm}"
    underway = view.motion.underway
    if draw.is_moved and underway is not None:
        return f"rollout {_share(underway)}"
    for entry in reversed(ranges):
        if any(service == view.service.name for service, _ in entry.selectors):
            return f"range {entry.name}"
    return "service"


def _share(underway: Underway) -> str:
    return f"{underway.name}: {underway.percent:g} % get {underway.to}"


def motion_notes(view: ServiceView, choice: Choice) -> Iterator[str]:
    """What rollouts make of a client beside the version that it gets."""
    draw, underway = choice.draw, view.motion.underway
    if draw.rollout and not draw.is_moved and underway is not None:
        yield f"rollout {_share(underway)} of {underway.scope}, this client not yet"
    if not choice.is_asked:
        # Who gets it anyway, by its version or for want of another, is not told so.
        given = {ranked.member.instance.version.text for ranked in choice.chosen}
        yield from (why for text, why in view.hidden.items() if text not in given)


def _notes(
    view: ServiceView, choice: Choice, locus: Locus, client: Client | None
) -> tuple[str, ...]:
    notes = [choice.ladder.note] if choice.ladder.note else []
    if client is None:
        notes.append("no client: the neutral view")
    elif locus.policy.pop is None:
        notes.append("no range holds this client: all pops are one tier")
    notes += motion_notes(view, choice)
    if choice.arm is not choice.selector:
        notes.append(f"split {choice.selector}: this bucket gets {choice.arm}")
    tiers = choice.ladder.tiers
    if choice.first and tiers and choice.first[0].member.instance.pop != tiers[0].pop:
        home = tiers[0]
        if home.pop and home.health < 1:
            notes.append(f"pop {home.pop} can take {home.health:.0%}: this bucket spills over")
    if not view.members:
        notes.append("the service has no instances")
    return tuple(notes)


def _lines(view: ServiceView, choice: Choice) -> tuple[Line, ...]:
    chosen = {ranked.member.instance.name for ranked in choice.chosen}
    placed = {ranked.member.instance.name for ranked in choice.ranked}
    lines = [_placed(place, ranked, chosen) for place, ranked in enumerate(choice.ranked, start=1)]
    wanted = view.chosen(choice.arm, is_asked=choice.is_asked)
    for member in view.members:
        if member.instance.name not in placed:
            version = member.instance.version
            hidden = view.hidden.get(version.text, f"version is not {choice.arm}")
            why = _excluded(member, hidden if version not in wanted else "")
            lines.append(Line(member, headroom(member.signal), 0, 0, 0, False, why))
    return tuple(lines)


def _placed(place: int, ranked: Ranked, chosen: set[str]) -> Line:
    free = headroom(ranked.member.signal)
    in_set = ranked.member.instance.name in chosen
    return Line(ranked.member, free, place, ranked.tier, ranked.cost, in_set, "")


def _excluded(member: Member, version: str) -> str:
    if not member.verdict.is_ready or member.verdict is Verdict.FORCED_DOWN:
        return f"verdict is {member.verdict}"
    return version or "not asked for by this name"
