"""What a core says over HTTP: that it lives, that it is ready, and its numbers."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from meshd.core.snapshot import Snapshot
from meshd.core.topology import Topology
from meshd.daemon.http import start_http
from meshd.daemon.metrics import CoreCollector
from meshd.daemon.pump import Pump
from meshd.daemon.reach import Reach
from meshd.daemon.state import State
from meshd.daemon.store.memory import MemoryStore
from tests import samples
from tests.servers.processes import free_port


class Extra(Collector):
    """A collector of another part."""

    def collect(self) -> list[GaugeMetricFamily]:
        return [GaugeMetricFamily("other_part", "Of another part.", 42)]


@asynccontextmanager
async def serving(store: MemoryStore, snapshot: Snapshot) -> AsyncIterator[tuple[str, Pump]]:
    state = State(snapshot, 0)
    pump = Pump(store, state)
    collectors = [CoreCollector(state, pump, pump.reach), Extra()]
    port = free_port()
    runner = await start_http(state, pump, ("127.0.0.1", port), collectors)
    try:
        yield f"http://127.0.0.1:{port}", pump
    finally:
        await runner.cleanup()


async def said(url: str) -> tuple[int, dict[str, Any]]:
    async with aiohttp.ClientSession() as session, session.get(f"{url}/readyz") as reply:
        return reply.status, await reply.json()


async def text(url: str) -> str:
    async with aiohttp.ClientSession() as session, session.get(url) as reply:
        assert reply.status == 200
        return await reply.text()


async def test_ready_when_there_is_something_to_answer_from() -> None:
    """From the copy on disk too: the store away is said, and is no reason to take the core out."""
    store = MemoryStore()
    async with serving(store, samples.snapshot()) as (url, pump):
        with store.away():
            await pump.reach.look(store)
            status, found = await said(url)
            assert (status, found["store"], found["store_age_s"]) == (200, "away", None)
            assert "store_age_s never" in await text(f"{url}/healthz")
        await pump.reach.look(store)
        status, found = await said(url)
        assert (status, found["store"], found["revision"]) == (200, "reached", 7)
        assert found["store_age_s"] >= 0
        assert "store_age_s 0." in await text(f"{url}/healthz")
        assert not pump.reach.is_away
        pump.following.alarm = "the store is another one"
        assert (await said(url))[1]["alarm"] == "the store is another one"
        assert "alarm the store" in await text(f"{url}/healthz")
        assert "meshd_store_alarm 1.0" in await text(f"{url}/metrics")
    await store.close()


async def test_not_ready_with_nothing() -> None:
    store = MemoryStore()
    async with serving(store, Snapshot.build(Topology())) as (url, pump):
        with store.away():
            await pump.reach.look(store)
            status, found = await said(url)
        assert (status, found["ready"]) == (503, False)
        assert found["reason"] == "the store was not reached yet: the store is away"
    await store.close()


async def test_a_store_that_hangs_is_away() -> None:
    class Hung(MemoryStore):
        async def head(self) -> int:
            raise TimeoutError

    told: list[str] = []
    reach = Reach(lambda: told.append("away"))
    await reach.look(Hung())
    assert (reach.is_away, reach.age_s(0.0), told) == (True, None, ["away"])
    assert "does not answer" in reach.reason


async def test_metrics_of_all_parts() -> None:
    store = MemoryStore()
    async with serving(store, samples.snapshot()) as (url, _):
        found = await text(f"{url}/metrics")
        assert "meshd_revision 7.0" in found
        assert "other_part 42.0" in found
    await store.close()
