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


@dataclass(slots=True)
class Followed:
    """What a snapshot changed.

    `idle`: whom nobody probes although probes judged it once. `left`: whom others probe now.
    """

    new: list[Target] = field(default_factory=list)
    gone: list[Target] = field(default_factory=list)
    idle: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)


@dataclass
class Targets:
    """Follows snapshots; `is_mine` says which instances this core probes."""

    guard: Guard
    is_mine: Callable[[str], bool]
    by_name: dict[str, Target] = field(default_factory=dict)
    _views: Mapping[str, ServiceView] = field(default_factory=dict)
    _is_reassigned: bool = False

    def reassign(self) -> None:
        """What is this core's to probe has changed: look at all of them again."""
        self._is_reassigned = True

    def follow(self, snapshot: Snapshot) -> Followed:
        """What has changed since the snapshot before."""
        found = Followed()
        before, self._views = self._views, snapshot.views
        if before is self._views and not self._is_reassigned:
            return found
        changed = [
            (name, view)
            for name, view in self._views.items()
            if before.get(name) is not view or self._is_reassigned
        ]
        for name in [name for name in before if name not in self._views]:
            found.gone += self._drop(name, before[name].members)
        for name, view in changed:
            if name in before:
                there = {member.instance.name for member in view.members}
                was = before[name].members
                found.gone += self._drop(name, [m for m in was if m.instance.name not in there])
            for member in view.members:
                self._member(view.service, member, found)
            found.idle += self._idle(view)
        self._is_reassigned = False
        return found

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

    def _member(self, service: Service, member: Member, found: Followed) -> None:
        instance = member.instance
        held = self.by_name.get(instance.name)
        is_same = held is not None and held.instance is instance and held.service is service
        if is_same and not self._is_reassigned:
            return
        made = None
        if service.check is not None and self.is_mine(instance.name):
            made = Target.of(instance, service, service.check, self.guard)
        if held is not None and made is not None and held.is_as(made):
            held.instance, held.service = instance, service
            return
        if held is not None:
            found.gone.append(self._forget(held))
        if made is not None:
            self.by_name[instance.name] = made
            found.new.append(made)
        elif held is not None and service.check is not None:
            found.left.append(instance.name)

    def _idle(self, view: ServiceView) -> Iterable[str]:
        """Members that nobody probes, but that are judged as if."""
        for member in view.members:
            if member.signal.verdict not in _BY_PROBES:
                continue
            held = self.by_name.get(member.instance.name)
            if view.service.check is None or (held is not None and held.refusal):
                yield member.instance.name
