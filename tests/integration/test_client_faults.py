"""Two hundred requests a second through httpx while instances and DNS go away: none fails."""

import asyncio
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from meshd.client.httpx import MeshTransport
from tests.client.names import NAME, Names, Place, answering, document
from tests.servers.processes import Meshd, Server, children, free_port

pytestmark = pytest.mark.integration

RATE = 200
COUNT = 4


class Instance(Server):
    """An HTTP server in a process of its own."""

    def __init__(self, number: int, folder: Path) -> None:
        self.place = Place(f"api-eu-{number}", f"127.0.1.{number}", free_port())
        place = self.place
        command = [sys.executable, "-m", "tests.client.web"]
        super().__init__(place.name, [*command, place.name, place.address, str(place.port)], folder)

    async def serving(self) -> None:
        """Wait until it answers."""
        async with asyncio.timeout(30), httpx.AsyncClient() as direct:
            while True:
                try:
                    await direct.get(f"http://{self.place.address}:{self.place.port}/")
                except httpx.TransportError:
                    await asyncio.sleep(0.05)
                else:
                    return


@dataclass
class Load:
    """Requests at an even rate, and what came of them."""

    client: httpx.AsyncClient
    by: Counter[str] = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)

    async def run(self) -> None:
        """Until cancelled."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        async with asyncio.TaskGroup() as group:
            while True:
                due += 1 / RATE
                await asyncio.sleep(due - loop.time())
                group.create_task(self._one())

    async def _one(self) -> None:
        try:
            reply = await self.client.get(f"http://{NAME}/")
        except httpx.HTTPError as error:
            self.failed.append(repr(error))
            return
        if reply.status_code == 200:
            self.by[reply.text] += 1
        else:
            self.failed.append(str(reply.status_code))


@asynccontextmanager
async def running(path: Path) -> AsyncIterator[list[Instance]]:
    """Instances that serve."""
    instances = [Instance(number, path) for number in range(1, COUNT + 1)]
    try:
        for each in instances:
            each.start()
        for each in instances:
            await each.serving()
        yield instances
    finally:
        for each in instances:
            each.kill()


@asynccontextmanager
async def loading(transport: MeshTransport) -> AsyncIterator[Load]:
    """Requests all the while; at the end, none of them failed."""
    async with httpx.AsyncClient(transport=transport, timeout=10) as client:
        load = Load(client)
        task = asyncio.create_task(load.run())
        await asyncio.sleep(1.0)
        yield load
        await asyncio.sleep(1.0)
        task.cancel()
        await asyncio.wait([task])
    assert load.failed == []
    assert load.by.total() > RATE


@asynccontextmanager
async def loaded(path: Path) -> AsyncIterator[tuple[list[Instance], Names, Load]]:
    """Instances under load, and the DNS that names them."""
    async with (
        running(path) as instances,
        answering(*(each.place for each in instances)) as names,
        loading(MeshTransport(dns=names.address)) as load,
    ):
        yield instances, names, load


async def served_by(load: Load, name: str) -> None:
    """Wait until an instance answers requests of the load."""
    before = load.by[name]
    async with asyncio.timeout(60):
        while load.by[name] == before:  # noqa: ASYNC110 - counted, not told
            await asyncio.sleep(0.05)


async def test_an_instance_is_killed(tmp_path: Path) -> None:
    async with loaded(tmp_path) as (instances, _, load):
        assert len(load.by) == COUNT
        os.kill(instances[0].pid, signal.SIGKILL)
        await asyncio.sleep(2.0)
        before = load.by["api-eu-1"]
        for each in instances[1:]:
            await served_by(load, each.name)
        assert load.by["api-eu-1"] == before


async def test_an_instance_hangs(tmp_path: Path) -> None:
    """What it had begun waits for its time-out, and goes elsewhere."""
    async with loaded(tmp_path) as (instances, _, load):
        load.client.timeout = httpx.Timeout(1.0)
        os.kill(instances[0].pid, signal.SIGSTOP)
        await asyncio.sleep(3.0)
        os.kill(instances[0].pid, signal.SIGCONT)


async def test_all_are_restarted_one_by_one(tmp_path: Path) -> None:
    async with loaded(tmp_path) as (instances, _, load):
        for number, each in enumerate(instances):
            each.kill() if number % 2 else each.stop()
            each.start()
            await each.serving()
            await served_by(load, each.name)


async def test_dns_is_away(tmp_path: Path) -> None:
    async with loaded(tmp_path) as (instances, names, load):
        names.stop()
        await asyncio.sleep(3.0)
        instances[0].kill()
        await asyncio.sleep(2.0)
        await names.start()
        names.put(*(each.place for each in instances[2:]))
        async with asyncio.timeout(60):
            while True:
                before = load.by.copy()
                await asyncio.sleep(0.5)
                if (load.by - before).keys() == {"api-eu-3", "api-eu-4"}:
                    return


async def test_all_of_meshd_is_killed(tmp_path: Path) -> None:
    """The list is had, reports have nobody to go to: that is all."""
    meshd = Meshd(tmp_path)
    async with running(tmp_path) as instances:
        try:
            await asyncio.to_thread(meshd.start_ready)
            meshd.apply(document([each.place for each in instances]))
            transport = MeshTransport(dns=f"127.0.0.1:{meshd.dns_port}", report=meshd.grpc)
            async with loading(transport) as load:
                for pid in (meshd.pid, *children(meshd.pid)):
                    os.kill(pid, signal.SIGKILL)
                await asyncio.sleep(3.0)
                os.kill(instances[0].pid, signal.SIGKILL)
                await asyncio.sleep(1.0)
                assert len(load.by) == COUNT
        finally:
            meshd.kill()
