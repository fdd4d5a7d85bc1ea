"""What instances told, probes found and time did, and the signals that follow from it.

The decisions are core's (verdict, balance, removal); here is the memory between them. Time comes
as an argument, monotonic seconds. Whoever swaps (pump.py) takes the signals that changed.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from meshd.core.balance import START_SHARE, Learnt, rebalanced, resumed
from meshd.core.model import Check, Instance, Service
from meshd.core.removal import Gone, budget, removals
from meshd.core.signals import NO_SIGNAL, Signal, observe_load
from meshd.core.snapshot import ServiceView, Snapshot
from meshd.core.topology import Change, Kind
from meshd.core.verdict import Probed, Verdict, judge

# A load counts in full so long after it came, and then less and less until it is forgotten.
_FRESH_S, _FORGOTTEN_S = 10.0, 60.0
_OUT = (Verdict.DOWN, Verdict.RECOVERING)


@dataclass(slots=True)
class Told:
    """The last beat of an instance; `load_at` is when a load came, None: never."""

    load_at: float | None = None
    in_flight: int = 0
    lame_duck: bool = False


@dataclass
class Observed:
    """Everything measured, by instance."""

    told: dict[str, Told] = field(default_factory=dict)
    probed: dict[str, Probed] = field(default_factory=dict)
    # Signals that differ from those in the snapshot.
    pending: dict[str, Signal] = field(default_factory=dict)
    gone: dict[str, dict[str, Gone]] = field(default_factory=dict)
    learnt: dict[str, Learnt] = field(default_factory=dict)
    # Instance -> since when it is ready, as long as that is news.
    ready_since: dict[str, float] = field(default_factory=dict)
    # What the last probe of an instance complained of; empty without a prober.
    seen: Callable[[str], str] = lambda instance: ""
    balanced_at: float | None = None
    # Services that were balanced in the last tick: once more, when nobody tells a load any more.
    _balanced: set[str] = field(default_factory=set)
    # What is lost so soon after the store was away is not believed at once.
    hold_down_s: float = 30.0
    # What was saved by the core before, until the first tick.
    _saved: set[str] = field(default_factory=set)
    _store_away_at: float = float("-inf")
    _wait_until: dict[str, float] = field(default_factory=dict)

    @classmethod
    def resume(cls, snapshot: Snapshot) -> "Observed":
        """Go on from saved signals: what was down is let through, what was learnt is in shares."""
        made = cls()
        for name, signal in snapshot.signals.items():
            if signal.load or signal.share != 1 or signal.kept != 1:
                made._saved.add(name)
            if signal.verdict in _OUT:
                made.probed[name] = Probed(Verdict.DOWN, False)
        for name, view in snapshot.views.items():
            made.learnt.update(resumed(view))
            down = made._down(snapshot, name, {})
            made.gone[name] = dict.fromkeys(down, Gone(float("-inf"), float("-inf")))
        return made

    def reloaded(self, before: Snapshot, snapshot: Snapshot, now: float) -> None:
        """The store was loaded whole: what it lost meanwhile is not believed at once."""
        for held in (self.told, self.probed, self.learnt, self.ready_since, self.pending):
            for name in [name for name in held if name not in snapshot.topology.instances]:
                del held[name]
        for name in before.topology.presence.keys() - snapshot.topology.presence.keys():
            self._wait_until[name] = now + self.hold_down_s
        for service in self.gone.keys() | snapshot.views.keys():
            self._remove(snapshot, service, now, {})

    def beat(
        self, snapshot: Snapshot, name: str, told: Told, load: float | None, now: float
    ) -> None:
        """Note what an instance told of itself; Invalid if the load is none."""
        signal = self.signal(snapshot, name)
        before = self.told.get(name)
        if load is not None:
            signal = observe_load(signal, load)
        told.load_at = now if load is not None else before.load_at if before else None
        self.told[name] = told
        self._set(snapshot, name, replace(signal, verdict=self._verdict(name)), now)

    def probe(self, snapshot: Snapshot, name: str, passed: bool, check: Check, now: float) -> None:
        """Note the result of one probe."""
        before = self.probed.get(name) or Probed(self._found(snapshot, name))
        self.probed[name] = judge(before, passed, check, now)
        signal = self.signal(snapshot, name)
        self._set(snapshot, name, replace(signal, verdict=self._verdict(name)), now)

    def unprobed(self, snapshot: Snapshot, name: str, now: float) -> None:
        """An instance is not probed, or not any more: it counts as up."""
        self.probed.pop(name, None)
        signal = self.signal(snapshot, name)
        self._set(snapshot, name, replace(signal, verdict=self._verdict(name)), now)

    def succeeds(self, snapshot: Snapshot, name: str, success: float) -> None:
        """Note what clients' reports make of an instance; 0: it is ejected."""
        self._note(snapshot, name, replace(self.signal(snapshot, name), success=success))

    def store_away(self, now: float) -> None:
        """The store could not be reached: leases may run out that nobody could renew."""
        self._store_away_at = now

    def doubt(self, names: Iterable[str], now: float) -> None:
        """Presences that were lost while nobody followed the store are not believed at once."""
        self._wait_until.update(dict.fromkeys(names, now + self.hold_down_s))

    def changed(self, snapshot: Snapshot, changes: Iterable[Change], now: float) -> None:
        """Committed changes are about to be swapped in: what they make of signals, in time."""
        changes = list(changes)
        put = {c.name: c.record for c in changes if isinstance(c.record, Service)}
        presence: dict[str, bool] = {}
        services: set[str] = set()
        left: set[str] = set()
        for change in changes:
            if change.kind is Kind.PRESENCE:
                presence[change.name] = change.record is not None
                instance = snapshot.topology.instances.get(change.name)
                services.update([instance.service] if instance else [])
                if change.record is not None and change.name not in snapshot.topology.presence:
                    self._newcomer(snapshot, change.name, now)
                if change.record is None and now - self._store_away_at < self.hold_down_s:
                    self._wait_until[change.name] = now + self.hold_down_s
            elif change.kind is Kind.INSTANCES:
                self._instance_changed(snapshot, change, put, now)
                (left.add if change.record is None else left.discard)(change.name)
        # Who was taken out is not lost.
        presence |= dict.fromkeys(left, True)
        for service in services:
            self._remove(snapshot, service, now, presence)

    def _instance_changed(
        self, snapshot: Snapshot, change: Change, put: Mapping[str, Service], now: float
    ) -> None:
        name = change.name
        if change.record is None:
            for held in (self.told, self.probed, self.learnt, self.ready_since, self._wait_until):
                held.pop(name, None)
            self.pending.pop(name, None)
            return
        if name in snapshot.topology.instances:
            return
        assert isinstance(change.record, Instance), "a change of instances holds one"
        named = change.record.service
        # Often both come with one document.
        service = put.get(named) or snapshot.topology.services.get(named)
        if service is not None and service.check is not None:
            # Nobody is sent there before a probe has passed; the first one comes at once.
            self.probed[name] = Probed(Verdict.RECOVERING)
            self.pending[name] = Signal(verdict=Verdict.RECOVERING)
        elif _has_peers(snapshot, change.record):
            self.ready_since[name] = now
            self.pending[name] = Signal(share=START_SHARE)

    def _newcomer(self, snapshot: Snapshot, name: str, now: float) -> None:
        """A known instance is ready again: it starts slowly."""
        instance = snapshot.topology.instances.get(name)
        if instance is not None and _has_peers(snapshot, instance):
            self.ready_since[name] = now
            self._note(snapshot, name, replace(self.signal(snapshot, name), share=START_SHARE))

    def tick(self, snapshot: Snapshot, now: float) -> None:
        """What the passing of time does: loads fade, shares are learnt, removals let through."""
        self._count_saved(now)
        passed_s = now - (self.balanced_at if self.balanced_at is not None else now)
        self.balanced_at = now
        self._forget_old(snapshot, now)
        by_service: dict[str, dict[str, float]] = {}
        for name, told in self.told.items():
            instance = snapshot.topology.instances.get(name)
            if instance is not None and told.load_at is not None:
                influence = _influence(now - told.load_at)
                by_service.setdefault(instance.service, {})[name] = influence
        ages = self._ages(snapshot, by_service, now)
        before, self._balanced = self._balanced, set(by_service)
        for service in self._balanced | before:
            view = snapshot.views.get(service)
            if view is not None:
                self._balance(snapshot, view, by_service.get(service, {}), passed_s, ages)
        for service, found in self.gone.items():
            if any(gone.out_at is None for gone in found.values()):
                self._remove(snapshot, service, now, {})

    def _balance(
        self,
        snapshot: Snapshot,
        view: ServiceView,
        loads: Mapping[str, float],
        passed_s: float,
        ages: Mapping[str, float],
    ) -> None:
        known, changed = rebalanced(view, self.learnt, loads, passed_s, ages)
        self.learnt.update(known)
        for name, signal in changed.items():
            held = self.signal(snapshot, name)
            self._note(snapshot, name, replace(held, share=signal.share, kept=signal.kept))

    def signal(self, snapshot: Snapshot, name: str) -> Signal:
        """What is known of an instance, swapped in or not yet."""
        return self.pending.get(name) or snapshot.signals.get(name, NO_SIGNAL)

    def _ages(
        self, snapshot: Snapshot, services: dict[str, dict[str, float]], now: float
    ) -> dict[str, float]:
        """Seconds since newcomers are ready; their services are added to those to balance."""
        ages: dict[str, float] = {}
        for name, since in list(self.ready_since.items()):
            instance = snapshot.topology.instances.get(name)
            service = snapshot.topology.services.get(instance.service) if instance else None
            if service is None or instance is None:
                del self.ready_since[name]
                continue
            services.setdefault(instance.service, {})
            if now - since < service.slow_start_s:
                ages[name] = now - since
            else:
                del self.ready_since[name]
        return ages

    def _count_saved(self, now: float) -> None:
        """What was saved counts as if told now: it fades unless it is told again."""
        while self._saved:
            told = self.told.setdefault(self._saved.pop(), Told())
            told.load_at = now if told.load_at is None else told.load_at

    def _forget_old(self, snapshot: Snapshot, now: float) -> None:
        for name, told in self.told.items():
            if told.load_at is not None and now - told.load_at > _FORGOTTEN_S:
                told.load_at = None
                self.learnt.pop(name, None)
                held = self.signal(snapshot, name)
                self._note(snapshot, name, replace(held, load=0.0))

    def _found(self, snapshot: Snapshot, name: str) -> Verdict:
        verdict = self.signal(snapshot, name).verdict
        return verdict if verdict is not Verdict.DRAINING else Verdict.UP

    def _verdict(self, name: str) -> Verdict:
        told, probed = self.told.get(name), self.probed.get(name)
        found = probed.verdict if probed else Verdict.UP
        if told and told.lame_duck and found not in _OUT:
            return Verdict.DRAINING
        return found

    def _set(self, snapshot: Snapshot, name: str, signal: Signal, now: float) -> None:
        """Take a signal over, with what a new verdict means for its service."""
        before = self.signal(snapshot, name)
        self._note(snapshot, name, signal)
        instance = snapshot.topology.instances.get(name)
        if signal.verdict is before.verdict or instance is None:
            return
        if signal.verdict is Verdict.UP and before.verdict in _OUT:
            self._newcomer(snapshot, name, now)
        self._remove(snapshot, instance.service, now, {})

    def _note(self, snapshot: Snapshot, name: str, signal: Signal) -> None:
        if signal != self.signal(snapshot, name) or name not in snapshot.signals:
            self.pending[name] = signal

    def _down(self, snapshot: Snapshot, service: str, presence: Mapping[str, bool]) -> list[str]:
        """The instances of a service that signals say are gone; operators' words do not count."""
        topology = snapshot.topology
        found = []
        for name in snapshot.rosters.get(service, ()):
            instance = topology.instances[name]
            there = presence.get(name, name in topology.presence) or not instance.registered
            verdict = self.signal(snapshot, name).verdict
            was_out = name in self.gone.get(service, ())
            is_down = not there or verdict is Verdict.DOWN or (was_out and verdict in _OUT)
            if is_down and topology.force_on(name) is None:
                found.append(name)
        return found

    def _remove(
        self, snapshot: Snapshot, service: str, now: float, presence: Mapping[str, bool]
    ) -> None:
        """Let through, or hold back, what is down of a service."""
        decided = snapshot.topology.services.get(service)
        if decided is None:
            self.gone.pop(service, None)
            return
        allowed = budget(decided.max_removal, len(snapshot.rosters.get(service, ())))
        down = self._down(snapshot, service, presence)
        before = self.gone.get(service, {})
        after = removals(down, before, allowed, self._wait_until, now)
        self.gone[service] = after
        for name in before.keys() | after.keys():
            held = name in after and after[name].out_at is None
            signal = self.signal(snapshot, name)
            if signal.held != held and name in snapshot.topology.instances:
                self._note(snapshot, name, replace(signal, held=held))
            if name not in after:
                self._wait_until.pop(name, None)


def _has_peers(snapshot: Snapshot, newcomer: Instance) -> bool:
    """True if there are others to whom a newcomer's clients go while it starts slowly."""
    view = snapshot.views.get(newcomer.service)
    if view is None or not view.service.slow_start_s:
        return False
    return any(
        member.verdict.is_ready and member.instance.pop == newcomer.pop
        for member in view.members
        if member.instance.name != newcomer.name
    )


def _influence(age_s: float) -> float:
    """How much a load of this age counts, 1 to 0."""
    return min(1.0, max(0.0, (_FORGOTTEN_S - age_s) / (_FORGOTTEN_S - _FRESH_S)))
