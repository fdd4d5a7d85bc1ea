"""Shares: how far load moves an instance off its fair part of the clients of its Pop.

Free capacity as a weight swings: DNS reacts a TTL late and reports come later still, so clients
leave a loaded instance together and come back together. Here a share answers gently to how far a
load is from its neighbours' median, and learns slowly, over some TTLs, what makes all loads equal:
an instance that is half as strong as it says ends with half a share. tests/simulation shows both.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import exp, log
from statistics import median
from typing import NamedTuple

from meshd.core.ranking import Member
from meshd.core.signals import Signal, headroom
from meshd.core.snapshot import ServiceView
from meshd.core.ttl import answer_ttl
from meshd.core.verdict import Verdict

SHARE_STEP = 0.05
# What a newcomer begins with.
START_SHARE = 0.1
_BOUNDS = (0.05, 2.0)
# At once, for each unit of load away from the median; far away, where waiting costs errors, more.
_NEAR, _FAR, _KNEE = 0.5, 3.0, 0.2
# Learnt in the time of so many TTLs, for each unit of load away from the median; a TTL that load
# made short must not make it hasty, for reports stay as late as they are.
_LEARNS, _LEARN_TTLS, _LEARN_S = 0.5, 3.0, 30.0
# A Pop whose mean load is above this sends clients on to the next.
_FULL = 0.8
# A share or a kept part must leave its step by this much (in steps) before it changes.
_HOLD_STEPS = 0.75


class Learnt(NamedTuple):
    """What was learnt of an instance: the logarithm of its share, and the part its Pop keeps."""

    drift: float = 0.0
    kept: float = 1.0


NOTHING = Learnt()


def rebalanced(
    view: ServiceView,
    learnt: Mapping[str, Learnt],
    told: Mapping[str, float],
    passed_s: float,
    ages: Mapping[str, float] | None = None,
) -> tuple[dict[str, Learnt], dict[str, Signal]]:
    """What is learnt after `passed_s` seconds, and the signals that changed by it.

    `told` has the instances that report a load, and how much it still counts (1: fresh, falling
    to 0 with its age). The others have their fair share.
    """
    known: dict[str, Learnt] = {}
    changed: dict[str, Signal] = {}
    for pop in {member.instance.pop for member in view.members}:
        here = [member for member in view.members if member.instance.pop == pop]
        group = [m for m in here if m.verdict.is_ready and m.instance.name in told]
        after = _learn(view, group, learnt, passed_s) if group else {}
        known |= after
        shares = _shares(group, after, told)
        kept = _kept(group, after) if group else 1.0
        for member in here:
            signal, name = member.signal, member.instance.name
            share = _stepped(signal.share, shares.get(name, 1.0))
            made = replace(signal, share=share, kept=_stepped(signal.kept, kept))
            if made != signal:
                changed[name] = made
    return known, changed


def _learn(
    view: ServiceView, group: Sequence[Member], learnt: Mapping[str, Learnt], passed_s: float
) -> dict[str, Learnt]:
    """What is learnt of the instances of one Pop."""
    least = min(headroom(member.signal) for member in group)
    ttl_s = answer_ttl(view.service.ttl, least, Verdict.UP, False).seconds
    pace = _LEARNS * passed_s / max(_LEARN_S, _LEARN_TTLS * ttl_s)
    before = min(learnt.get(member.instance.name, NOTHING).kept for member in group)
    kept = min(1.0, max(0.0, before - pace * (_mean(group) - _FULL)))
    middle = _middle(group)
    low, high = log(_BOUNDS[0]), log(_BOUNDS[1])
    found = {}
    for member in group:
        drift = learnt.get(member.instance.name, NOTHING).drift
        drift -= pace * (member.signal.load - middle)
        found[member.instance.name] = Learnt(min(high, max(low, drift)), kept)
    return found


def _shares(
    group: Sequence[Member], learnt: Mapping[str, Learnt], told: Mapping[str, float]
) -> dict[str, float]:
    if not group:
        return {}
    middle = _middle(group)
    found = {}
    for member in group:
        name = member.instance.name
        away = member.signal.load - middle
        pull = learnt[name].drift - _NEAR * away - _FAR * max(0.0, away - _KNEE)
        found[name] = min(_BOUNDS[1], max(_BOUNDS[0], exp(pull * told[name])))
    # Who claims to be idle gets no more than twice what the others have.
    limit = 2 * sorted(found.values())[(len(found) - 1) // 2]
    return {name: min(limit, share) for name, share in found.items()}


def _kept(group: Sequence[Member], learnt: Mapping[str, Learnt]) -> float:
    """The part of its clients that a Pop keeps."""
    part = min(learnt[member.instance.name].kept for member in group)
    return max(SHARE_STEP, part - _NEAR * max(0.0, _mean(group) - _FULL))


def _middle(group: Sequence[Member]) -> float:
    return median(member.signal.load for member in group)


def _mean(group: Sequence[Member]) -> float:
    capacity = sum(member.instance.capacity for member in group)
    return sum(m.instance.capacity * m.signal.load for m in group) / capacity


def _stepped(held: float, found: float) -> float:
    """`found` in steps; `held` where it did not leave its step."""
    if abs(found - held) <= SHARE_STEP * _HOLD_STEPS:
        return held
    return round(max(1, round(found / SHARE_STEP)) * SHARE_STEP, 2)
