"""What was learnt of loads, and who is new: the memory around core's balance.

Time comes as an argument, monotonic seconds.
"""

from collections.abc import Callable, Collection, Mapping

from meshd.core.balance import NOTHING, START_SHARE, Learnt, rebalanced, resumed
from meshd.core.model import Instance
from meshd.core.signals import Signal
from meshd.core.snapshot import ServiceView, Snapshot
from meshd.daemon.told import Told


class Shares:
    """By instance: what was learnt of it, and since when it is ready."""

    def __init__(self) -> None:
        self.learnt: dict[str, Learnt] = {}
        # Instance -> since when it is ready, as long as that is news.
        self.ready_since: dict[str, float] = {}
        self._balanced_at: float | None = None
        # Services that were balanced in the last tick: once more, when nobody tells a load now.
        self._balanced: set[str] = set()

    def resume(self, view: ServiceView, told: Collection[str] | None = None) -> None:
        """Go on from the shares in a view; `told` are those that tell a load, if that is known."""
        self.learnt.update(resumed(view, told))

    def resume_start(self, view: ServiceView, name: str, signal: Signal, now: float) -> None:
        """Who has less than what follows from its load is still starting slowly."""
        slow_s = view.service.slow_start_s
        is_weak = self.learnt.get(name, NOTHING).drift
        if name in self.ready_since or is_weak or not slow_s:
            return
        if START_SHARE <= signal.share < 1:
            done = (signal.share - START_SHARE) / (1 - START_SHARE)
            self.ready_since[name] = now - done * slow_s

    def starts(self, snapshot: Snapshot, newcomer: Instance, now: float) -> bool:
        """An instance is ready from now on; True if it has to start slowly.

        That is if there are others to whom its clients go meanwhile.
        """
        view = snapshot.views.get(newcomer.service)
        if view is None or not view.service.slow_start_s:
            return False
        has_peers = any(
            member.verdict.is_ready and member.instance.pop == newcomer.pop
            for member in view.members
            if member.instance.name != newcomer.name
        )
        if has_peers:
            self.ready_since[newcomer.name] = now
        return has_peers

    def forget(self, name: str) -> None:
        """An instance is no more."""
        self.learnt.pop(name, None)
        self.ready_since.pop(name, None)

    def tick(
        self,
        snapshot: Snapshot,
        told: Mapping[str, Told],
        decides: Callable[[str], bool],
        now: float,
    ) -> Mapping[str, Signal]:
        """Learn; returns signals whose `share` and `kept` have changed."""
        passed_s = now - (self._balanced_at if self._balanced_at is not None else now)
        self._balanced_at = now
        by_service: dict[str, dict[str, float]] = {}
        for name, each in told.items():
            instance = snapshot.topology.instances.get(name)
            if instance is not None and each.load_at is not None:
                by_service.setdefault(instance.service, {})[name] = each.influence(now)
        ages = self._ages(snapshot, by_service, now)
        before, self._balanced = self._balanced, set(by_service)
        found: dict[str, Signal] = {}
        for service in self._balanced | before:
            view = snapshot.views.get(service)
            if view is not None and decides(service):
                loads = by_service.get(service, {})
                known, changed = rebalanced(view, self.learnt, loads, passed_s, ages)
                self.learnt.update(known)
                found |= changed
        return found

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
