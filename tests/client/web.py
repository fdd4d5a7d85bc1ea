"""HTTP instances for tests, in this process or as one: `python -m tests.client.web NAME HOST PORT`.

GET / says who answers; what else is asked for says how.
"""

import asyncio
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.client.names import Place


@dataclass
class Web:
    """One instance; `mood` is how it is with everything that it is asked."""

    name: str
    address: str
    port: int = 0
    mood: str = ""
    tls: ssl.SSLContext | None = None
    # Method, Host header and body of each request.
    seen: list[tuple[str, str, str]] = field(default_factory=list)
    peers: set[int] = field(default_factory=set)
    _runner: Any = None

    @property
    def place(self) -> Place:
        return Place(self.name, self.address, self.port)

    async def start(self) -> None:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(app, shutdown_timeout=1.0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self.address, self.port, ssl_context=self.tls)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        await self._runner.cleanup()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        body = await request.text()
        if request.transport is not None:
            self.peers.add(request.transport.get_extra_info("peername")[1])
        self.seen.append((request.method, request.headers["Host"], body))
        mood = request.match_info["path"] or self.mood
        if mood == "hangs":
            await asyncio.sleep(30)
        if mood == "breaks" and request.transport is not None:
            request.transport.abort()
        if mood == "drips":
            return await self._drip(request)
        return web.Response(status=int(mood) if mood.isdigit() else 200, text=self.name)

    async def _drip(self, request: web.Request) -> web.StreamResponse:
        """A reply that takes its time, and breaks off."""
        response = web.StreamResponse()
        response.content_length = 1000
        await response.prepare(request)
        await response.write(b"first")
        await asyncio.sleep(0.2)
        assert request.transport is not None
        request.transport.abort()
        return response


@asynccontextmanager
async def webs(count: int = 3) -> AsyncIterator[list[Web]]:
    """Instances `api-eu-1` and so on, at 127.0.1.1 and so on."""
    made = [Web(f"api-eu-{n}", f"127.0.1.{n}") for n in range(1, count + 1)]
    async with AsyncExitStack() as stack:
        for each in made:
            await each.start()
            stack.push_async_callback(each.stop)
        yield made


async def _main(name: str, address: str, port: str) -> None:
    await Web(name, address, int(port)).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
