"""The HTTP face of a core: /healthz, /readyz and /metrics."""

from collections.abc import Iterable

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from meshd.core.verdict import Verdict
from meshd.daemon.state import State


class _StateCollector(Collector):
    """Reads the state when it is scraped."""

    def __init__(self, state: State) -> None:
        self._state = state

    def collect(self) -> list[Metric]:
        topology = self._state.snapshot.topology
        sizes = GaugeMetricFamily("meshd_records", "Records of the topology.", labels=["kind"])
        for kind in ("zones", "pops", "services", "instances", "ranges"):
            sizes.add_metric([kind], len(getattr(topology, kind)))
        verdicts = GaugeMetricFamily(
            "meshd_instances", "Instances by verdict.", labels=["service", "verdict"]
        )
        for name, view in self._state.snapshot.views.items():
            found = [member.verdict for member in view.members]
            for verdict in Verdict:
                verdicts.add_metric([name, verdict], found.count(verdict))
        return [
            GaugeMetricFamily("meshd_revision", "Topology revision.", topology.revision),
            GaugeMetricFamily("meshd_followers", "Answerers following.", self._state.followers),
            sizes,
            verdicts,
        ]


def application(state: State, collectors: Iterable[Collector] = ()) -> web.Application:
    """The routes; `collectors` tell more in /metrics."""
    registry = CollectorRegistry()
    for collector in (_StateCollector(state), *collectors):
        registry.register(collector)

    async def healthz(request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(request: web.Request) -> web.Response:
        return web.json_response({"revision": state.snapshot.topology.revision})

    async def metrics(request: web.Request) -> web.Response:
        body = generate_latest(registry)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    made = web.Application()
    made.router.add_get("/healthz", healthz)
    made.router.add_get("/readyz", readyz)
    made.router.add_get("/metrics", metrics)
    return made


async def start_http(
    state: State, host: str, port: int, collectors: Iterable[Collector] = ()
) -> web.AppRunner:
    """Serve on one address; OSError if it cannot be had."""
    runner = web.AppRunner(application(state, collectors), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, host, port).start()
    return runner
