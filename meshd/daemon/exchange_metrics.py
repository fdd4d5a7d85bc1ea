"""What Prometheus is told of the other cores, and of what is exchanged with them."""

import time
from collections.abc import Iterable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from meshd.daemon.exchange import Exchange
from meshd.daemon.reports import Reports


class ExchangeCollector(Collector):
    """Read from the exchange when it is scraped."""

    def __init__(self, exchange: Exchange, reports: Reports) -> None:
        self._exchange = exchange
        self._reports = reports

    def collect(self) -> Iterable[Metric]:
        """All of them."""
        exchange, members = self._exchange, self._exchange.members
        count = len(members.others) + members.has_joined
        yield GaugeMetricFamily("meshd_members", "Cores of this store, as it shows.", count)
        text = "Services that this core decides the signals of."
        yield GaugeMetricFamily("meshd_services_decided", text, exchange.duties_held)
        yield from self._messages()
        ages = GaugeMetricFamily(
            "meshd_exchange_age_seconds", "Since another core was heard.", labels=["node"]
        )
        now = time.monotonic()
        for name, at in dict(members.heard_at).items():
            ages.add_metric([name], max(0.0, now - at))
        yield ages

    def _messages(self) -> Iterable[Metric]:
        exchange = self._exchange
        messages = CounterMetricFamily(
            "meshd_exchange_messages", "Messages of cores.", labels=["direction"]
        )
        messages.add_metric(["sent"], exchange.messages)
        messages.add_metric(["heard"], exchange.hearing.messages)
        yield messages
        text = "Outcomes for other cores to decide on that did not reach them."
        yield CounterMetricFamily("meshd_exchange_dropped", text, self._reports.lost)
        ignored = CounterMetricFamily(
            "meshd_exchange_ignored", "What other cores told and was left out.", labels=["why"]
        )
        for why, number in dict(exchange.hearing.ignored).items():
            ignored.add_metric([why], number)
        ignored.add_metric(["node"], exchange.members.ignored)
        yield ignored
