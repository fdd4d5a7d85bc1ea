"""What Prometheus is told of versions in motion, and of the arms of experiments."""

from collections.abc import Mapping
from dataclasses import replace
from ipaddress import IPv4Address, ip_address

import pytest
from prometheus_client.registry import CollectorRegistry

from meshd.core.histogram import bucket_of
from meshd.core.judging import Reading, Ruling
from meshd.core.model import Instance, NameServer, Pop, Port, Prefix, Range, Record, Service, Zone
from meshd.core.names import to_wire
from meshd.core.outcomes import Outcome, Reporter
from meshd.core.release import (
    Course,
    Experiment,
    ExperimentArm,
    Phase,
    Rollout,
    Scope,
    steps_of,
)
from meshd.core.resolve import Client, resolve
from meshd.core.selector import Exact, Version
from meshd.core.snapshot import Snapshot
from meshd.core.topology import Change, Topology
from meshd.daemon import arms
from meshd.daemon.commits import Commits
from meshd.daemon.pump import Pump
from meshd.daemon.rollout_metrics import RolloutCollector
from meshd.daemon.rollouts import Advancing
from meshd.daemon.state import State
from meshd.daemon.store.memory import MemoryStore

V2, V3 = Version("1.2.0"), Version("1.3.0")
CART = Experiment(
    "cart", "api", (ExperimentArm("a", Exact(V2), 50), ExperimentArm("b", Exact(V3), 25)),
    Scope(pops=("eu",)),
)  # fmt: skip


def snapshot() -> Snapshot:
    ranges = [
        Range(Prefix.parse("10.1.0.0/16"), "eu"),
        Range(Prefix.parse("10.2.0.0/16"), "us"),
    ]
    instances = [
        Instance(f"i{n}", "api", version, "eu", (IPv4Address(n + 1),))
        for n, version in enumerate((V2, V3))
    ]
    zone = Zone("mesh.internal.", (NameServer("ns.example."),), "h@example")
    service = Service("api", "api.mesh.internal.", (Port("http", 80),))
    records: list[Record] = [zone, Pop("eu"), Pop("us"), *ranges, service, *instances, CART]
    return Snapshot.build(Topology.load("x", 1, records))


class Told:
    """A collector over a state, and what it says."""

    def __init__(self) -> None:
        store, state = MemoryStore(), State(snapshot(), 0)
        self.state, self.pump = state, Pump(store, state)
        self.advancing = Advancing(state, self.pump, Commits(store, state, self.pump))
        self.registry = CollectorRegistry()
        self.registry.register(RolloutCollector(state, self.advancing, self.pump.reports))

    def hears(self, host: str, outcome: Outcome) -> None:
        assert self.pump.reports.note(self.state.snapshot, Reporter(host, "r"), "i0", outcome, 1.0)

    def value(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, labels)


def arm_of(state: State, host: str) -> str:
    """The arm whose version a host is answered."""
    client = Client(4, int(ip_address(host)), 32)
    choice = resolve(state.snapshot, to_wire("api.mesh.internal."), client).choice
    assert choice is not None
    return {"1.2.0": "a", "1.3.0": "b"}[str(choice.arm)] if isinstance(choice.arm, Exact) else ""


def test_outcomes_are_of_the_arm_that_the_host_is_answered() -> None:
    told = Told()
    wanted: dict[tuple[str, str], int] = {}
    for n in range(200):
        host = f"10.1.0.{n}"
        arm = arm_of(told.state, host)
        told.hears(host, Outcome(10, failures=n % 3))
        if arm:
            for outcome, count in (("ok", 10 - n % 3), ("failed", n % 3)):
                wanted[arm, outcome] = wanted.get((arm, outcome), 0) + count
    assert set(wanted) == {("a", "ok"), ("a", "failed"), ("b", "ok"), ("b", "failed")}
    for (arm, outcome), count in wanted.items():
        labels: Mapping[str, str] = {"experiment": "cart", "arm": arm, "outcome": outcome}
        assert told.value("meshd_experiment_outcomes_total", **labels) == count


def test_who_is_out_of_scope_or_has_no_address_is_in_no_arm() -> None:
    told = Told()
    for n in range(50):
        told.hears(f"10.2.0.{n}", Outcome(10))
    told.hears("unix:", Outcome(10))
    assert not told.pump.reports.arms.ok


def test_latency_by_arm_adds_up() -> None:
    told = Told()
    host = next(f"10.1.0.{n}" for n in range(200) if arm_of(told.state, f"10.1.0.{n}") == "a")
    told.hears(host, Outcome(10, latency={bucket_of(900): 6, bucket_of(3_000): 3}))
    name, arm = "meshd_experiment_latency_seconds", {"experiment": "cart", "arm": "a"}
    assert told.value(f"{name}_count", **arm) == 9
    assert told.value(f"{name}_bucket", le="0.001024", **arm) == 6
    assert told.value(f"{name}_bucket", le="0.004096", **arm) == 9
    assert told.value(f"{name}_sum", **arm) == pytest.approx(0.0144, rel=0.1)


def test_labels_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arms, "_MOST_ARMS", 1)
    told = Told()
    for n in range(100):
        told.hears(f"10.1.0.{n}", Outcome(1))
    assert len(told.pump.reports.arms.ok) == 1


def test_rollouts_under_way_and_their_gates() -> None:
    told = Told()
    rollout = Rollout("r", "api", V3, Course(steps_of((5, 100), 60.0)))
    told.state.advance([Change.put(rollout)], 2, {})
    labels = {"service": "api", "to": "1.3.0"}
    assert told.value("meshd_rollout_percent", phase="running", **labels) == 5
    (gate,) = rollout.course.gates
    for ruling, holds in ((Ruling.PASS, 1), (Ruling.UNSURE, 0)):
        told.advancing.readings["api"] = (Reading(gate, ruling, "so"),)
        assert told.value("meshd_rollout_gate_holds", service="api", gate=str(gate)) == holds
    told.state.advance([Change.put(replace(rollout, phase=Phase.DONE))], 3, {})
    assert told.value("meshd_rollout_percent", phase="running", **labels) is None
    assert told.value("meshd_rollout_crowded_total") == 0
