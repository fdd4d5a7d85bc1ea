"""What is gone of each service, and what of it is let through: the memory around core's removal.

Time comes as an argument, monotonic seconds.
"""

from collections.abc import Callable, Iterable, Mapping

from meshd.core.removal import Gone, budget, removals
from meshd.core.signals import Signal
from meshd.core.snapshot import Snapshot
from meshd.core.verdict import Verdict

_LONG_AGO = Gone(float("-inf"), float("-inf"))


class Losses:
    """Who is down by signals, by service, and which losses are not believed yet."""

    def __init__(self, signal: Callable[[Snapshot, str], Signal], hold_down_s: float) -> None:
        self._signal = signal
        self._hold_down_s = hold_down_s
        self.gone: dict[str, dict[str, Gone]] = {}
        self._store_away_at = float("-inf")
        self._wait_until: dict[str, float] = {}

    def resume(self, snapshot: Snapshot) -> None:
        """Go on from a snapshot: what was down in it is let through."""
        for service in snapshot.views:
            down = self._down(snapshot, service, {})
            self.gone[service] = dict.fromkeys(down, _LONG_AGO)

    def store_away(self, now: float) -> None:
        """The store could not be reached: leases may run out that nobody could renew."""
        self._store_away_at = now

    def doubt(self, name: str, now: float) -> None:
        """A presence is lost: not believed at once, if the store was away just now."""
        if now - self._store_away_at < self._hold_down_s:
            self.wait([name], now)

    def wait(self, names: Iterable[str], now: float) -> None:
        """Losses that are not believed at once."""
        self._wait_until.update(dict.fromkeys(names, now + self._hold_down_s))

    def wait_on(self, name: str, now: float) -> None:
        """A loss that is not believed yet is so for longer."""
        if name in self._wait_until:
            self.wait([name], now)

    def forget(self, name: str) -> None:
        """An instance is no more."""
        self._wait_until.pop(name, None)

    def decide(
        self, snapshot: Snapshot, service: str, now: float, presence: Mapping[str, bool]
    ) -> Mapping[str, bool]:
        """Who of a service is held back and who is not any more; `presence` is about to be."""
        decided = snapshot.topology.services.get(service)
        if decided is None:
            self.gone.pop(service, None)
            return {}
        allowed = budget(decided.max_removal, len(snapshot.rosters.get(service, ())))
        down = self._down(snapshot, service, presence)
        before = self.gone.get(service, {})
        after = removals(down, before, allowed, self._wait_until, now)
        self.gone[service] = after
        for name in before.keys() - after.keys():
            self._wait_until.pop(name, None)
        return {
            name: name in after and after[name].out_at is None
            for name in before.keys() | after.keys()
        }

    def mirror(self, snapshot: Snapshot, service: str, now: float) -> None:
        """Another core decided: remember it, to go on from there."""
        before = self.gone.get(service, {})
        after = {}
        for name in self._down(snapshot, service, {}):
            known = before.get(name, Gone(now, None))
            if self._signal(snapshot, name).held:
                after[name] = known._replace(out_at=None)
            else:
                after[name] = known if known.out_at is not None else known._replace(out_at=now)
        self.gone[service] = after

    def waiting(self) -> list[str]:
        """Services of which something is held back."""
        return [
            service
            for service, found in self.gone.items()
            if any(gone.out_at is None for gone in found.values())
        ]

    def _down(self, snapshot: Snapshot, service: str, presence: Mapping[str, bool]) -> list[str]:
        """The instances of a service that signals say are gone; operators' words do not count."""
        topology = snapshot.topology
        found = []
        for name in snapshot.rosters.get(service, ()):
            instance = topology.instances[name]
            there = presence.get(name, name in topology.presence) or not instance.registered
            verdict = self._signal(snapshot, name).verdict
            was_out = name in self.gone.get(service, ())
            is_out = verdict in (Verdict.DOWN, Verdict.RECOVERING)
            is_down = not there or verdict is Verdict.DOWN or (was_out and is_out)
            if is_down and topology.force_on(name) is None:
                found.append(name)
        return found
