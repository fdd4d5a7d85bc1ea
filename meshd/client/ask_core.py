"""The endpoints of a service from a core: what DNS would answer, with all that it knows."""

import asyncio
import socket
from collections.abc import Sequence
from dataclasses import replace

import grpc

from meshd.client.endpoint import Endpoint
from meshd.client.lookup import (
    MOST_ENDPOINTS,
    Answer,
    Denied,
    Sought,
    Unresolved,
    endpoint_of,
    split_address,
)
from meshd.core.errors import Invalid
from meshd.core.resolve import Status
from meshd.v1 import resolver_pb2 as pb
from meshd.v1 import resolver_pb2_grpc

_WAIT_S = 1.0
_OPTIONS = (("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0))


class CoreLookup:
    """Asks the cores given in order, as `client` (an address or a prefix).

    Without one it asks as the address that it reaches the core from.
    """

    def __init__(self, sought: Sought, cores: Sequence[str], client: str = "") -> None:
        self.sought = sought
        self._cores = cores
        self._client = client

    def __repr__(self) -> str:
        return f"<CoreLookup {self.sought} at {', '.join(self._cores)}>"

    async def __call__(self) -> Answer:
        """Ask the first that answers. Unresolved or Denied."""
        failures = []
        for core in self._cores:
            try:
                return self._read(await self._ask(core))
            except grpc.aio.AioRpcError as error:
                if error.code() is grpc.StatusCode.INVALID_ARGUMENT:
                    raise Invalid(error.details() or "") from None
                failures.append(f"{core}: {error.code().name}")
            except OSError as error:
                failures.append(f"{core}: {error}")
        raise Unresolved(f"{self.sought}: {'; '.join(failures)}")

    async def _ask(self, core: str) -> pb.ResolveResponse:
        port = self.sought.port
        name = self.sought.name if isinstance(port, int) else f"_{port}._tcp.{self.sought.name}"
        request = pb.ResolveRequest(name=name, client=self._client or await _seen_from(core))
        async with grpc.aio.insecure_channel(core, options=_OPTIONS) as channel:
            stub = resolver_pb2_grpc.ResolverStub(channel)
            reply: pb.ResolveResponse = await stub.Resolve(request, timeout=_WAIT_S)
        return reply

    def _read(self, reply: pb.ResolveResponse) -> Answer:
        if reply.status in (Status.NO_NAME, Status.NOT_OURS):
            raise Denied(f"{self.sought}: {reply.status}")
        # Those that plain DNS shows, then the others of their tier, then who comes next.
        known = sorted(reply.endpoints, key=_tier)[:MOST_ENDPOINTS]
        if not known or reply.status != Status.FOUND:
            raise Unresolved(f"{self.sought}: {reply.status}, {len(known)} endpoints")
        return Answer(tuple(map(self._endpoint, known)), float(reply.ttl_s))

    def _endpoint(self, told: pb.Endpoint) -> Endpoint:
        port = self.sought.port if isinstance(self.sought.port, int) else told.port
        made = endpoint_of(self.sought, told.instance, told.addresses, port)
        return replace(made, tier=_tier(told), weight=max(1, told.weight))


def _tier(told: pb.Endpoint) -> int:
    return 0 if told.in_set else told.tier + 1


async def _seen_from(core: str) -> str:
    """The address that a core is reached from; none where that cannot be told."""
    try:
        host, port = split_address(core, 443)
    except ValueError:
        # Another of gRPC's forms: unix:, dns:///.
        return ""
    loop = asyncio.get_running_loop()
    family, kind, _, _, address = (await loop.getaddrinfo(host, port, type=socket.SOCK_DGRAM))[0]
    with socket.socket(family, kind) as sock:
        # Of UDP: nothing is sent, the route alone is looked up.
        sock.connect(address)
        return str(sock.getsockname()[0])
