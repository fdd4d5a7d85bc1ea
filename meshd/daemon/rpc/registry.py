"""The Registry service: instances that announce themselves, hold a lease, and tell their load.

A registration is two records: the instance, which stays, and its presence, which is bound to
the lease. A lost lease makes the instance down; it is not forgotten, so the last one of a
service is still known when all are gone.
"""

from dataclasses import replace
from typing import Any

import grpc

from meshd.core.errors import Conflict, Invalid, NotFound
from meshd.core.model import Instance, Presence
from meshd.core.plan import plan_edits
from meshd.core.ranges import NEUTRAL
from meshd.core.topology import Change, Kind
from meshd.daemon.pump import Pump
from meshd.daemon.rpc.status import unary
from meshd.daemon.state import State
from meshd.daemon.store.base import Author, Delete, Put, Store
from meshd.v1 import registry_pb2 as pb
from meshd.v1 import registry_pb2_grpc
from meshd.wire.messages import instance_from_message, instance_to_message
from meshd.wire.records import key_of, value_of

_LEASE_S = 3.0
_LEASE_BOUNDS_S = (1.0, 300.0)


class Registry(registry_pb2_grpc.RegistryServicer):
    """Registrations go to the store; heartbeats stay in memory."""

    def __init__(self, store: Store, state: State, pump: Pump) -> None:
        self._store = store
        self._state = state
        self._pump = pump

    @unary
    async def Register(self, request: pb.RegisterRequest, context: Any) -> pb.RegisterResponse:  # noqa: N802
        lease_s = request.lease_s or _LEASE_S
        if not _LEASE_BOUNDS_S[0] <= lease_s <= _LEASE_BOUNDS_S[1]:
            raise Invalid(f"lease_s must be {_LEASE_BOUNDS_S[0]}..{_LEASE_BOUNDS_S[1]}")
        instance = self._complete(request)
        held = self._state.snapshot.topology.instances.get(instance.name)
        if held is not None and not held.registered:
            await context.abort(
                grpc.StatusCode.ALREADY_EXISTS,
                f"instance {instance.name} belongs to the topology document",
            )
        plan_edits(self._state.snapshot, [Change.put(instance)])
        lease = await self._store.grant(lease_s)
        older = self._state.snapshot.topology.presence.get(instance.name)
        presence = Presence(instance.name, epoch=(older.epoch if older else 0) + 1)
        writes = [
            Put(key_of(Kind.INSTANCES, instance.name), value_of(instance)),
            Put(key_of(Kind.PRESENCE, instance.name), value_of(presence), lease),
        ]
        author = Author(f"instance {instance.name}", f"register from {context.peer()}")
        revision = await self._store.commit(writes, author)
        await self._state.reached(revision)
        return pb.RegisterResponse(
            lease=lease,
            lease_s=lease_s,
            beat_every_s=lease_s / 3,
            instance=instance_to_message(instance),
        )

    def _complete(self, request: pb.RegisterRequest) -> Instance:
        message = request.instance
        if not message.pop and message.addresses:
            probe = instance_from_message(_with_pop(message, "unknown")).addresses[0]
            table = self._state.snapshot.topology.ranges.family(probe.version)
            policy = table.policy(int(probe))
            if policy is NEUTRAL or policy.pop is None:
                raise Invalid(f"no pop given, and no range holds {probe}")
            message = _with_pop(message, policy.pop)
        return replace(instance_from_message(message), registered=True)

    @unary
    async def Heartbeat(self, request: pb.HeartbeatRequest, context: Any) -> pb.HeartbeatResponse:  # noqa: N802
        self._check_owner(request.instance, request.lease)
        await self._store.renew(request.lease)
        if request.HasField("load"):
            self._pump.observe_load(request.instance, request.load)
        return pb.HeartbeatResponse()

    @unary
    async def Deregister(  # noqa: N802
        self, request: pb.DeregisterRequest, context: Any
    ) -> pb.DeregisterResponse:
        self._check_owner(request.instance, request.lease)
        writes = [
            Delete(key_of(Kind.INSTANCES, request.instance)),
            Delete(key_of(Kind.PRESENCE, request.instance)),
        ]
        author = Author(f"instance {request.instance}", f"deregister from {context.peer()}")
        revision = await self._store.commit(writes, author)
        await self._store.revoke(request.lease)
        await self._state.reached(revision)
        return pb.DeregisterResponse()

    def _check_owner(self, instance: str, lease: int) -> None:
        owner = self._state.leases.get(instance)
        if owner is None:
            raise NotFound(f"instance {instance} holds no lease: register again")
        if owner != lease:
            raise Conflict(f"instance {instance} was registered again by another process")


def _with_pop(message: Any, pop: str) -> Any:
    made = type(message)()
    made.CopyFrom(message)
    made.pop = pop
    return made
