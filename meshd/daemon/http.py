"""The HTTP face of a core: /healthz, /readyz and /metrics."""

import asyncio
import time
from collections.abc import Iterable

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.registry import Collector

from meshd.daemon.reach import Reach
from meshd.daemon.state import State

_UNAVAILABLE = 503


def application(state: State, reach: Reach, collectors: Iterable[Collector]) -> web.Application:
    """The routes; /metrics holds what `collectors` tell, which must not touch the event loop."""
    registry = CollectorRegistry()
    for collector in collectors:
        registry.register(collector)

    async def healthz(request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(request: web.Request) -> web.Response:
        return _ready(state, reach)

    async def metrics(request: web.Request) -> web.Response:
        # Thousands of series take longer to write than others should wait.
        body = await asyncio.to_thread(generate_latest, registry)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    made = web.Application()
    made.router.add_get("/healthz", healthz)
    made.router.add_get("/readyz", readyz)
    made.router.add_get("/metrics", metrics)
    return made


def _ready(state: State, reach: Reach) -> web.Response:
    """Ready from the first time that the store was reached: without it answers go on."""
    age_s = reach.age_s(time.monotonic())
    if age_s is None:
        said = {"ready": False, "reason": "the store was not reached yet"}
        return web.json_response(said, status=_UNAVAILABLE)
    return web.json_response(
        {
            "ready": True,
            "revision": state.snapshot.topology.revision,
            "store": "away" if reach.is_away else "reached",
            "store_age_s": round(age_s, 1),
        }
    )


async def start_http(
    state: State, reach: Reach, address: tuple[str, int], collectors: Iterable[Collector]
) -> web.AppRunner:
    """Serve on (host, port); OSError if it cannot be had."""
    runner = web.AppRunner(application(state, reach, collectors), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, *address).start()
    return runner
