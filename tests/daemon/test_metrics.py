"""The numbers of a core, as Prometheus reads them."""

from dataclasses import replace

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from meshd.core.outcomes import Outcome, Reporter
from meshd.core.signals import Signal
from meshd.core.snapshot import Snapshot
from meshd.core.topology import Change
from meshd.core.verdict import Probed, Verdict
from meshd.daemon.metrics import MOST_SERIES, CoreCollector
from meshd.daemon.pump import Pump
from meshd.daemon.reach import Reach
from meshd.daemon.state import Held, State
from meshd.daemon.store.memory import MemoryStore
from meshd.daemon.told import Told
from tests import samples

Found = dict[tuple[str, ...], float]


def scraped(state: State, pump: Pump, reach: Reach | None = None) -> Found:
    """(name, label values...) -> value."""
    registry = CollectorRegistry()
    registry.register(CoreCollector(state, pump, reach or Reach(), lambda: 3))
    text = generate_latest(registry).decode()
    return {
        (sample.name, *(sample.labels[key] for key in sorted(sample.labels))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def core(snapshot: Snapshot) -> tuple[State, Pump]:
    state = State(snapshot, 0)
    return state, Pump(MemoryStore(), state)


async def test_every_number() -> None:
    held = Signal(verdict=Verdict.DOWN, held=True)
    state, pump = core(samples.snapshot().advance(signals={"api-eu-2": held}))
    pump.beat("api-eu-1", Told(in_flight=7), 0.9)
    pump.observed.votes.own.clear()
    state.advance((), 7, pump.observed.pending)
    state.leases["wild-1"] = Held(1, 1)
    reach = Reach()
    await reach.look(MemoryStore())
    found = scraped(state, pump, reach)
    one = ("api-eu-1", "eu", "api")
    assert found["meshd_instance_load", *one] == 0.9
    assert found["meshd_instance_in_flight", *one] == 7
    assert found["meshd_streams",] == 3
    assert 0 <= found["meshd_instance_load_age_seconds", *one] < 60
    assert found["meshd_instance_share", *one] == 1
    assert found["meshd_instance_weight", *one] == 1000
    assert found["meshd_instance_verdict", *one, "up"] == 1
    assert found["meshd_instance_verdict", "api-us-3", "us", "api", "draining"] == 1
    assert ("meshd_instance_in_flight", "api-eu-3", "eu", "api") not in found
    assert found["meshd_instances", "api", "draining"] == 1
    assert found["meshd_instances", "api", "forced down"] == 0
    # The held one allows the minimum, and nobody of ap is anything but idle.
    assert found["meshd_ttl_seconds", "eu", "api"] == 5
    assert found["meshd_ttl_seconds", "ap", "api"] == 60
    assert found["meshd_records", "overrides"] == 1
    assert found["meshd_records", "ranges"] == 5
    for name, value in (
        ("revision", 7), ("followers", 0), ("leases", 1), ("held_instances", 1),
        ("swaps_total", 1), ("beats_total", 1), ("store_away", 0), ("series_left_out", 0),
    ):  # fmt: skip
        assert found[f"meshd_{name}",] == value, name
    assert found["meshd_store_age_seconds",] >= 0


async def test_what_clients_report() -> None:
    state, pump = core(samples.snapshot())
    reports = pump.reports
    pump.observed.votes.own |= {"api-us-1": Probed(), "api-us-2": Probed(Verdict.DOWN, False)}
    for name, failures in (("api-us-1", 20), ("api-us-2", 0), ("api-us-4", 0)):
        for who in ("a", "b", "c"):
            outcome = Outcome(20, failures=failures)
            reports.note(state.snapshot, Reporter("h", who), name, outcome, 100.0)
            reports.is_early(Reporter("h", who), 2.0, 100.0)
    reports.tick(state.snapshot, 100.0)
    state.advance((), 7, pump.observed.pending)
    reports.batches, reports.dropped = 9, 4
    reports.ignored.update(early=3, unknown=2)
    found = scraped(state, pump)
    for name, value in (
        ("reports_total", 9), ("outcomes_total", 180), ("reports_dropped_total", 4),
        ("reporters", 3), ("voices", 9), ("ejected_instances", 1),
    ):  # fmt: skip
        assert found[f"meshd_{name}",] == value, name
    assert found["meshd_outcomes_ignored_total", "early"] == 3
    assert found["meshd_outcomes_ignored_total", "unknown"] == 2
    assert found["meshd_disagreements", "probes pass, clients fail"] == 1
    assert found["meshd_disagreements", "probes fail, clients succeed"] == 1
    assert found["meshd_instance_success", "api-us-1", "us", "api"] == 0
    assert found["meshd_instance_success", "api-us-2", "us", "api"] == 1


async def test_a_store_that_was_never_reached_has_no_age() -> None:
    found = scraped(*core(samples.snapshot()))
    assert ("meshd_store_age_seconds",) not in found


async def test_series_are_capped_and_counted() -> None:
    big = samples.snapshot().advance(
        [
            Change.put(replace(samples.instance("us", 1), name=f"many-{number}"))
            for number in range(MOST_SERIES // 6)
        ],
        8,
    )
    found = scraped(*core(big))
    assert len(found) < MOST_SERIES
    assert found["meshd_series_left_out",] > MOST_SERIES - 10
    assert ("meshd_instance_load", "old-1", "eu", "old") in found
    assert ("meshd_instances", "api", "up") not in found
