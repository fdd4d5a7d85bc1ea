"""What clients reported, by instance and reporter, and the successes that follow from it.

The decisions are core's (outcomes, ejection); here is the memory between them, bounded in every
direction. Time comes as an argument, monotonic seconds. Changed signals go through Observed.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import NamedTuple

from meshd.core.ejection import Ejection, begun, ejections
from meshd.core.evidence import Whence
from meshd.core.histogram import Histogram, merged
from meshd.core.model import Instance
from meshd.core.outcomes import (
    FORGOTTEN_S,
    Folded,
    Outcome,
    Reporter,
    Voice,
    fold,
    heard,
    success_after,
)
from meshd.core.ranking import Member
from meshd.core.signals import NO_SIGNAL
from meshd.core.snapshot import ServiceView, Snapshot
from meshd.core.topology import Change
from meshd.daemon.arms import Arms
from meshd.daemon.evidence import Testimony
from meshd.daemon.observed import Observed

MOST_REPORTERS = 10_000
# Voices on one instance: the middle of so many is the middle of all.
MOST_VOICES = 256
# Voices in all, some hundred bytes each.
MOST_IN_ALL = 200_000
# A voice that said nothing for so long makes room for another where there are too many. One that
# speaks does not: who invents reporters takes nobody's place.
_SILENT_S = 15.0
# Members and voices looked at in one tick, some ten milliseconds; the others' turn comes next.
_LOOKED_AT_A_TICK = 20_000
# Pairs of instance and reporter that wait to be told to other cores.
MOST_PASSED = 20_000
_MOST_SUMMED = 1_000_000
# Who decides on a service from now on keeps what clients made of it, until they were heard.
_TAKEN_OVER_S = 6.0
# Latencies are those of the last one to two such times; of one batch so many calls count.
_LATENCY_S, _LATENCY_CALLS = 15.0, 100.0
_NO_VOICES: Mapping[Reporter, Voice] = {}


class Seen(NamedTuple):
    """What the clients of one Pop saw of an instance."""

    folded: Folded
    latency: Histogram


class Paced(NamedTuple):
    """From when a reporter is in time again, and the gap between its batches."""

    due: float
    gap_s: float


@dataclass(slots=True)
class _Latency:
    """The latencies of one instance since a time, and those of the time before."""

    since: float
    recent: dict[int, float] = field(default_factory=dict)
    before: Histogram = field(default_factory=dict)

    def add(self, latency: Mapping[int, int], now: float) -> None:
        self.turn(now)
        scale = min(1.0, _LATENCY_CALLS / max(1, sum(latency.values())))
        for bucket, count in latency.items():
            self.recent[bucket] = self.recent.get(bucket, 0.0) + scale * count

    def lately(self, now: float) -> Histogram:
        """What is not too old."""
        if now - self.since >= 2 * _LATENCY_S:
            return {}
        return merged(self.recent, self.before)

    def turn(self, now: float) -> None:
        """Let go of what is too old."""
        passed = int((now - self.since) / _LATENCY_S)
        if passed:
            self.before = self.recent if passed == 1 else {}
            self.recent, self.since = {}, self.since + passed * _LATENCY_S


class Reports:
    """All that clients said of instances lately."""

    def __init__(self, observed: Observed) -> None:
        self._observed = observed
        self._duties = observed.duties
        # Instance -> reporter -> what it saw, whoever was silent for longest first.
        self._voices: dict[str, dict[Reporter, Voice]] = {}
        self._size = 0
        # Instance -> Pop of the clients ("": of none) -> how long their calls took.
        self._latency: dict[str, dict[str, _Latency]] = {}
        self._ejections: dict[str, dict[str, Ejection]] = {}
        # Services that something is known of, in the order of their turns.
        self._turns: dict[str, None] = {}
        self._swept_at: float | None = None
        # Whoever was heard longest ago first.
        self._paced: dict[Reporter, Paced] = {}
        # Instance -> what was made of it in its service's last turn.
        self.folded: dict[str, Folded] = {}
        # Core -> what was reported for services that it decides on, until it is told.
        self._passed: dict[str, dict[tuple[Reporter, str], Outcome]] = {}
        # Services that were taken over from another core, and until when.
        self._taken: dict[str, float] = {}
        # Outcomes that did not get to another core.
        self.lost = 0
        self.testimony, self.arms = Testimony(), Arms()
        self.batches = 0
        self.calls = 0
        self.dropped = 0
        self.ignored: Counter[str] = Counter()

    @property
    def reporters(self) -> int:
        """How many were heard within a minute."""
        return len(self._paced)

    @property
    def voices(self) -> int:
        """How many pairs of instance and reporter are remembered."""
        return self._size

    def is_early(self, who: Reporter, every_s: float, now: float) -> bool:
        """Note that a reporter sent a batch; True if they come in less than half of the time.

        One more than that may come: the last batch of a program that ends.
        """
        before = self._paced.pop(who, None)
        early = before is not None and now < before.due - before.gap_s
        if before is None or not early:
            gap_s = every_s / 2
            before = Paced(max(now, before.due if before else now) + gap_s, gap_s)
        self._paced[who] = before
        if len(self._paced) > MOST_REPORTERS:
            del self._paced[next(iter(self._paced))]
        return early

    def note(
        self, snapshot: Snapshot, who: Reporter, name: str, outcome: Outcome, now: float
    ) -> bool:
        """Note what a reporter saw of an instance that there is; False: there are too many.

        What another core decides on is kept until it is told.
        """
        core = self._duties.decider(snapshot.topology.instances[name].service)
        if core != self._duties.node:
            return self._pass(core, (who, name), outcome)
        return self.note_here(snapshot, who, name, outcome, now)

    def _pass(self, core: str, key: tuple[Reporter, str], outcome: Outcome) -> bool:
        passed = self._passed.setdefault(core, {})
        before = passed.get(key)
        if before is None and sum(map(len, self._passed.values())) >= MOST_PASSED:
            self.lost += 1
            return False
        # As many calls as a message can hold are more than count.
        is_sum = before is not None and before.attempts + outcome.attempts < _MOST_SUMMED
        passed[key] = before.plus(outcome) if before and is_sum else outcome
        return True

    def passed_to(self, core: str) -> Mapping[tuple[Reporter, str], Outcome]:
        """What was reported for a core to decide on, once."""
        return self._passed.pop(core, {})

    def share(
        self, snapshot: Snapshot, taken: Iterable[str], given: Iterable[str], now: float
    ) -> None:
        """This core decides on other services now."""
        for service in given:
            self._turns.pop(service, None)
            self._ejections.pop(service, None)
            for name in snapshot.rosters.get(service, ()):
                self._forget(name)
        for service in taken:
            self._taken[service] = now + _TAKEN_OVER_S
            self._turns[service] = None
            out = _ejected(snapshot, snapshot.views[service])
            self._ejections[service] = dict.fromkeys(out, begun(now))
        for core in self._passed.keys() - set(self._duties.able):
            self.lost += len(self._passed.pop(core))

    def note_here(
        self, snapshot: Snapshot, who: Reporter, name: str, outcome: Outcome, now: float
    ) -> bool:
        """As `note`, for a service that this core decides on."""
        if not outcome.attempts:
            return True
        self._testify(snapshot, who.host, name, outcome)
        voices = self._voices.get(name, {})
        before = voices.pop(who, None)
        if before is None and not self._has_room(voices, now):
            return False
        self._size += before is None
        voices[who] = heard(before, outcome, now)
        self._voices[name] = voices
        self.calls += outcome.attempts
        if outcome.latency:
            of_name = self._latency.setdefault(name, {})
            pop = _pop_of(snapshot, who.host)
            of_name.setdefault(pop, _Latency(now)).add(outcome.latency, now)
        self._turns.setdefault(snapshot.topology.instances[name].service)
        return True

    def _testify(self, snapshot: Snapshot, host: str, name: str, outcome: Outcome) -> None:
        """Tell those who compare versions."""
        instance = snapshot.topology.instances[name]
        self.arms.note(snapshot, instance.service, host, outcome)
        if self.testimony.is_of(instance):
            self.testimony.note(instance, Whence(host, _pop_of(snapshot, host)), outcome)

    def _has_room(self, voices: dict[Reporter, Voice], now: float) -> bool:
        if len(voices) < MOST_VOICES and self._size < MOST_IN_ALL:
            return True
        oldest = next(iter(voices), None)
        if oldest is None or now - voices[oldest].at < _SILENT_S:
            return False
        del voices[oldest]
        self._size -= 1
        return True

    def latency(self, name: str, now: float) -> Histogram:
        """The latencies of an instance in the last half minute or less."""
        of_name = self._latency.get(name, {})
        return merged(*(each.lately(now) for each in of_name.values()))

    def by_pop(self, snapshot: Snapshot, name: str, now: float) -> Mapping[str, Seen]:
        """What the clients of each Pop saw of an instance; under "" those whom no Range holds.

        For people: where only one Pop's clients fail, the fault is likely to lie on their way.
        """
        of_name = self._latency.get(name, {})
        voices: dict[str, dict[Reporter, Voice]] = {}
        for who, voice in self._voices.get(name, _NO_VOICES).items():
            voices.setdefault(_pop_of(snapshot, who.host), {})[who] = voice
        return {
            pop: Seen(fold(each, now), of_name[pop].lately(now) if pop in of_name else {})
            for pop, each in sorted(voices.items())
        }

    def changed(self, snapshot: Snapshot, changes: Iterable[Change], now: float) -> None:
        """Committed changes are about to be swapped in: a new process is not the one before it.

        How often it was ejected stays: one that ends and begins again and again is no better.
        """
        for change in changes:
            before = snapshot.topology.instances.get(change.name)
            if not isinstance(change.record, Instance) or before is None:
                continue
            if change.record.epoch > before.epoch:
                self._forget(change.name)
                ejected = self._ejections.get(before.service, {})
                if change.name in ejected:
                    ejected[change.name] = ejected[change.name].ended(now)

    def tick(self, snapshot: Snapshot, now: float) -> None:
        """Make signals of what was reported; each service has its turn, as time permits."""
        if self._swept_at is None or now - self._swept_at >= FORGOTTEN_S:
            self._sweep(snapshot, now)
        left = _LOOKED_AT_A_TICK
        for service in list(self._turns):
            if left <= 0:
                break
            del self._turns[service]
            view = snapshot.views.get(service)
            if not self._duties.decides(service):
                continue
            left -= self._judge(snapshot, view, now) if view else 1

    def _judge(self, snapshot: Snapshot, view: ServiceView, now: float) -> int:
        """One service's turn; returns how many members and voices were looked at."""
        looked_at = len(view.members)
        found: dict[str, Folded] = {}
        for member in view.members:
            name = member.instance.name
            voices = self._fresh(name, now)
            looked_at += len(voices)
            if voices:
                found[name] = fold(voices, now)
        out = self._eject(snapshot, view, found, now)
        is_new = now < self._taken.get(view.service.name, 0.0)
        is_calm = not found and not out and not is_new
        for member in view.members:
            name = member.instance.name
            before = self._observed.signal(snapshot, name).success
            success = 0.0 if name in out else success_after(before, found.get(name))
            if is_new and name not in found and before:
                success = before
            is_calm = is_calm and success == 1
            if success != before:
                self._observed.succeeds(snapshot, name, success)
            self._show(name, found.get(name))
        if not is_calm:
            self._turns[view.service.name] = None
        return looked_at

    def _show(self, name: str, found: Folded | None) -> None:
        if found is not None:
            self.folded[name] = found
        else:
            self.folded.pop(name, None)

    def _eject(
        self, snapshot: Snapshot, view: ServiceView, found: dict[str, Folded], now: float
    ) -> set[str]:
        """Who is ejected now. What was said of one that may come back is forgotten: it is tried."""
        service = view.service.name
        ready = [m.instance.name for m in view.members if _is_judged(snapshot, m)]
        held = self._ejections.get(service, {})
        before = {name: held[name] for name in ready if name in held}
        still = {name for name, each in before.items() if each.is_out(now)}
        for name in _ejected(snapshot, view) - still:
            self._forget(name)
            found.pop(name, None)
        known = {name: found[name] for name in ready if name in found}
        after = ejections(known, before, len(ready), now)
        if after:
            self._ejections[service] = after
        else:
            self._ejections.pop(service, None)
        return {name for name, each in after.items() if each.is_out(now)}

    def _fresh(self, name: str, now: float) -> Mapping[Reporter, Voice]:
        """The voices on an instance, without those that are too old."""
        voices = self._voices.get(name)
        if voices is None:
            return _NO_VOICES
        old = 0
        for voice in voices.values():
            if now - voice.at < FORGOTTEN_S:
                break
            old += 1
        for who in list(voices)[:old]:
            del voices[who]
        self._size -= old
        if not voices:
            del self._voices[name]
        return voices

    def _forget(self, name: str) -> None:
        self._size -= len(self._voices.pop(name, ()))
        self._latency.pop(name, None)
        self.folded.pop(name, None)

    def _sweep(self, snapshot: Snapshot, now: float) -> None:
        """Forget what is gone, and let what was saved have its turn."""
        self._swept_at = now
        instances = snapshot.topology.instances
        for name in [*self._voices, *self._latency, *self.folded]:
            if name not in instances:
                self._forget(name)
        for name in [n for n in self._latency if not self.latency(n, now)]:
            del self._latency[name]
        for service in self._ejections.keys() - snapshot.views.keys():
            del self._ejections[service]
        self._taken = {service: until for service, until in self._taken.items() if until > now}
        for name, signal in snapshot.signals.items():
            if signal.success != 1 and name in instances:
                self._turns.setdefault(instances[name].service)
        for who in [who for who, paced in self._paced.items() if now - paced.due > FORGOTTEN_S]:
            del self._paced[who]


def _pop_of(snapshot: Snapshot, host: str) -> str:
    """The Pop of a reporter's host, by the Ranges; empty if none holds it."""
    try:
        address = ip_address(host)
    except ValueError:
        return ""
    return snapshot.topology.ranges.family(address.version).policy(int(address)).pop or ""


def _ejected(snapshot: Snapshot, view: ServiceView) -> set[str]:
    """The members of a view that are ejected in the snapshot."""
    known = snapshot.signals
    names: Iterable[str] = (member.instance.name for member in view.members)
    return {name for name in names if not known.get(name, NO_SIGNAL).success}


def _is_judged(snapshot: Snapshot, member: Member) -> bool:
    """True for who is ready, held back by nothing, and not in an operator's hand."""
    is_ready = member.verdict.is_ready and not member.signal.held
    return is_ready and snapshot.topology.force_on(member.instance.name) is None
