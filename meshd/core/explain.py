"""Why an answer is as it is: every decision of `resolve`, laid out for a person."""

from dataclasses import dataclass

from meshd.core.model import Range
from meshd.core.names import Place
from meshd.core.ranking import Member, Ranked
from meshd.core.resolve import Answer, Choice, Client, Locus, Spot, resolve
from meshd.core.selector import select
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
    ranges: tuple[Range, ...] = ()
    if client is not None:
        ranges = snapshot.topology.ranges.family(client.version).around(client.address)
    if answer.view is None or answer.spot is None or answer.choice is None or answer.locus is None:
        return Explanation(answer, ranges, "", (), _place_notes(answer.place))
    lines = _lines(answer.view, answer.choice)
    notes = _notes(answer.view, answer.choice, answer.locus, client)
    origin = _selector_from(answer.view, answer.spot, ranges)
    return Explanation(answer, ranges, origin, lines, notes)


def _place_notes(place: Place | None) -> tuple[str, ...]:
    if place is None:
        return ("no zone here holds this name",)
    return () if place.exists else (f"nothing has this name in zone {place.zone.name}",)


def _selector_from(view: ServiceView, spot: Spot, ranges: tuple[Range, ...]) -> str:
    if spot.version is not None:
        return "name"
    for entry in reversed(ranges):
        if any(service == view.service.name for service, _ in entry.selectors):
            return f"range {entry.name}"
    return "service"


def _notes(
    view: ServiceView, choice: Choice, locus: Locus, client: Client | None
) -> tuple[str, ...]:
    notes = [choice.ladder.note] if choice.ladder.note else []
    if client is None:
        notes.append("no client: the neutral view")
    elif locus.policy.pop is None:
        notes.append("no range holds this client: all pops are one tier")
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
    wanted = select(choice.arm, view.versions, view.channels)
    for member in view.members:
        if member.instance.name not in placed:
            fits = member.instance.version in wanted
            why = _excluded(member, f"version is not {choice.arm}" if not fits else "")
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
