"""What the mesh adds to a call: httpx through MeshTransport against httpx alone, one instance."""

import asyncio
import socket
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from statistics import median

import httpx

from meshd.client import Mesh
from meshd.client.httpx import MeshTransport
from tests.bench.measure import Row
from tests.client.names import NAME, Place, answering
from tests.client.places import echoes
from tests.servers.processes import Server, free_port, wait_until

_ROUNDS = 5


async def _each_us(call: Callable[[], Awaitable[object]], seconds: float) -> float:
    """CPU of this process for one call, one after the other."""
    for _ in range(50):
        await call()
    count, began, used = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - began < seconds:
        for _ in range(50):
            await call()
        count += 50
    return (time.process_time() - used) / count * 1e6


async def _httpx(web: Place, seconds: float) -> list[Row]:
    async with answering(web) as names:
        direct, spread = f"http://{web.address}:{web.port}/", f"http://{NAME}/"
        async with (
            httpx.AsyncClient() as bare,
            httpx.AsyncClient(transport=MeshTransport(dns=names.address)) as mesh,
        ):
            found: dict[str, list[float]] = {"bare": [], "mesh": []}
            for _ in range(_ROUNDS):
                found["bare"].append(await _each_us(lambda: bare.get(direct), seconds / 3))
                found["mesh"].append(await _each_us(lambda: mesh.get(spread), seconds / 3))
    ours, theirs = median(found["mesh"]), median(found["bare"])
    ratio = ours / theirs
    detail = f"{ours:.0f} us against {theirs:.0f} us a call"
    return [Row("httpx by mesh : httpx, CPU a call", ratio, "<= 1.25", ratio <= 1.25, detail)]


async def _pick(seconds: float) -> list[Row]:
    async with (
        echoes(8) as made,
        answering(*(each.place for each in made)) as names,
        Mesh(NAME, dns=names.address) as mesh,
    ):

        async def call() -> None:
            with mesh.pick():
                pass

        each = await _each_us(call, seconds)
    return [Row("pick of 8 instances : 50 us", each / 50, "<= 1", each <= 50, f"{each:.1f} us")]


def client_rows(seconds: float, folder: Path) -> list[Row]:
    """Requests to a server in a process of its own, and choosing alone."""
    web = Place("api-eu-1", "127.0.1.1", free_port())
    command = [sys.executable, "-m", "tests.client.web", web.name, web.address, str(web.port)]
    server = Server("web", command, folder)
    try:
        server.start()
        wait_until("it listens", lambda: _listens(web))
        return asyncio.run(_httpx(web, seconds)) + asyncio.run(_pick(seconds))
    finally:
        server.stop()


def _listens(web: Place) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex((web.address, web.port)) == 0
