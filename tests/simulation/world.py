"""A world in virtual time: clients that keep answers for their TTL, instances that fill up, reports
that come late. Answers and signals are those of the real core; nothing here ranks.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import ip_address

from meshd.core.balance import Learnt, rebalanced
from meshd.core.hashing import BUCKETS
from meshd.core.model import Instance, NameServer, Pop, Port, Record, Service, Ttl, Zone
from meshd.core.ranges import Policy
from meshd.core.resolve import Spot, choose
from meshd.core.selector import Version
from meshd.core.signals import NO_SIGNAL, Signal, observe_load
from meshd.core.snapshot import ServiceView, Snapshot
from meshd.core.topology import Topology

# What a core makes of the loads that reached it: signals for the next answers.
Judge = Callable[["World", Mapping[str, float]], Mapping[str, Signal]]


@dataclass(frozen=True)
class Setting:
    """A world: instances as name -> (Pop, true strength), demand over time, and delays."""

    instances: Mapping[str, tuple[str, float]]
    # Demand of the clients of each Pop at a time in s, in units of all instances there.
    demand: Callable[[str, int], float]
    ttl: Ttl = field(default=Ttl(5, 60))
    report_delay_s: int = 1
    # Instances that say they are idle.
    liars: frozenset[str] = frozenset()
    # Instances that lose strength: name -> (from which second, to what).
    weakened: Mapping[str, tuple[int, float]] = field(default_factory=dict)
    # What is told is off by up to this much, evenly.
    noise: float = 0.0
    clients: int = 1200
    fallback: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass
class _Client:
    pop: str
    bucket: int
    part: float
    asks_at: float
    instance: str = ""


class World:
    """Plays a setting second by second."""

    def __init__(self, setting: Setting, judge: Judge, seed: int = 1) -> None:
        draw = random.Random(seed)
        self.setting = setting
        self.snapshot = _snapshot(setting)
        self.learnt: dict[str, Learnt] = {}
        self.loads: list[dict[str, float]] = []
        self.ttls: list[int] = []
        self.questions = 0
        # Seconds in which some answer became another one.
        self.changes: list[int] = []
        self._judge = judge
        self._noise = random.Random(seed + 1)
        self._pops = sorted({pop for pop, _ in setting.instances.values()})
        self._clients = [
            _Client(
                draw.choice(self._pops),
                draw.randrange(BUCKETS),
                draw.lognormvariate(0, 1),
                draw.uniform(0, setting.ttl.max_s),
            )
            for _ in range(setting.clients)
        ]
        for pop in self._pops:
            here = [client for client in self._clients if client.pop == pop]
            whole = sum(client.part for client in here)
            for client in here:
                client.part /= whole

    @property
    def view(self) -> ServiceView:
        """The service as it is judged now."""
        return self.snapshot.views["api"]

    def run(self, seconds: int) -> "World":
        """Let time pass."""
        for now in range(len(self.loads), len(self.loads) + seconds):
            known = now - self.setting.report_delay_s
            if known >= 0:
                before = self.snapshot
                signals = self._judge(self, self._told(known))
                if signals:
                    self.snapshot = self.snapshot.advance(signals=dict(signals))
                if self.snapshot.signals != before.signals:
                    self.changes.append(now)
            self._ask(now)
            self.loads.append(self._load(now))
        return self

    def _told(self, second: int) -> dict[str, float]:
        """The loads of one second as they are reported."""
        wobble, most = self._noise.uniform, self.setting.noise
        told = {
            name: min(1.0, max(0.0, load + wobble(-most, most)))
            for name, load in self.loads[second].items()
        }
        return told | dict.fromkeys(self.setting.liars, 0.0)

    def _ask(self, now: int) -> None:
        ttl = 0
        for client in self._clients:
            if client.asks_at <= now or not client.instance:
                choice = choose(self.view, Spot(), Policy(client.pop, {}), client.bucket)
                client.instance = choice.chosen[0].member.instance.name
                if client.asks_at <= now:
                    client.asks_at = now + choice.ttl.seconds
                    self.questions += 1
                ttl = choice.ttl.seconds
        self.ttls.append(ttl or (self.ttls[-1] if self.ttls else 0))

    def _load(self, now: int) -> dict[str, float]:
        """Work on each instance, in units of what it can do."""
        strength = {
            pop: sum(s for p, s in self.setting.instances.values() if p == pop)
            for pop in self._pops
        }
        work = dict.fromkeys(self.setting.instances, 0.0)
        for client in self._clients:
            demand = self.setting.demand(client.pop, now) * strength[client.pop]
            work[client.instance] += client.part * demand
        return {name: work[name] / self._strength(name, now) for name in work}

    def _strength(self, name: str, now: int) -> float:
        since, becomes = self.setting.weakened.get(name, (0, 0.0))
        return becomes if becomes and now >= since else self.setting.instances[name][1]

    def series(self, name: str) -> list[float]:
        """The load of one instance, second by second."""
        return [loads[name] for loads in self.loads]

    def mean(self, pop: str, second: int) -> float:
        """The mean load of a Pop."""
        here = [name for name, (place, _) in self.setting.instances.items() if place == pop]
        return sum(self.loads[second][name] for name in here) / len(here)

    def kept(self, pop: str) -> float:
        """The part of its clients that a Pop is to keep now."""
        return min(m.signal.kept for m in self.view.members if m.instance.pop == pop)

    def overload(self, begin: int = 0) -> float:
        """Work beyond what instances can do, from a second on: load above 1, times seconds."""
        return sum(max(0.0, load - 1) for loads in self.loads[begin:] for load in loads.values())

    def share(self, name: str, last_s: int) -> float:
        """The part of all work that one instance did in the last seconds."""
        strength = {n: s for n, (_, s) in self.setting.instances.items()}
        done = {n: sum(x[n] for x in self.loads[-last_s:]) * strength[n] for n in strength}
        return done[name] / sum(done.values())


def _snapshot(setting: Setting) -> Snapshot:
    pops = sorted({pop for pop, _ in setting.instances.values()})
    records: list[Record] = [
        Zone("mesh.internal.", (NameServer("ns.example."),), "h@example"),
        *(Pop(pop, None, setting.fallback.get(pop, ())) for pop in pops),
        Service("api", "api.mesh.internal.", (Port("http", 80),), ttl=setting.ttl),
    ]
    for number, (name, (pop, _)) in enumerate(setting.instances.items()):
        address = ip_address(f"10.0.0.{number + 1}")
        records.append(Instance(name, "api", Version("1.0"), pop, (address,)))
    return Snapshot.build(Topology.load("world", 1, records))


def balanced(world: World, loads: Mapping[str, float]) -> Mapping[str, Signal]:
    """What meshd does."""
    told = {
        name: observe_load(world.snapshot.signals.get(name, NO_SIGNAL), load)
        for name, load in loads.items()
    }
    world.snapshot = world.snapshot.advance(signals=dict(told))
    world.learnt, changed = rebalanced(world.view, world.learnt, dict.fromkeys(loads, 1.0), 1.0)
    return changed


def at_home(world: World, loads: Mapping[str, float]) -> Mapping[str, Signal]:
    """What meshd does, but for what it sends to other Pops."""
    signals = balanced(world, loads)
    return {name: replace(signal, kept=1.0) for name, signal in signals.items()}


def headroom_as_weight(world: World, loads: Mapping[str, float]) -> Mapping[str, Signal]:
    """What looks right: the share is what is free."""
    return {name: Signal(load=load, share=max(0.05, 1 - load)) for name, load in loads.items()}


def least_loaded(world: World, loads: Mapping[str, float]) -> Mapping[str, Signal]:
    """Argmin: all clients to whoever is least loaded."""
    idle = min(loads, key=lambda name: (loads[name], name))
    return {
        name: Signal(load=load, share=1.0 if name == idle else 1e-6) for name, load in loads.items()
    }


def spread(values: Sequence[float]) -> float:
    """How far a series swings: its highest less its lowest."""
    return max(values) - min(values)
