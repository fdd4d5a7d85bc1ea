"""A program that calls a service over HTTP and prints which instance answered.

    python examples/http_client.py http://api.mesh.internal/ --dns 127.0.0.1:5300

Host names are services: a request that fails goes to the next instance, and the core is told.
"""

import argparse
import asyncio

import httpx

from meshd.client.httpx import MeshTransport


async def call(arguments: argparse.Namespace) -> None:
    """Request after request."""
    transport = MeshTransport(dns=arguments.dns, report=arguments.core)
    async with httpx.AsyncClient(transport=transport, timeout=5.0) as client:
        for _ in range(arguments.count):
            reply = await client.get(arguments.url)
            print(reply.status_code, reply.text.strip(), flush=True)
            await asyncio.sleep(arguments.every)


def main() -> None:
    """Call so many times."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("url")
    parser.add_argument("--dns", help="HOST:PORT  [the servers of this machine]")
    parser.add_argument("--core", default="127.0.0.1:7700", help="told how calls went")
    parser.add_argument("--count", type=int, default=10)
    parser.add_argument("--every", type=float, default=0.5, help="seconds")
    asyncio.run(call(parser.parse_args()))


if __name__ == "__main__":
    main()
