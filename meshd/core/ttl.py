"""The TTL of an answer: long while its members have room, short when a change is due.

      headroom curve   max_ttl, falling with the least free member's headroom
      next verdict     while a member is failing: how long until it can be down, as gdnsd does
      shortest         while one drains, leaves or recovers, and when nobody is ready
      rollout          shortest for its new version, half a step for whom it may move next

The least of the terms that apply counts, clamped to the service's bounds.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from meshd.core.model import Service, Ttl
from meshd.core.ranking import Member
from meshd.core.signals import headroom
from meshd.core.verdict import Verdict, quick_s

# Below this free share an answer begins to be short-lived.
_ROOMY = 0.5
_SETTLED = (Verdict.UP, Verdict.FORCED_UP, Verdict.FAILING)


@dataclass(frozen=True, slots=True)
class TtlTerms:
    """How a TTL came about: its terms in seconds (None: does not apply), and which decided."""

    seconds: int
    headroom: float
    # What the headroom of the least free member allows.
    load_s: int
    # Until a failing member can be down.
    verdict_s: float | None
    # What a member that comes or goes, or an answer without ready members, allows.
    change_s: int | None
    reason: str
    # What a rollout allows that the client takes part in.
    rollout_s: int | None = None


def load_ttl_s(bounds: Ttl, free: float) -> int:
    """The TTL in seconds that the headroom of the least free member allows."""
    return _clamped(bounds, bounds.max_s * min(1.0, free / _ROOMY))


def next_verdict_s(service: Service) -> float:
    """How long a failing instance is probed before it can be down; 0: nobody probes."""
    check = service.check
    return (check.fall - 1) * quick_s(check) if check else 0.0


def answer_ttl(
    service: Service, members: Sequence[Member], all_down: bool, rollout_s: float | None = None
) -> TtlTerms:
    """The TTL of an answer with these members; `all_down`: nobody is ready, all stand in.

    `rollout_s` is how long a rollout lets it live: 0 for its new version.
    """
    bounds = service.ttl
    free = min((headroom(member.signal) for member in members), default=0.0)
    terms = [(load_ttl_s(bounds, free), _load_reason(free))]
    moving = _why_moving(members, all_down)
    change_s = bounds.min_s if moving else None
    verdict_s = None
    if any(member.verdict is Verdict.FAILING for member in members):
        verdict_s = next_verdict_s(service)
        until = f"verdict within {verdict_s:g} s" if verdict_s else "minimum"
        terms.insert(0, (_clamped(bounds, verdict_s), f"a member is failing: {until}"))
    if change_s is not None:
        terms.insert(0, (change_s, f"{moving}: minimum"))
    if rollout_s is not None:
        terms.append((_clamped(bounds, rollout_s), _rollout_reason(rollout_s)))
    seconds, reason = min(terms, key=lambda term: term[0])
    moved_s = None if rollout_s is None else _clamped(bounds, rollout_s)
    return TtlTerms(seconds, free, load_ttl_s(bounds, free), verdict_s, change_s, reason, moved_s)


def _why_moving(members: Sequence[Member], all_down: bool) -> str:
    """Why the answer is about to be another one; empty if it is not."""
    if all_down:
        return "no instance is ready"
    if not members:
        return "nobody is answered"
    for member in members:
        if member.signal.held:
            return "a member is held back"
        if member.is_ejected:
            return "a member is ejected"
        if member.verdict not in _SETTLED:
            return f"a member is {member.verdict}"
    return ""


def _rollout_reason(rollout_s: float) -> str:
    if rollout_s:
        return f"a rollout may move this client: half a step, {rollout_s:g} s"
    return "a rollout gave this client its version: minimum"


def _clamped(bounds: Ttl, seconds: float) -> int:
    return max(bounds.min_s, min(bounds.max_s, round(seconds)))


def _load_reason(free: float) -> str:
    return "all members have room: maximum" if free >= _ROOMY else f"headroom {free:.0%}"
