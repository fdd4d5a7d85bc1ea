"""What instances told, probes found and time did, and the signals that follow from it.

The decisions are core's (verdict, balance, removal); here is the memory between them. Time comes
as an argument, monotonic seconds. Whoever swaps (pump.py) takes the signals that changed. Of a
service that another core decides on, signals are taken from there; what is measured here is
remembered, and goes there.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from typing import NamedTuple

from meshd.core.balance import START_SHARE
from meshd.core.model import Check, Instance, Service
from meshd.core.signals import NO_SIGNAL, Signal, observe_load
from meshd.core.snapshot import ServiceView, Snapshot
from meshd.core.topology import Change, Kind
from meshd.core.verdict import Probed, Verdict
from meshd.daemon.adopted import Adopted
from meshd.daemon.duties import Duties
from meshd.daemon.losses import Losses
from meshd.daemon.shares import Shares
from meshd.daemon.told import FORGOTTEN_S, FRESH_S, News, Told
from meshd.daemon.votes import Vote, Votes

_OUT = (Verdict.DOWN, Verdict.RECOVERING)


class Moved(NamedTuple):
    """Services that this core decides on now, and those that it does not any more."""

    taken: Collection[str] = ()
    given: Collection[str] = ()


class Observed:
    """Everything measured, by instance."""

    def __init__(self, hold_down_s: float = 30.0, duties: Duties | None = None) -> None:
        self.duties = duties or Duties()
        self.told: dict[str, Told] = {}
        self.votes = Votes(self.duties)
        self.adopted = Adopted(self.duties)
        # What is lost so soon (seconds) after the store was away is not believed at once.
        self.losses = Losses(self.signal, hold_down_s)
        # Other cores whose store is away: they cannot renew leases of those that beat there.
        self.cut_off: set[str] = set()
        # Signals that differ from those in the snapshot.
        self.pending: dict[str, Signal] = {}
        self.shares = Shares()
        # What the last probe of an instance complained of; empty without a prober.
        self.seen: Callable[[str], str] = lambda instance: ""
        # What others have to be told, one each.
        self.news: set[News] = set()
        # What was saved by the core before, until the first tick.
        self._saved: set[str] = set()

    @classmethod
    def resume(cls, snapshot: Snapshot, duties: Duties | None = None) -> "Observed":
        """Go on from saved signals: what was down is let through, what was learnt is in shares."""
        made = cls(duties=duties)
        for name, signal in snapshot.signals.items():
            if signal.load or signal.share != 1 or signal.kept != 1:
                made._saved.add(name)
            if signal.verdict in _OUT:
                made.votes.own[name] = Probed(Verdict.DOWN, False)
        for view in snapshot.views.values():
            made.shares.resume(view)
        made.losses.resume(snapshot)
        return made

    def reloaded(self, before: Snapshot, snapshot: Snapshot, now: float) -> None:
        """The store was loaded whole: what it lost meanwhile is not believed at once."""
        known = {*self.told, *self.votes.own, *self.shares.learnt, *self.pending}
        for name in known - snapshot.topology.instances.keys():
            self._instance_left(name)
        self.losses.wait(before.topology.presence.keys() - snapshot.topology.presence.keys(), now)
        for service in self.losses.gone.keys() | snapshot.views.keys():
            self._remove(snapshot, service, now, {})
        self._settle(snapshot, snapshot.views, {}, snapshot.topology.revision, now)

    def beat(
        self, snapshot: Snapshot, name: str, told: Told, load: float | None, now: float
    ) -> None:
        """Note what an instance told of itself; Invalid if the load is none."""
        signal = self.signal(snapshot, name)
        before = self.told.get(name)
        told.at = now
        if load is not None:
            signal = observe_load(signal, load)
            told.load_at, told.load = now, load
        else:
            told.with_load_of(before)
        self.told[name] = told
        self._tell(lambda news: news.told, name)
        if self._decides(snapshot, name):
            self._set(snapshot, name, self._judged(snapshot, name, signal), now)

    def hear_told(self, snapshot: Snapshot, name: str, told: Told, now: float) -> None:
        """Note what an instance told another core; Invalid if the load is none."""
        signal = observe_load(self.signal(snapshot, name), told.load)
        before = self.told.get(name)
        if before is not None and before.by != told.by and told.at <= before.at:
            return
        if told.load_at is None:
            told.with_load_of(before)
            signal = self.signal(snapshot, name)
        self.told[name] = told
        if told.by in self.cut_off and told.at > now - FRESH_S:
            self.losses.wait_on(name, now)
        if self._decides(snapshot, name):
            self._set(snapshot, name, self._judged(snapshot, name, signal), now)

    def probe(self, snapshot: Snapshot, name: str, passed: bool, check: Check, now: float) -> None:
        """Note the result of one probe."""
        if self.votes.probe(name, passed, check, self._held(snapshot, name), now):
            self._tell(lambda news: news.votes, name)
        self._judge(snapshot, name, now)

    def unprobed(self, snapshot: Snapshot, name: str, now: float) -> None:
        """This core is to probe an instance but may not, or nobody is to any more."""
        self.votes.withdraw(name)
        if self._is_checked(snapshot, name):
            self.votes.refuse(name)
        self._tell(lambda news: news.votes, name)
        self._judge(snapshot, name, now)

    def withdraw(self, snapshot: Snapshot, name: str, now: float) -> None:
        """This core leaves the probing of an instance to others."""
        self.votes.withdraw(name)
        self._tell(lambda news: news.votes, name)
        self._judge(snapshot, name, now)

    def hear_vote(
        self, snapshot: Snapshot, core: str, name: str, vote: Vote | None, now: float
    ) -> None:
        """Note what another core's probes make of an instance; None: nothing any more."""
        if self.votes.hear(core, name, vote):
            self._judge(snapshot, name, now)

    def keep_votes(self, snapshot: Snapshot, core: str, names: Collection[str], now: float) -> None:
        """Another core told all of its votes: those it did not tell again are no more."""
        for name in self.votes.keep(core, names):
            self._judge(snapshot, name, now)

    def adopt(self, snapshot: Snapshot, signals: Mapping[str, Signal], now: float) -> None:
        """Take signals over from the cores that decide on them."""
        services = set()
        for name, signal in signals.items():
            before = self.signal(snapshot, name)
            if signal == before:
                continue
            self.pending[name] = signal
            instance = snapshot.topology.instances.get(name)
            if instance is None:
                continue
            if (signal.verdict, signal.held) != (before.verdict, before.held):
                services.add(instance.service)
            if signal.verdict is Verdict.UP and before.verdict in _OUT:
                self.shares.starts(snapshot, instance, now)
        for service in services:
            self.losses.mirror(snapshot, service, now)

    def share(
        self, snapshot: Snapshot, heard: Collection[str], able: Iterable[str], now: float
    ) -> Moved:
        """Other cores came or went: words of those that went die, and duties move."""
        duties = self.duties
        before = {service: duties.decider(service) for service in snapshot.views}
        has_moved = duties.take(heard, able)
        lost = self.votes.lose(duties.heard)
        self.adopted.lose(duties.heard)
        moved = [s for s, was in before.items() if has_moved and duties.decider(s) != was]
        taken = [service for service in moved if duties.decides(service)]
        for service in taken:
            self._take_over(snapshot, snapshot.views[service], now)
        for service in set(moved).difference(taken):
            self.adopt(snapshot, self.adopted.of_service(snapshot, service), now)
        for name in lost:
            self._judge(snapshot, name, now)
        return Moved(taken, [s for s in moved if before[s] == duties.node])

    def _take_over(self, snapshot: Snapshot, view: ServiceView, now: float) -> None:
        """Decide on a service from now on: go on from its signals, with what is known here."""
        signals = {}
        for member in view.members:
            name = member.instance.name
            signal = self.signal(snapshot, name)
            told = self.told.get(name)
            if told is not None and told.load_at is not None:
                signal = observe_load(signal, told.load)
            elif signal.load or signal.share != 1 or signal.kept != 1:
                self._saved.add(name)
            signals[name] = signal
        self._count_saved(snapshot, now)
        telling = {n for n in signals if n in self.told and self.told[n].load_at is not None}
        self.shares.resume(view, telling)
        for name, signal in signals.items():
            self.shares.resume_start(view, name, signal, now)
            self._tell(lambda news: news.signals, name)
            self._set(snapshot, name, self._judged(snapshot, name, signal), now)

    def succeeds(self, snapshot: Snapshot, name: str, success: float) -> None:
        """Note what clients' reports make of an instance; 0: it is ejected."""
        self._note(snapshot, name, replace(self.signal(snapshot, name), success=success))

    def store_away(self, now: float) -> None:
        """The store could not be reached: leases may run out that nobody could renew."""
        self.losses.store_away(now)

    def doubt(self, names: Iterable[str], now: float) -> None:
        """Presences that were lost while nobody followed the store are not believed at once."""
        self.losses.wait(names, now)

    def changed(
        self, snapshot: Snapshot, changes: Iterable[Change], now: float, revision: int = 0
    ) -> None:
        """Committed changes are about to be swapped in: what they make of signals, in time."""
        changes = list(changes)
        put = {c.name: c.record for c in changes if isinstance(c.record, Service)}
        presence: dict[str, bool] = {}
        services: set[str] = set()
        left: set[str] = set()
        came: dict[str, str] = {}
        for change in changes:
            if change.kind is Kind.PRESENCE:
                presence[change.name] = change.record is not None
                instance = snapshot.topology.instances.get(change.name)
                services.update([instance.service] if instance else [])
                if change.record is not None and change.name not in snapshot.topology.presence:
                    self._newcomer(snapshot, change.name, now)
                if change.record is None:
                    self._lost(change.name, now)
            elif isinstance(change.record, Instance):
                self._instance_came(snapshot, change.record, put, now)
                left.discard(change.name)
                came[change.name] = change.record.service
            elif change.kind is Kind.INSTANCES:
                self._instance_left(change.name)
                left.add(change.name)
        # Who was taken out is not lost.
        presence |= dict.fromkeys(left, True)
        for service in services:
            self._remove(snapshot, service, now, presence)
        self._settle(snapshot, services | set(came.values()), came, revision, now)

    def _lost(self, name: str, now: float) -> None:
        """A presence is lost: its lease may have run out though the instance is well."""
        told = self.told.get(name)
        if told is not None and told.by in self.cut_off:
            self.losses.wait([name], now)
        else:
            self.losses.doubt(name, now)

    def _settle(
        self,
        snapshot: Snapshot,
        services: Collection[str],
        came: Mapping[str, str],
        revision: int,
        now: float,
    ) -> None:
        """The store changed services: what their deciders made of that counts, once they did."""
        elsewhere = {service for service in services if not self.duties.decides(service)}
        self.adopted.touch(snapshot, elsewhere, revision)
        for service in elsewhere:
            names = [name for name, of in came.items() if of == service]
            self.adopt(snapshot, self.adopted.of_service(snapshot, service, names), now)

    def _instance_left(self, name: str) -> None:
        self.told.pop(name, None)
        self.pending.pop(name, None)
        self.shares.forget(name)
        self.votes.forget(name)
        self.losses.forget(name)

    def _instance_came(
        self, snapshot: Snapshot, instance: Instance, put: Mapping[str, Service], now: float
    ) -> None:
        name = instance.name
        if name in snapshot.topology.instances:
            return
        # Often both come with one document.
        service = put.get(instance.service) or snapshot.topology.services.get(instance.service)
        if service is not None and service.check is not None:
            # Nobody is sent there before a probe has passed; the first one comes at once.
            self.votes.own[name] = Probed(Verdict.RECOVERING)
            self.pending[name] = Signal(verdict=Verdict.RECOVERING)
        elif self.shares.starts(snapshot, instance, now):
            self.pending[name] = Signal(share=START_SHARE)
        if name in self.pending and self.duties.decides(instance.service):
            self._tell(lambda news: news.signals, name)

    def _newcomer(self, snapshot: Snapshot, name: str, now: float) -> None:
        """A known instance is ready again: it starts slowly."""
        instance = snapshot.topology.instances.get(name)
        if instance is not None and self.shares.starts(snapshot, instance, now):
            self._note(snapshot, name, replace(self.signal(snapshot, name), share=START_SHARE))

    def tick(self, snapshot: Snapshot, now: float) -> None:
        """What the passing of time does: loads fade, shares are learnt, removals let through."""
        self._count_saved(snapshot, now)
        self._forget_old(snapshot, now)
        changed = self.shares.tick(snapshot, self.told, self.duties.decides, now)
        for name, signal in changed.items():
            held = self.signal(snapshot, name)
            self._note(snapshot, name, replace(held, share=signal.share, kept=signal.kept))
        for service in self.losses.waiting():
            if self.duties.decides(service):
                self._remove(snapshot, service, now, {})

    def signal(self, snapshot: Snapshot, name: str) -> Signal:
        """What is known of an instance, swapped in or not yet."""
        return self.pending.get(name) or snapshot.signals.get(name, NO_SIGNAL)

    def _count_saved(self, snapshot: Snapshot, now: float) -> None:
        """What was saved counts as if told now: it fades unless it is told again."""
        while self._saved:
            name = self._saved.pop()
            told = self.told.setdefault(name, Told(by=None))
            if told.load_at is None:
                told.load_at, told.load = now, self.signal(snapshot, name).load

    def _forget_old(self, snapshot: Snapshot, now: float) -> None:
        for name, told in self.told.items():
            if told.load_at is not None and now - told.load_at > FORGOTTEN_S:
                told.load_at, told.load = None, 0.0
                self.shares.learnt.pop(name, None)
                if self._decides(snapshot, name):
                    self._note(snapshot, name, replace(self.signal(snapshot, name), load=0.0))

    def _decides(self, snapshot: Snapshot, name: str) -> bool:
        instance = snapshot.topology.instances.get(name)
        return instance is None or self.duties.decides(instance.service)

    def _is_checked(self, snapshot: Snapshot, name: str) -> bool:
        instance = snapshot.topology.instances.get(name)
        service = snapshot.topology.services.get(instance.service) if instance else None
        return service is None or service.check is not None or name in self.votes.own

    def _held(self, snapshot: Snapshot, name: str) -> Verdict:
        """What is held of an instance, as far as probes are concerned."""
        verdict = self.signal(snapshot, name).verdict
        return verdict if verdict is not Verdict.DRAINING else Verdict.UP

    def _judged(self, snapshot: Snapshot, name: str, signal: Signal) -> Signal:
        """A signal with the verdict that all words on an instance make."""
        found, told = Verdict.UP, self.told.get(name)
        if self._is_checked(snapshot, name):
            found = self.votes.found(name, self._held(snapshot, name))
        if told and told.lame_duck and found not in _OUT:
            found = Verdict.DRAINING
        return replace(signal, verdict=found)

    def _judge(self, snapshot: Snapshot, name: str, now: float) -> None:
        """Somebody's word on an instance changed."""
        if self._decides(snapshot, name):
            signal = self._judged(snapshot, name, self.signal(snapshot, name))
            self._set(snapshot, name, signal, now)

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
            if self.news and self._decides(snapshot, name):
                self._tell(lambda news: news.signals, name)

    def _tell(self, of: Callable[[News], set[str]], name: str) -> None:
        """Others are to be told something of an instance."""
        for news in self.news:
            of(news).add(name)
            news.wake.set()

    def _remove(
        self, snapshot: Snapshot, service: str, now: float, presence: Mapping[str, bool]
    ) -> None:
        """Let through, or hold back, what is down of a service."""
        for name, held in self.losses.decide(snapshot, service, now, presence).items():
            signal = self.signal(snapshot, name)
            if signal.held != held and name in snapshot.topology.instances:
                self._note(snapshot, name, replace(signal, held=held))
