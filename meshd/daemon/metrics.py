"""What a core tells Prometheus: read from the state when it is scraped, nothing is kept here.

Series grow with services and instances, so there is a cap: whole services are left out beyond it.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from meshd.core.lifetime import longest_s, ready_families
from meshd.core.outcomes import DISAGREEMENTS, disagreement
from meshd.core.snapshot import ServiceView, Snapshot
from meshd.core.topology import Kind
from meshd.core.verdict import Verdict
from meshd.daemon.pump import Pump
from meshd.daemon.reach import Reach
from meshd.daemon.state import State
from meshd.daemon.told import Told

MOST_SERIES = 20_000
_BY_INSTANCE = (
    ("load", "Load that it told, 0 to 1 of its capacity."),
    ("load_age_seconds", "Since its load came."),
    ("in_flight", "Requests in flight that it told."),
    ("share", "Of its fair part of the clients of its Pop; 1: all of it."),
    ("weight", "In the order; 1000: capacity 1, whole share."),
    ("success", "The part of calls that clients see succeed, in steps; 0: ejected."),
    ("verdict", "1 for the verdict that counts now."),
)


class CoreCollector(Collector):
    """The numbers of one core."""

    def __init__(
        self, state: State, pump: Pump, reach: Reach, streams: Callable[[], int] = lambda: 0
    ) -> None:
        self._state = state
        self._pump = pump
        self._reach = reach
        # How many processes are registered on a stream of this core.
        self._streams = streams

    def collect(self) -> Iterable[Metric]:
        snapshot = self._state.snapshot
        yield from self._whole(snapshot)
        yield from self._store()
        yield from self._reports(snapshot)
        # A copy: beats come in while this runs in its thread.
        yield from _by_service(snapshot, dict(self._pump.observed.told))

    def _whole(self, snapshot: Snapshot) -> Iterable[Metric]:
        topology = snapshot.topology
        sizes = GaugeMetricFamily("meshd_records", "Records of the topology.", labels=["kind"])
        for kind in Kind:
            records = topology.ranges if kind is Kind.RANGES else getattr(topology, kind)
            sizes.add_metric([kind], len(records))
        held = sum(signal.held for signal in snapshot.signals.values())
        leases = len(self._state.leases)
        yield GaugeMetricFamily("meshd_revision", "Topology revision.", topology.revision)
        yield GaugeMetricFamily("meshd_followers", "Answerers following.", self._state.followers)
        yield sizes
        yield GaugeMetricFamily("meshd_leases", "Registered instances with a lease.", leases)
        streams = self._streams()
        yield GaugeMetricFamily("meshd_streams", "Processes registered on this core.", streams)
        yield GaugeMetricFamily("meshd_held_instances", "Down, but held back.", held)
        yield CounterMetricFamily("meshd_swaps", "Snapshots swapped in.", self._state.swaps)
        yield CounterMetricFamily("meshd_beats", "Beats of instances.", self._pump.beats)

    def _reports(self, snapshot: Snapshot) -> Iterable[Metric]:
        reports = self._pump.reports
        probed = dict(self._pump.observed.votes.own)
        against = Counter(
            disagreement(probed.get(name), found) for name, found in dict(reports.folded).items()
        )
        ignored = CounterMetricFamily(
            "meshd_outcomes_ignored", "Outcomes left out, by why.", labels=["why"]
        )
        for why, count in dict(reports.ignored).items():
            ignored.add_metric([why], count)
        ejected = sum(not signal.success for signal in snapshot.signals.values())
        yield CounterMetricFamily("meshd_reports", "Batches of clients.", reports.batches)
        yield CounterMetricFamily("meshd_outcomes", "Calls that they told of.", reports.calls)
        yield ignored
        text = "Batches that clients let go, as they say."
        yield CounterMetricFamily("meshd_reports_dropped", text, reports.dropped)
        yield GaugeMetricFamily("meshd_reporters", "Heard within a minute.", reports.reporters)
        text = "Pairs of instance and reporter that are remembered."
        yield GaugeMetricFamily("meshd_voices", text, reports.voices)
        yield GaugeMetricFamily("meshd_ejected_instances", "Clients see them fail.", ejected)
        disagreements = GaugeMetricFamily(
            "meshd_disagreements", "Instances that probes and clients see apart.", labels=["what"]
        )
        for what in DISAGREEMENTS:
            disagreements.add_metric([what], against[what])
        yield disagreements

    def _store(self) -> Iterable[Metric]:
        following = self._pump.following
        age_s = self._reach.age_s(time.monotonic())
        away = GaugeMetricFamily("meshd_store_away", "1 while the store cannot be reached.")
        away.add_metric([], self._reach.is_away)
        yield away
        text = "1 while the store is older or emptier than what is held: it is not taken."
        yield GaugeMetricFamily("meshd_store_alarm", text, bool(following.alarm))
        yield CounterMetricFamily("meshd_store_loads", "Whole loads.", following.loads)
        text = "Changes that a load brought though they should have been followed."
        yield CounterMetricFamily("meshd_store_missed", text, self._pump.missed)
        yield CounterMetricFamily("meshd_store_ignored", "Values not read.", self._pump.ignored)
        if age_s is not None:
            yield GaugeMetricFamily("meshd_store_age_seconds", "Since it was reached.", age_s)


def _by_service(snapshot: Snapshot, told: Mapping[str, Told]) -> Iterable[Metric]:
    verdicts = GaugeMetricFamily(
        "meshd_instances", "Instances by verdict.", labels=["service", "verdict"]
    )
    ttls = GaugeMetricFamily(
        "meshd_ttl_seconds",
        "The least that an instance of a Pop allows.",
        labels=["service", "pop"],
    )
    by_instance = {
        name: GaugeMetricFamily(
            f"meshd_instance_{name}",
            text,
            labels=["service", "pop", "instance", *(["verdict"] if name == "verdict" else [])],
        )
        for name, text in _BY_INSTANCE
    }
    now, left, left_out = time.monotonic(), MOST_SERIES, 0
    for view in snapshot.views.values():
        pops = _ttls(view)
        series = len(Verdict) + len(pops) + len(_BY_INSTANCE) * len(view.members)
        if series > left:
            left_out += series
            continue
        left -= series
        found = Counter(member.verdict for member in view.members)
        for verdict in Verdict:
            verdicts.add_metric([view.service.name, verdict], found[verdict])
        for pop, ttl_s in pops.items():
            ttls.add_metric([view.service.name, pop], ttl_s)
        _add_instances(by_instance, view, told, now)
    yield from (verdicts, ttls, *by_instance.values())
    text = "Series that did not fit under the cap."
    yield GaugeMetricFamily("meshd_series_left_out", text, left_out)


def _ttls(view: ServiceView) -> Mapping[str, float]:
    """Pop -> the shortest life that one of its instances gives the answers that hold it."""
    families = ready_families(view)
    least: dict[str, float] = {}
    for member in view.members:
        lives_s, pop = longest_s(view, member, families), member.instance.pop
        if lives_s:
            least[pop] = min(lives_s, least.get(pop, lives_s))
    return least


def _add_instances(
    metrics: Mapping[str, GaugeMetricFamily],
    view: ServiceView,
    told: Mapping[str, Told],
    now: float,
) -> None:
    for member in view.members:
        name = member.instance.name
        labels: Sequence[str] = [view.service.name, member.instance.pop, name]
        metrics["load"].add_metric(labels, member.signal.load)
        metrics["share"].add_metric(labels, member.signal.share)
        metrics["weight"].add_metric(labels, member.weight)
        metrics["success"].add_metric(labels, member.signal.success)
        metrics["verdict"].add_metric([*labels, member.verdict], 1)
        heard = told.get(name)
        if heard is not None:
            metrics["in_flight"].add_metric(labels, heard.in_flight)
        if heard is not None and heard.load_at is not None:
            metrics["load_age_seconds"].add_metric(labels, max(0.0, now - heard.load_at))
