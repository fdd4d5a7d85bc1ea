"""A service that registers itself and tells how busy it is.

    python examples/service.py --name api-9 --version 1.2.0 --address 127.0.0.1

GET / says who answers; GET /?work=0.5 takes that many seconds. On SIGTERM it asks for no new
clients, and ends when none can come any more.
"""

import argparse
import asyncio
import signal

from aiohttp import web

from meshd.client import Registration

# Requests at a time that are the whole of its capacity.
CAPACITY = 8


class Page:
    """What is served, and how much of it is under way."""

    def __init__(self, name: str) -> None:
        self.in_flight = 0
        self._name = name

    async def get(self, request: web.Request) -> web.Response:
        """GET /."""
        self.in_flight += 1
        try:
            await asyncio.sleep(float(request.query.get("work", "0")))
            return web.Response(text=f"{self._name}\n")
        finally:
            self.in_flight -= 1

    def load(self) -> float:
        """The load, 1 being all that it can do."""
        return self.in_flight / CAPACITY


async def serve(arguments: argparse.Namespace) -> None:
    """Listen, then register; drain, then stop listening."""
    page = Page(arguments.name)
    application = web.Application()
    application.router.add_get("/", page.get)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, arguments.address, arguments.port).start()
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    async with Registration(
        arguments.core,
        name=arguments.name,
        service=arguments.service,
        version=arguments.version,
        addresses=[arguments.address],
        ports={"http": arguments.port},
        load=page.load,
        in_flight=lambda: page.in_flight,
    ) as registration:
        print(registration, flush=True)
        await stopping.wait()
        await registration.drain()
        print(registration, flush=True)
    await runner.cleanup()


def main() -> None:
    """Serve until told to end."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--core", default="127.0.0.1:7700")
    parser.add_argument("--service", default="api")
    parser.add_argument("--name", required=True)
    parser.add_argument("--version", required=True)
    parser.add_argument("--address", required=True)
    parser.add_argument("--port", type=int, default=8080)
    asyncio.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
