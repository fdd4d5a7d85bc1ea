"""The gRPC server of a core: services, health, reflection, limits."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from meshd.core.guard import STRICT, Guard
from meshd.daemon.commits import Commits
from meshd.daemon.pump import Pump
from meshd.daemon.reports import MOST_REPORTERS
from meshd.daemon.rollouts import Advancing
from meshd.daemon.rpc.cluster import Cluster
from meshd.daemon.rpc.registry import MOST_STREAMS, Registry
from meshd.daemon.rpc.reporter import Reporter
from meshd.daemon.rpc.resolver import Resolver
from meshd.daemon.rpc.rollouts import Rollouts
from meshd.daemon.rpc.topology import Topology
from meshd.daemon.rpc.waiting import Waiting
from meshd.daemon.state import State
from meshd.daemon.store.base import Store
from meshd.v1 import (
    cluster_pb2,
    cluster_pb2_grpc,
    registry_pb2,
    registry_pb2_grpc,
    reporter_pb2,
    reporter_pb2_grpc,
    resolver_pb2,
    resolver_pb2_grpc,
    rollout_pb2,
    rollout_pb2_grpc,
    topology_pb2,
    topology_pb2_grpc,
)

# A topology document of 100,000 lines fits; everything else is far smaller.
MAX_MESSAGE = 16 << 20
# Calls under way beside the streams of processes and reporters: who asks, and who follows.
_OTHER_CALLS = 4096

_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE),
    ("grpc.max_concurrent_streams", 256),
    ("grpc.max_metadata_size", 8192),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    ("grpc.http2.max_ping_strikes", 3),
    ("grpc.server_handshake_timeout_ms", 5000),
    # A fleet that starts at once waits its turn; by default of 1000 that wait, some are refused.
    ("grpc.server.max_pending_requests", MOST_STREAMS),
    ("grpc.server.max_pending_requests_hard_limit", MOST_STREAMS),
    # A peer whose machine is gone says nothing, not even that: ask it.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # Most connections carry one stream of small messages.
    ("grpc.http2.lookahead_bytes", 65_536),
    # Two cores on one port would each see half of the calls.
    ("grpc.so_reuseport", 0),
)
_SERVICES = (
    topology_pb2.DESCRIPTOR.services_by_name["Topology"].full_name,
    resolver_pb2.DESCRIPTOR.services_by_name["Resolver"].full_name,
    registry_pb2.DESCRIPTOR.services_by_name["Registry"].full_name,
    reporter_pb2.DESCRIPTOR.services_by_name["Reporter"].full_name,
    rollout_pb2.DESCRIPTOR.services_by_name["Rollouts"].full_name,
)


@dataclass(frozen=True, slots=True)
class Server:
    """A server that runs."""

    server: grpc.aio.Server
    registry: Registry
    reporter: Reporter
    health: health.aio.HealthServicer
    names: Sequence[str]
    cluster: Cluster | None
    rollouts: Rollouts

    async def stop(self, grace_s: float | None) -> None:
        """End it in order: processes that are registered are still there afterwards."""
        self.registry.is_stopping = True
        if self.cluster is not None:
            self.cluster.end()
        await self.server.stop(grace_s)

    async def begin(self, state: State) -> None:
        """Say whether there is anything to answer from."""
        told = health_pb2.HealthCheckResponse
        await self._tell(told.SERVING if state.is_loaded else told.NOT_SERVING)

    async def tell_health(self, state: State) -> None:
        """Serving from the first snapshot on; until then there is nothing to answer from."""
        await state.loaded()
        await self._tell(health_pb2.HealthCheckResponse.SERVING)

    async def _tell(self, status: Any) -> None:
        for name in ("", *self.names):
            await self.health.set(name, status)


async def start_server(
    addresses: Sequence[str],
    store: Store,
    state: State,
    pump: Pump,
    guard: Guard = STRICT,
    cluster: Cluster | None = None,
) -> Server:
    """Serve on every address (HOST:PORT or unix:PATH); OSError if one cannot be had."""
    registry = Registry(store, state, pump, guard)
    most = MOST_STREAMS + MOST_REPORTERS + _OTHER_CALLS
    server = grpc.aio.server(
        options=_OPTIONS, maximum_concurrent_rpcs=most, interceptors=[Waiting(state, pump.reach)]
    )
    commits = Commits(store, state, pump)
    topology = Topology(store, state, pump, commits, guard)
    topology_pb2_grpc.add_TopologyServicer_to_server(topology, server)
    resolver = Resolver(state, pump.observed, pump.reports)
    resolver_pb2_grpc.add_ResolverServicer_to_server(resolver, server)
    registry_pb2_grpc.add_RegistryServicer_to_server(registry, server)
    reporter = Reporter(state, pump.reports)
    reporter_pb2_grpc.add_ReporterServicer_to_server(reporter, server)
    rollouts = Rollouts(state, Advancing(state, pump, commits))
    rollout_pb2_grpc.add_RolloutsServicer_to_server(rollouts, server)
    names = [*_SERVICES]
    if cluster is not None:
        cluster_pb2_grpc.add_ClusterServicer_to_server(cluster, server)
        names.append(cluster_pb2.DESCRIPTOR.services_by_name["Cluster"].full_name)
    servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    reflection.enable_server_reflection(
        (*names, health.SERVICE_NAME, reflection.SERVICE_NAME), server
    )
    for address in addresses:
        try:
            bound = server.add_insecure_port(address)
        except RuntimeError as error:
            raise OSError(f"cannot listen on {address}: {error}") from None
        if not bound and not address.startswith("unix:"):
            raise OSError(f"cannot listen on {address}")
    await server.start()
    made = Server(server, registry, reporter, servicer, names, cluster, rollouts)
    await made.begin(state)
    return made
