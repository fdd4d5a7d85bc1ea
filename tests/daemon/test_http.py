"""What a core says over HTTP: that it lives, that it is ready, and its numbers."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

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
async def serving(store: MemoryStore, reach: Reach) -> AsyncIterator[str]:
    state = State(samples.snapshot(), 0)
    collectors = [CoreCollector(state, Pump(store, state), reach), Extra()]
    port = free_port()
    runner = await start_http(state, reach, ("127.0.0.1", port), collectors)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        await runner.cleanup()


async def test_ready_from_the_first_time_the_store_is_reached() -> None:
    store, reach = MemoryStore(), Reach()
    async with serving(store, reach) as url, aiohttp.ClientSession() as session:
        with store.away():
            await reach.look(store)
            async with session.get(f"{url}/readyz") as reply:
                said = await reply.json()
                assert (reply.status, said["ready"]) == (503, False)
                assert "not reached" in said["reason"]
            async with session.get(f"{url}/healthz") as reply:
                assert reply.status == 200
        await reach.look(store)
        async with session.get(f"{url}/readyz") as reply:
            said = await reply.json()
            assert (reply.status, said["store"], said["revision"]) == (200, "reached", 7)
        with store.away():
            await reach.look(store)
            async with session.get(f"{url}/readyz") as reply:
                said = await reply.json()
                assert (reply.status, said["store"]) == (200, "away")
                assert said["store_age_s"] >= 0
        await reach.look(store)
        assert not reach.is_away
    await store.close()


async def test_a_store_that_hangs_is_away() -> None:
    class Hung(MemoryStore):
        async def history(self, limit: int = 100, before: int | None = None) -> tuple[()]:
            raise TimeoutError

    reach = Reach()
    await reach.look(Hung())
    assert (reach.is_away, reach.age_s(0.0)) == (True, None)


async def test_metrics_of_all_parts() -> None:
    store, reach = MemoryStore(), Reach()
    async with serving(store, reach) as url, aiohttp.ClientSession() as session:
        async with session.get(f"{url}/metrics") as reply:
            text = await reply.text()
        assert "meshd_revision 7.0" in text
        assert "other_part 42.0" in text
    await store.close()
