"""Which instances this core probes, as the last snapshot had it."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from meshd.core.guard import Guard, probe_at, probe_refusal
from meshd.core.model import Address, Check, Instance, Service
from meshd.core.ranking import Member
from meshd.core.snapshot import ServiceView, Snapshot
from meshd.core.verdict import Verdict
from meshd.daemon.probes.kinds import Result

# What only probes make of an instance.
_BY_PROBES = (Verdict.FAILING, Verdict.DOWN, Verdict.RECOVERING)
_NOWHERE = (IPv4Address(0), 0)


@dataclass(eq=False, slots=True)
class Target:
    """An instance of a checked service; with a `refusal` it is not probed."""

    instance: Instance
    service: Service
    check: Check
    address: Address
    port: int
    refusal: str = ""
    last: Result | None = None
    is_gone: bool = False

    @classmethod
    def of(cls, instance: Instance, service: Service, check: Check, guard: Guard) -> "Target":
        """Where and how an instance is to be probed, or why not."""
        # A store may hold what others wrote: asked here again, for no probe may rest on it.
        refusal = probe_refusal(guard, service, instance)
        address, port = probe_at(service, instance) or _NOWHERE
        return cls(instance, service, check, address, port, refusal)

    def is_as(self, other: "Target") -> bool:
        """True if both are probed alike."""
        return (self.address, self.port, self.refusal) == (
            other.address,
            other.port,
            other.refusal,
        ) and self.check == other.check


@dataclass
class Targets:
    """Follows snapshots; `is_mine` says which instances this core probes."""

    guard: Guard
    is_mine: Callable[[str], bool]
    by_name: dict[str, Target] = field(default_factory=dict)
    _views: Mapping[str, ServiceView] = field(default_factory=dict)

    def follow(self, snapshot: Snapshot) -> tuple[list[Target], list[Target], list[str]]:
        """What is new, what has gone, and whom nobody probes although probes judged it once."""
        new: list[Target] = []
        gone: list[Target] = []
        idle: list[str] = []
        before, self._views = self._views, snapshot.views
        if before is self._views:
            return new, gone, idle
        changed = [(n, view) for n, view in self._views.items() if before.get(n) is not view]
        for name in [name for name in before if name not in self._views]:
            gone += self._drop(name, before[name].members)
        for name, view in changed:
            if name in before:
                left = {member.instance.name for member in view.members}
                was = before[name].members
                gone += self._drop(name, [m for m in was if m.instance.name not in left])
            for member in view.members:
                self._member(view.service, member, new, gone)
            idle += self._idle(view)
        return new, gone, idle

    def _drop(self, service: str, members: Iterable[Member]) -> Iterable[Target]:
        for member in members:
            held = self.by_name.get(member.instance.name)
            # It may stand in another service by now.
            if held is not None and held.service.name == service:
                yield self._forget(held)

    def _forget(self, target: Target) -> Target:
        del self.by_name[target.instance.name]
        target.is_gone = True
        return target

    def _member(
        self, service: Service, member: Member, new: list[Target], gone: list[Target]
    ) -> None:
        instance = member.instance
        held = self.by_name.get(instance.name)
        if held is not None and held.instance is instance and held.service is service:
            return
        made = None
        if service.check is not None and self.is_mine(instance.name):
            made = Target.of(instance, service, service.check, self.guard)
        if held is not None and made is not None and held.is_as(made):
            held.instance, held.service = instance, service
            return
        if held is not None:
            gone.append(self._forget(held))
        if made is not None:
            self.by_name[instance.name] = made
            new.append(made)

    def _idle(self, view: ServiceView) -> Iterable[str]:
        """Members that nobody probes, but that are judged as if."""
        for member in view.members:
            if member.signal.verdict not in _BY_PROBES:
                continue
            held = self.by_name.get(member.instance.name)
            if view.service.check is None or (held is not None and held.refusal):
                yield member.instance.name
