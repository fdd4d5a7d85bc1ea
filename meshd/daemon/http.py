"""The HTTP face of a core: /healthz, /readyz and /metrics, and deployments if they are let in."""

import asyncio
import time
from collections.abc import Iterable

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.registry import Collector

from meshd.daemon.deployments import Deployments
from meshd.daemon.pump import Pump
from meshd.daemon.state import State

_UNAVAILABLE = 503
_LARGEST_BODY = 64 << 10


def application(
    state: State,
    pump: Pump,
    collectors: Iterable[Collector],
    deployments: Deployments | None = None,
) -> web.Application:
    """The routes; /metrics holds what `collectors` tell, which must not touch the event loop."""
    registry = CollectorRegistry()
    for collector in collectors:
        registry.register(collector)

    async def healthz(request: web.Request) -> web.Response:
        return web.Response(text=_alive(pump))

    async def readyz(request: web.Request) -> web.Response:
        return _ready(state, pump)

    async def metrics(request: web.Request) -> web.Response:
        # Thousands of series take longer to write than others should wait.
        body = await asyncio.to_thread(generate_latest, registry)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    made = web.Application(client_max_size=_LARGEST_BODY)
    made.router.add_get("/healthz", healthz)
    made.router.add_get("/readyz", readyz)
    made.router.add_get("/metrics", metrics)
    if deployments is not None:
        deployments.add_to(made.router)
    return made


def _alive(pump: Pump) -> str:
    age_s = pump.reach.age_s(time.monotonic())
    lines = ["ok", "store_age_s never" if age_s is None else f"store_age_s {age_s:.1f}"]
    if pump.reach.reason:
        lines.append(f"store_away {pump.reach.reason}")
    if pump.alarm:
        lines.append(f"alarm {pump.alarm}")
    return "\n".join([*lines, ""])


def _ready(state: State, pump: Pump) -> web.Response:
    """Ready as soon as there is anything to answer from: with the store away answers go on."""
    reach = pump.reach
    if not state.is_loaded:
        why = f": {reach.reason}" if reach.reason else ""
        said = {"ready": False, "reason": f"the store was not reached yet{why}"}
        return web.json_response(said, status=_UNAVAILABLE)
    age_s = reach.age_s(time.monotonic())
    return web.json_response(
        {
            "ready": True,
            "revision": state.snapshot.topology.revision,
            "store": "away" if reach.is_away else "reached",
            "store_age_s": None if age_s is None else round(age_s, 1),
            "alarm": pump.alarm,
        }
    )


async def start_http(
    state: State,
    pump: Pump,
    address: tuple[str, int],
    collectors: Iterable[Collector],
    deployments: Deployments | None = None,
) -> web.AppRunner:
    """Serve on (host, port); OSError if it cannot be had."""
    runner = web.AppRunner(application(state, pump, collectors, deployments), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, *address).start()
    return runner
