"""Signals that other cores told of, by core, and which of them count here and now.

A core's signals count for the services that it decides on. What the store did to a service since
is not undone by one that has not heard of it yet: its signals wait until it has.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from meshd.core.signals import NO_SIGNAL, Signal
from meshd.core.snapshot import Snapshot
from meshd.daemon.duties import Duties

# Signals that one core may tell of instances that are not known here: they may come to be.
MOST_UNKNOWN = 10_000


@dataclass(slots=True)
class _Sender:
    """What one core told, and the revision that it was at."""

    revision: int = 0
    signals: dict[str, Signal] = field(default_factory=dict)
    late: set[str] = field(default_factory=set)


class Adopted:
    """The last signals of each core."""

    def __init__(self, duties: Duties) -> None:
        self._duties = duties
        self._senders: dict[str, _Sender] = {}
        # Service -> the revision at which the store changed its signals here.
        self._touched: dict[str, int] = {}

    def hear(
        self, snapshot: Snapshot, core: str, revision: int, signals: Mapping[str, Signal]
    ) -> Mapping[str, Signal]:
        """Take what a core tells at a revision; returns what counts of it now."""
        sender = self._senders.setdefault(core, _Sender())
        sender.revision = revision
        most = len(snapshot.topology.instances) + MOST_UNKNOWN
        for name, signal in signals.items():
            if name in sender.signals or len(sender.signals) < most:
                sender.signals[name] = signal
        late, sender.late = sender.late, set()
        return self._counting(snapshot, core, {*signals, *late})

    def keep(
        self, snapshot: Snapshot, core: str, names: Iterable[str], decides: Iterable[str]
    ) -> Mapping[str, Signal]:
        """What a core did not tell again is no more; returns what counts of that now.

        `decides` are the services that it told everything of.
        """
        sender = self._senders.setdefault(core, _Sender())
        for name in sender.signals.keys() - names:
            del sender.signals[name]
            sender.late.discard(name)
        silent = [
            name
            for service in decides
            for name in snapshot.rosters.get(service, ())
            if name not in sender.signals
        ]
        return self._counting(snapshot, core, silent)

    def of_service(
        self, snapshot: Snapshot, service: str, names: Iterable[str] = ()
    ) -> Mapping[str, Signal]:
        """What counts of a service now, as its decider told it; `names` are to come to it."""
        core = self._duties.decider(service)
        sender = self._senders.get(core)
        if sender is None or sender.revision < self._touched.get(service, 0):
            return {}
        names = {*snapshot.rosters.get(service, ()), *names}
        return {name: sender.signals[name] for name in names if name in sender.signals}

    def touch(self, snapshot: Snapshot, services: Iterable[str], revision: int) -> None:
        """The store changed what counts for services: what was told before is looked at again."""
        for service in services:
            self._touched[service] = revision
            sender = self._senders.get(self._duties.decider(service))
            if sender is not None and sender.revision < revision:
                roster = snapshot.rosters.get(service, frozenset())
                sender.late.update(name for name in roster if name in sender.signals)

    def lose(self, cores: Iterable[str]) -> None:
        """Forget all but some cores."""
        for core in self._senders.keys() - cores:
            del self._senders[core]

    def _counting(self, snapshot: Snapshot, core: str, names: Iterable[str]) -> dict[str, Signal]:
        sender = self._senders[core]
        found = {}
        for name in names:
            instance = snapshot.topology.instances.get(name)
            if instance is None or self._duties.decider(instance.service) != core:
                continue
            if sender.revision < self._touched.get(instance.service, 0):
                sender.late.add(name)
            else:
                found[name] = sender.signals.get(name, NO_SIGNAL)
        return found
