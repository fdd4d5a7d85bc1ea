"""The gRPC server of a core: services, health, reflection, limits."""

from collections.abc import Sequence

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from meshd.core.guard import STRICT, Guard
from meshd.daemon.pump import Pump
from meshd.daemon.rpc.registry import Registry
from meshd.daemon.rpc.resolver import Resolver
from meshd.daemon.rpc.topology import Topology
from meshd.daemon.state import State
from meshd.daemon.store.base import Store
from meshd.v1 import (
    registry_pb2,
    registry_pb2_grpc,
    resolver_pb2,
    resolver_pb2_grpc,
    topology_pb2,
    topology_pb2_grpc,
)

# A topology document of 100,000 lines fits; everything else is far smaller.
MAX_MESSAGE = 16 << 20

_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE),
    ("grpc.max_concurrent_streams", 256),
    ("grpc.max_metadata_size", 8192),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    ("grpc.http2.max_ping_strikes", 3),
    ("grpc.server_handshake_timeout_ms", 5000),
    # Two cores on one port would each see half of the calls.
    ("grpc.so_reuseport", 0),
)
_SERVICES = (
    topology_pb2.DESCRIPTOR.services_by_name["Topology"].full_name,
    resolver_pb2.DESCRIPTOR.services_by_name["Resolver"].full_name,
    registry_pb2.DESCRIPTOR.services_by_name["Registry"].full_name,
)


async def start_server(
    addresses: Sequence[str], store: Store, state: State, pump: Pump, guard: Guard = STRICT
) -> grpc.aio.Server:
    """Serve on every address (HOST:PORT or unix:PATH); OSError if one cannot be had."""
    server = grpc.aio.server(options=_OPTIONS, maximum_concurrent_rpcs=4096)
    topology_pb2_grpc.add_TopologyServicer_to_server(Topology(store, state, guard), server)
    resolver_pb2_grpc.add_ResolverServicer_to_server(Resolver(state, pump.observed), server)
    registry_pb2_grpc.add_RegistryServicer_to_server(Registry(store, state, pump, guard), server)
    servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    reflection.enable_server_reflection(
        (*_SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME), server
    )
    for address in addresses:
        try:
            bound = server.add_insecure_port(address)
        except RuntimeError as error:
            raise OSError(f"cannot listen on {address}: {error}") from None
        if not bound and not address.startswith("unix:"):
            raise OSError(f"cannot listen on {address}")
    await server.start()
    for name in ("", *_SERVICES):
        await servicer.set(name, health_pb2.HealthCheckResponse.SERVING)
    return server
