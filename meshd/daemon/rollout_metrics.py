"""What Prometheus is told of versions in motion."""

from collections.abc import Iterable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from meshd.core.judging import Ruling
from meshd.daemon.arms import Arms
from meshd.daemon.rollouts import Advancing
from meshd.daemon.state import State


class RolloutCollector(Collector):
    """The newest rollout of each service, its gates where this core moves it, and arms."""

    def __init__(self, state: State, advancing: Advancing, arms: Arms) -> None:
        self._state = state
        self._advancing = advancing
        self._arms = arms

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
        return percent, gates, outcomes
