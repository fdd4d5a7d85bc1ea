"""What Prometheus is told of the way to etcd."""

from collections.abc import Iterable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from meshd.daemon.store.etcd import EtcdStore


class EtcdCollector(Collector):
    """Read from the store when it is scraped."""

    def __init__(self, store: EtcdStore) -> None:
        self._store = store

    def collect(self) -> Iterable[Metric]:
        """All of them."""
        store = self._store
        yield CounterMetricFamily("meshd_etcd_retries", "Calls sent once more.", store.retries)
        text = "Watches that went on after their stream was lost."
        yield CounterMetricFamily("meshd_etcd_watch_resumes", text, store.watch_resumes)
        text = "Keys left out because they are not UTF-8."
        yield GaugeMetricFamily("meshd_etcd_ignored_keys", text, store.ignored)
        used = GaugeMetricFamily("meshd_etcd_endpoint", "1 for the one used.", labels=["endpoint"])
        used.add_metric([store.endpoint], 1)
        yield used
