"""A program that calls a service over gRPC: here the health service that most servers have.

    python examples/grpc_client.py api.mesh.internal --dns 127.0.0.1:5300

The channel takes an instance for each call; `idempotent` calls go to the next one if it is gone.
"""

import argparse
import asyncio

from grpc_health.v1 import health_pb2, health_pb2_grpc

from meshd.client.grpc import channel


async def call(arguments: argparse.Namespace) -> None:
    """Check after check."""
    async with channel(
        arguments.name, dns=arguments.dns, report=arguments.core, idempotent=True
    ) as spread:
        stub = health_pb2_grpc.HealthStub(spread)
        for _ in range(arguments.count):
            reply = await stub.Check(health_pb2.HealthCheckRequest(), timeout=5.0)
            print(health_pb2.HealthCheckResponse.ServingStatus.Name(reply.status), flush=True)
            await asyncio.sleep(arguments.every)


def main() -> None:
    """Call so many times."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("name")
    parser.add_argument("--dns", help="HOST:PORT  [the servers of this machine]")
    parser.add_argument("--core", default="127.0.0.1:7700", help="told how calls went")
    parser.add_argument("--count", type=int, default=10)
    parser.add_argument("--every", type=float, default=0.5, help="seconds")
    asyncio.run(call(parser.parse_args()))


if __name__ == "__main__":
    main()
