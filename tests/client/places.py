"""Real instances on loopback addresses, that come and go: asyncio servers that say who they are."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from meshd.client.endpoint import Endpoint
from tests.client.names import NAME, Place
from tests.tcp import TcpServer


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
    _server: TcpServer | None = None

    @property
    def place(self) -> Place:
        return Place(self.name, self.address, self.port, self.pop)

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(self.name, self.address, self.port, NAME)

    @property
    def open(self) -> int:
        """How many connections are open."""
        return self._server.open if self._server is not None else 0

    async def start(self) -> None:
        self._server = TcpServer(self._serve, self.address, self.tls)
        self._server.port = self.port
        await self._server.start()
        self.port = self._server.port

    async def stop(self) -> None:
        """Be gone: refuse, and reset what is open."""
        if self._server is not None:
            await self._server.end()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.opened += 1
        while line := await reader.readline():
            if not self.is_silent:
                writer.write(f"{self.name} ".encode() + line)
                await writer.drain()


@asynccontextmanager
async def echoes(count: int = 3) -> AsyncIterator[list[Echo]]:
    """Instances `api-eu-1` and so on, at 127.0.1.1 and so on."""
    made = [Echo(f"api-eu-{n}", f"127.0.1.{n}") for n in range(1, count + 1)]
    async with AsyncExitStack() as stack:
        for each in made:
            await each.start()
            stack.push_async_callback(each.stop)
        yield made
