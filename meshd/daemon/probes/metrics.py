"""What Prometheus is told of probes."""

from collections.abc import Iterable

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from meshd.daemon.probes.kinds import Result

_BUCKETS_S = (0.001, 0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class ProbeMetrics(Collector):
    """Counts probes; whoever has a registry registers it."""

    def __init__(self) -> None:
        self.probes = Counter(
            "meshd_probes", "Probes, by how they ended.", ["kind", "outcome"], registry=None
        )
        self.seconds = Histogram(
            "meshd_probe_seconds",
            "How long probes took.",
            ["kind"],
            buckets=_BUCKETS_S,
            registry=None,
        )
        self.in_flight = Gauge("meshd_probes_in_flight", "Probes under way.", registry=None)
        self.refused = Gauge(
            "meshd_probes_refused",
            "Instances that the guard keeps from being probed; they count as up.",
            registry=None,
        )

    def note(self, kind: str, result: Result, took_s: float) -> None:
        """Count one probe."""
        self.probes.labels(kind, result.outcome).inc()
        self.seconds.labels(kind).observe(took_s)

    def collect(self) -> Iterable[Metric]:
        """All of them."""
        for each in (self.probes, self.seconds, self.in_flight, self.refused):
            yield from each.collect()
