"""What Prometheus is told of versions in motion."""

from collections.abc import Iterable

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from meshd.core.histogram import Histogram
from meshd.core.judging import Ruling
from meshd.daemon.reports import Reports
from meshd.daemon.rollouts import Advancing
from meshd.daemon.state import State

# Bounds that are shown: 2^n microseconds, 0.5 ms to 17 s.
_DOUBLINGS = range(9, 25)


class RolloutCollector(Collector):
    """The newest rollout of each service, its gates where this core moves it, and arms."""

    def __init__(self, state: State, advancing: Advancing, reports: Reports) -> None:
        self._state = state
        self._advancing = advancing
        self._arms = reports.arms
        self._testimony = reports.testimony

    def collect(self) -> Iterable[Metric]:
        """All of it, as it is now."""
        percent = GaugeMetricFamily(
            "meshd_rollout_percent",
            "Clients in scope that get the version of a rollout that is not over",
            labels=["service", "to", "phase"],
        )
        for rollout in [*self._state.snapshot.topology.rollouts.values()]:
            if not rollout.phase.is_over:
                labels = [rollout.service, rollout.to.text, rollout.phase]
                percent.add_metric(labels, rollout.percent)
        gates = GaugeMetricFamily(
            "meshd_rollout_gate_holds",
            "1: a gate of a rollout that this core moves holds; 0: not, or not known yet",
            labels=["service", "gate"],
        )
        for service, readings in [*self._advancing.readings.items()]:
            for reading in readings:
                holds = float(reading.ruling is Ruling.PASS)
                gates.add_metric([service, str(reading.gate)], holds)
        outcomes = CounterMetricFamily(
            "meshd_experiment_outcomes",
            "Calls that clients in an arm of an experiment reported",
            labels=["experiment", "arm", "outcome"],
        )
        for outcome, counts in (("ok", self._arms.ok), ("failed", self._arms.failed)):
            for (experiment, arm), count in [*counts.items()]:
                outcomes.add_metric([experiment, arm, outcome], count)
        text = "Outcomes that no gate looked at: of more hosts than are kept."
        crowded = CounterMetricFamily("meshd_rollout_crowded", text, self._testimony.crowded)
        return percent, gates, crowded, outcomes, self._latency()

    def _latency(self) -> Metric:
        made = HistogramMetricFamily(
            "meshd_experiment_latency_seconds",
            "How long calls took that clients in an arm of an experiment reported",
            labels=["experiment", "arm"],
        )
        for labels, counts in [*self._arms.latency.items()]:
            made.add_metric(labels, *_told(dict(counts)))
        return made


def _told(counts: Histogram) -> tuple[list[tuple[str, float]], float]:
    """A histogram as Prometheus has it: how many were as quick, by bound, and their sum."""
    below = [
        (f"{2**doubling / 1e6:g}", sum(n for b, n in counts.items() if b < 4 * doubling))
        for doubling in _DOUBLINGS
    ]
    took_s = sum(n * 2 ** ((b + 0.5) / 4) for b, n in counts.items()) / 1e6
    return [*below, ("+Inf", sum(counts.values()))], took_s
