"""Connecting over several addresses of one instance."""

import asyncio
import socket

import pytest

from meshd.client import dial as dialing
from meshd.client.dial import dial
from meshd.client.endpoint import Endpoint
from tests.client.places import echoes


def endpoint(port: int, *addresses: str) -> Endpoint:
    return Endpoint("a", addresses[0], port, "api.mesh.internal", others=tuple(addresses[1:]))


async def peer(to: Endpoint) -> str:
    async with asyncio.timeout(10):
        streams = await dial(to)
    host: str = streams.writer.get_extra_info("peername")[0]
    streams.writer.close()
    return host


async def test_the_next_address_when_one_refuses() -> None:
    async with echoes(2) as (one, two):
        assert await peer(one.endpoint) == "127.0.1.1"
        assert await peer(endpoint(two.port, "127.0.1.1", "::1", "127.0.1.2")) == "127.0.1.2"
        with pytest.raises(ConnectionRefusedError):
            await dial(endpoint(two.port, "127.0.1.1", "127.0.1.3"))


async def test_the_next_address_while_one_is_silent() -> None:
    """Its backlog is full: what wants to connect is neither accepted nor refused."""
    async with echoes(2) as (_, two):
        with socket.socket() as full:
            full.bind(("127.0.1.9", two.port))
            full.listen(0)
            fillers = [socket.socket() for _ in range(4)]
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex(("127.0.1.9", two.port))
            loop = asyncio.get_running_loop()
            began = loop.time()
            assert await peer(endpoint(two.port, "127.0.1.9", "127.0.1.2")) == "127.0.1.2"
            assert loop.time() - began >= dialing._HEAD_START_S * 0.9
            for filler in fillers:
                filler.close()
