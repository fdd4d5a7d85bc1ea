"""Real instances on loopback addresses, that come and go: asyncio servers that say who they are."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from meshd.client.endpoint import Endpoint
from tests.client.names import NAME, Place


@dataclass
class Echo:
    """Answers each line with its own name and the line."""

    name: str
    address: str
    port: int = 0
    pop: str = "eu"
    tls: ssl.SSLContext | None = None
    opened: int = 0
    is_silent: bool = False
    _server: Any = None
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    @property
    def place(self) -> Place:
        return Place(self.name, self.address, self.port, self.pop)

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(self.name, self.address, self.port, NAME)

    @property
    def open(self) -> int:
        """How many connections are open."""
        return len(self._writers)

    async def start(self) -> None:
        self._server = await asyncio.start_server(
            self._serve, self.address, self.port, ssl=self.tls
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Be gone: refuse, and reset what is open."""
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        while self._writers:  # noqa: ASYNC110 - they end by themselves
            await asyncio.sleep(0.01)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.opened += 1
        self._writers.add(writer)
        try:
            while line := await reader.readline():
                if not self.is_silent:
                    writer.write(f"{self.name} ".encode() + line)
                    await writer.drain()
        except OSError:
            pass
        finally:
            self._writers.discard(writer)
            writer.close()


@asynccontextmanager
async def echoes(count: int = 3) -> AsyncIterator[list[Echo]]:
    """Instances `api-eu-1` and so on, at 127.0.1.1 and so on."""
    made = [Echo(f"api-eu-{n}", f"127.0.1.{n}") for n in range(1, count + 1)]
    async with AsyncExitStack() as stack:
        for each in made:
            await each.start()
            stack.push_async_callback(each.stop)
        yield made
