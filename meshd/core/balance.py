"""Shares: how far load moves an instance off its fair part of the clients of its Pop.

Free capacity as a weight swings: DNS reacts a TTL late and reports come later still, so clients
leave a loaded instance together and come back together. Here a share answers gently to how far a
load is from its neighbours' median, and learns slowly, over some TTLs, what makes all loads equal:
an instance that is half as strong as it says ends with half a share. tests/simulation shows both.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from math import exp, log
from statistics import median
from typing import NamedTuple

from meshd.core.ranking import Member
from meshd.core.signals import LOAD_STEP, Signal, headroom
from meshd.core.snapshot import ServiceView
from meshd.core.ttl import load_ttl_s

SHARE_STEP = 0.05
# What a newcomer begins with, and in how many steps it gets to its whole share.
START_SHARE = 0.1
_RAMP_STEPS = 10
_BOUNDS = (0.05, 2.0)
# At once, for each unit of load away from the median; far away, where waiting costs errors, more.
_NEAR, _FAR, _KNEE = 0.5, 3.0, 0.2
# Loads are told in steps and leave them late: equal ones may be this far apart.
_BAND = 2 * LOAD_STEP
# Learnt in the time of so many TTLs, for each unit of load away from the median; a TTL that load
# made short must not make it hasty, for reports stay as late as they are.
_LEARNS, _LEARN_TTLS, _LEARN_S = 0.25, 3.0, 30.0
# A Pop whose mean load is above this sends clients on, as long as the others are below it; within
# the last part before it they take less.
_FULL, _LAST_ROOM, _RETURN = 0.8, 0.2, 0.2
# A share or a kept part must leave its step by this much (in steps) before it changes.
_HOLD_STEPS = 0.75


class Learnt(NamedTuple):
    """What was learnt of an instance: the logarithm of its share, and the part its Pop keeps."""

    drift: float = 0.0
    kept: float = 1.0


NOTHING = Learnt()


class _Heard(NamedTuple):
    """Who of a Pop is ready and tells a load: their median, their mean by capacity."""

    members: Sequence[Member]
    middle: float
    mean: float
    capacity: float


def rebalanced(
    view: ServiceView,
    learnt: Mapping[str, Learnt],
    told: Mapping[str, float],
    passed_s: float,
    ages: Mapping[str, float] | None = None,
) -> tuple[dict[str, Learnt], dict[str, Signal]]:
    """What is learnt after `passed_s` seconds, and the signals that changed by it.

    `told` has the instances that report a load, and how much it still counts (1: fresh, falling
    to 0 with its age); the others have their fair share. `ages` has the seconds since newcomers
    are ready.
    """
    ages = ages or {}
    known: dict[str, Learnt] = {}
    changed: dict[str, Signal] = {}
    pops = _by_pop(view)
    heard = {pop: _heard(members, told, ages) for pop, members in pops.items()}
    for pop, members in pops.items():
        here, room = heard[pop], _room(pop, pops, heard)
        shares: dict[str, float] = {}
        kept = 1.0
        if here.members:
            after = _learn(view, here, learnt, _Passed(passed_s, room, told, ages))
            known |= after
            shares = _shares(here, after, told, ages)
            kept = after[here.members[0].instance.name].kept - _spilt_at_once(here, room)
        for member in members:
            name, signal = member.instance.name, member.signal
            share = _stepped(signal.share, shares.get(name, 1.0) * _ramp(view, ages.get(name)))
            part = _stepped(signal.kept, kept)
            if share != signal.share or part != signal.kept:
                changed[name] = replace(signal, share=share, kept=part)
    return known, changed


def resumed(view: ServiceView, told: Collection[str] | None = None) -> dict[str, Learnt]:
    """What must have been learnt for the shares in a view to follow from the loads in it.

    `told` are those that tell a load, if that is known. A low share with a low load is no weak
    instance: it is one that was new, or just relieved.
    """
    found = {}
    pops = _by_pop(view)
    names = [member.instance.name for member in view.members]
    telling = dict.fromkeys((name for name in names if told is None or name in told), 1.0)
    heard = {pop: _heard(members, telling, {}) for pop, members in pops.items()}
    for pop, here in heard.items():
        at_once = _spilt_at_once(here, _room(pop, pops, heard)) if here.members else 0.0
        is_silent = not any(member.signal.load for member in here.members)
        for member in here.members:
            signal = member.signal
            away = signal.load - here.middle
            says_nothing = is_silent or (signal.share < 1 and _beyond(away, _BAND) < 0)
            drift = 0.0 if says_nothing else log(signal.share) + _pull(away)
            kept = signal.kept + at_once if signal.kept < 1 else 1.0
            found[member.instance.name] = Learnt(_drift_within(drift), min(1.0, kept))
    return found


def _by_pop(view: ServiceView) -> dict[str, list[Member]]:
    found: dict[str, list[Member]] = {}
    for member in view.members:
        found.setdefault(member.instance.pop, []).append(member)
    return found


def _heard(
    members: Sequence[Member], told: Mapping[str, float], ages: Mapping[str, float]
) -> _Heard:
    ready = [m for m in members if m.verdict.is_ready and not m.is_last_resort]
    found = [member for member in ready if member.instance.name in told]
    if not found:
        return _Heard((), 0.0, 0.0, sum(member.instance.capacity for member in ready))
    # Who has few clients for another reason than its load is no measure of the others.
    settled = [member for member in found if not _is_spared(member, ages)] or found
    capacity = sum(member.instance.capacity for member in found)
    work = sum(member.instance.capacity * member.signal.load for member in found)
    middle = median(member.signal.load for member in settled)
    return _Heard(found, middle, work / capacity, capacity)


def _room(pop: str, pops: Mapping[str, object], heard: Mapping[str, _Heard]) -> float:
    """How far the other Pops can take clients of this one, 0..1; who tells no load, can."""
    others = [heard[other] for other in pops if other != pop]
    capacity = sum(other.capacity for other in others)
    if not capacity:
        return 0.0
    mean = sum(other.mean * other.capacity for other in others) / capacity
    return min(1.0, max(0.0, (_FULL - mean) / _LAST_ROOM))


class _Passed(NamedTuple):
    """What learning depends on beside loads."""

    seconds: float
    room: float
    told: Mapping[str, float]
    ages: Mapping[str, float]


def _learn(
    view: ServiceView, here: _Heard, learnt: Mapping[str, Learnt], passed: _Passed
) -> dict[str, Learnt]:
    """What is learnt of the instances of one Pop."""
    ttl = view.service.ttl
    least = min(headroom(member.signal) for member in here.members)
    pace = _pace(passed.seconds, load_ttl_s(ttl, least))
    before = min(learnt.get(member.instance.name, NOTHING).kept for member in here.members)
    # Where nobody has room, clients come home: to be far away is no gain.
    spilt = passed.room * _beyond(here.mean - _FULL, LOAD_STEP) - (1 - passed.room) * _RETURN
    # Clients go quickly and come home slowly: two Pops must not play ping-pong with them.
    spilt *= pace if spilt > 0 else _pace(passed.seconds, ttl.max_s)
    kept = min(1.0, max(SHARE_STEP, before - spilt))
    found = {}
    for member in here.members:
        name = member.instance.name
        away = _beyond(_away(member, here, passed.ages), _BAND)
        drift = learnt.get(name, NOTHING).drift - pace * passed.told[name] * away
        found[name] = Learnt(_drift_within(drift), kept)
    return found


def _pace(passed_s: float, ttl_s: float) -> float:
    """How much is learnt in some seconds for each unit of load."""
    return _LEARNS * passed_s / max(_LEARN_S, _LEARN_TTLS * ttl_s)


def _shares(
    here: _Heard,
    learnt: Mapping[str, Learnt],
    told: Mapping[str, float],
    ages: Mapping[str, float],
) -> dict[str, float]:
    low, high = _BOUNDS
    found = {}
    for member in here.members:
        name = member.instance.name
        drift = learnt[name].drift - _pull(_away(member, here, ages))
        found[name] = min(high, max(low, exp(drift * told[name])))
    # Who claims to be idle gets no more than twice what the others have.
    limit = 2 * sorted(found.values())[(len(found) - 1) // 2]
    return {name: min(limit, share) for name, share in found.items()}


def _away(member: Member, here: _Heard, ages: Mapping[str, float]) -> float:
    """How far a load is from the median; that one which is spared has little to do says nothing."""
    away = member.signal.load - here.middle
    return max(0.0, away) if _is_spared(member, ages) else away


def _is_spared(member: Member, ages: Mapping[str, float]) -> bool:
    """True if it gets few clients because it is new, or because their calls fail."""
    return member.instance.name in ages or member.signal.success < 1


def _beyond(away: float, band: float) -> float:
    """What is left of a distance of loads outside a band in which it says nothing."""
    return away - min(band, max(-band, away))


def _pull(away: float) -> float:
    """What a load takes off the logarithm of a share at once."""
    return _NEAR * _beyond(away, _BAND) + _FAR * max(0.0, away - _KNEE)


def _spilt_at_once(here: _Heard, room: float) -> float:
    """What a Pop's load takes off the part that it keeps at once."""
    return _NEAR * room * max(0.0, _beyond(here.mean - _FULL, LOAD_STEP))


def _ramp(view: ServiceView, age_s: float | None) -> float:
    """The part of its share that an instance has so long after it became ready."""
    if age_s is None or age_s >= view.service.slow_start_s:
        return 1.0
    done = int(_RAMP_STEPS * age_s / view.service.slow_start_s) / _RAMP_STEPS
    return START_SHARE + (1 - START_SHARE) * done


def _drift_within(drift: float) -> float:
    low, high = _BOUNDS
    return min(log(high), max(log(low), drift))


def _stepped(held: float, found: float) -> float:
    """`found` in steps; `held` where it did not leave its step."""
    if abs(found - held) <= SHARE_STEP * _HOLD_STEPS:
        return held
    return round(max(1, round(found / SHARE_STEP)) * SHARE_STEP, 2)
