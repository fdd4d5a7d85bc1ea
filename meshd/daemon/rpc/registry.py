"""The Registry service: a process announces itself on a stream, holds a lease, tells its load.

A registration is two records: the instance, which stays, and its presence, which is bound to
the lease. A lost lease makes the instance down; it is not forgotten, so the last one of a
service is still known when all are gone.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

import grpc

from meshd.core.errors import Conflict, Invalid, LeaseLost, MeshError, Unavailable
from meshd.core.guard import STRICT, Guard
from meshd.core.model import Instance, Presence
from meshd.core.plan import plan_edits
from meshd.core.ranges import NEUTRAL
from meshd.core.topology import Change, Kind
from meshd.daemon.observed import Told
from meshd.daemon.pump import Pump
from meshd.daemon.rpc.status import streaming
from meshd.daemon.state import State
from meshd.daemon.store.base import Author, Delete, Expect, Put, Store
from meshd.v1 import registry_pb2 as pb
from meshd.v1 import registry_pb2_grpc
from meshd.wire.messages import instance_from_message, instance_to_message
from meshd.wire.records import key_of, value_of

log = logging.getLogger(__name__)

_LEASE_S = 3.0
_LEASE_BOUNDS_S = (1.0, 300.0)
# Beats that a core wants to hear each second, of all processes together: with more of them each
# beats less often, and silence is forgiven for longer. A closed stream is noticed at once anyway.
_BEATS_PER_S = 1000.0
_TRIES = 5


@dataclass(slots=True)
class _Registration:
    """One process on its stream."""

    instance: Instance
    lease: int
    lease_s: float
    has_left: bool = False


class Registry(registry_pb2_grpc.RegistryServicer):
    """Registrations go to the store; what beats tell stays in memory."""

    def __init__(self, store: Store, state: State, pump: Pump, guard: Guard = STRICT) -> None:
        self._store = store
        self._state = state
        self._pump = pump
        self._guard = guard
        self._streams = 0
        # Set before the server stops: streams that it ends itself are not processes that died.
        self.is_stopping = False

    @property
    def streams(self) -> int:
        """How many processes are registered on this core."""
        return self._streams

    @streaming
    async def Register(  # noqa: N802
        self, requests: AsyncIterator[pb.RegisterRequest], context: Any
    ) -> AsyncIterator[pb.RegisterResponse]:
        hello = await _first(requests)
        made = await self._register(hello, context)
        self._streams += 1
        try:
            yield self._welcome(made)
            if hello.HasField("beat"):
                self._note(made.instance.name, hello.beat)
            async for request in requests:
                which = request.WhichOneof("said")
                if which == "leave":
                    await self._leave(made, context.peer())
                    return
                if which != "beat":
                    raise Invalid("after its hello a process says beat or leave")
                await self._renew(made)
                yield self._beaten(made.instance.name, request.beat)
        finally:
            self._streams -= 1
            if not made.has_left and not self.is_stopping:
                await asyncio.shield(self._lost(made))

    async def _register(self, hello: pb.Hello, context: Any) -> _Registration:
        lease_s = hello.lease_s or _LEASE_S
        if not _LEASE_BOUNDS_S[0] <= lease_s <= _LEASE_BOUNDS_S[1]:
            raise Invalid(f"lease_s must be {_LEASE_BOUNDS_S[0]:g}..{_LEASE_BOUNDS_S[1]:g}")
        lease_s = max(lease_s, 3 * self._streams / _BEATS_PER_S)
        instance = self._complete(hello)
        for _ in range(_TRIES):
            held = self._state.snapshot.topology.instances.get(instance.name)
            if held is not None and not held.registered:
                await context.abort(
                    grpc.StatusCode.ALREADY_EXISTS,
                    f"instance {instance.name} belongs to the topology document",
                )
            epoch = _epoch(hello, held)
            made = _Registration(replace(instance, epoch=epoch), 0, lease_s)
            plan_edits(self._state.snapshot, [Change.put(made.instance)], self._guard)
            try:
                await self._put(made, f"register from {context.peer()}")
            except Conflict:
                # Somebody registered under this name at the same moment: look again.
                await asyncio.sleep(0.05)
                continue
            return made
        raise Unavailable(f"instance {instance.name} is being registered by others too")

    async def _put(self, made: _Registration, what: str) -> None:
        """Write instance and presence under a new lease; Conflict if another process did."""
        name = made.instance.name
        held = self._state.leases.get(name)
        made.lease = await self._store.grant(made.lease_s)
        presence = Presence(name, made.instance.epoch)
        writes = [
            Put(key_of(Kind.INSTANCES, name), value_of(made.instance)),
            Put(key_of(Kind.PRESENCE, name), value_of(presence), made.lease),
        ]
        expect = [Expect(key_of(Kind.PRESENCE, name), held.revision if held else 0)]
        revision = await self._store.commit(writes, Author(f"instance {name}", what), expect)
        await self._state.reached(revision)

    def _complete(self, hello: pb.Hello) -> Instance:
        message = hello.instance
        if not message.pop and message.addresses:
            probe = instance_from_message(_with_pop(message, "unknown")).addresses[0]
            table = self._state.snapshot.topology.ranges.family(probe.version)
            policy = table.policy(int(probe))
            if policy is NEUTRAL or policy.pop is None:
                raise Invalid(f"no pop given, and no range holds {probe}")
            message = _with_pop(message, policy.pop)
        return replace(instance_from_message(message), registered=True)

    def _welcome(self, made: _Registration) -> pb.RegisterResponse:
        welcome = pb.Welcome(
            epoch=made.instance.epoch,
            lease_s=made.lease_s,
            beat_every_s=made.lease_s / 3,
            instance=instance_to_message(made.instance),
        )
        return pb.RegisterResponse(welcome=welcome)

    async def _renew(self, made: _Registration) -> None:
        """Keep the lease; one that ran out while nobody could renew it is made anew."""
        name = made.instance.name
        self._check_owner(made)
        try:
            await self._store.renew(made.lease)
            if name in self._state.leases:
                return
        except Unavailable:
            # A state, not an error: the process is here and well.
            self._pump.store_away()
            return
        except LeaseLost:
            pass
        try:
            await self._put(made, "came back: its lease had run out")
        except Unavailable:
            self._pump.store_away()
        except Conflict:
            self._check_owner(made)

    def _check_owner(self, made: _Registration) -> None:
        held = self._state.snapshot.topology.instances.get(made.instance.name)
        if held is not None and held.epoch > made.instance.epoch:
            made.has_left = True
            raise Conflict(_replaced(made.instance.name))

    def _note(self, name: str, beat: pb.Heartbeat) -> None:
        load = beat.load if beat.HasField("load") else None
        told = Told(in_flight=beat.in_flight, lame_duck=beat.lame_duck)
        self._pump.beat(name, told, load)

    def _beaten(self, name: str, beat: pb.Heartbeat) -> pb.RegisterResponse:
        self._note(name, beat)
        return pb.RegisterResponse(beaten=pb.Beaten())

    async def _leave(self, made: _Registration, peer: str) -> None:
        name = made.instance.name
        self._check_owner(made)
        made.has_left = True
        writes = [Delete(key_of(Kind.INSTANCES, name)), Delete(key_of(Kind.PRESENCE, name))]
        author = Author(f"instance {name}", f"leave from {peer}")
        revision = await self._store.commit(writes, author)
        await self._store.revoke(made.lease)
        await self._state.reached(revision)

    async def _lost(self, made: _Registration) -> None:
        """The stream ended without a word: the process is gone, and so is its presence."""
        try:
            await self._store.revoke(made.lease)
        except MeshError as error:
            # Nobody renews the lease: it runs out by itself.
            log.warning("presence stays: instance=%s error=%s", made.instance.name, error)


async def _first(requests: AsyncIterator[pb.RegisterRequest]) -> pb.Hello:
    async for request in requests:
        if request.WhichOneof("said") == "hello":
            return request.hello
        break
    raise Invalid("a process says hello first")


def _epoch(hello: pb.Hello, held: Instance | None) -> int:
    """The epoch of a process; Conflict if it was replaced by a later one."""
    newest = held.epoch if held else 0
    if hello.epoch and hello.epoch < newest:
        raise Conflict(_replaced(hello.instance.name))
    return hello.epoch or newest + 1


def _replaced(name: str) -> str:
    return f"instance {name} was registered by a newer process: this one was replaced"


def _with_pop(message: Any, pop: str) -> Any:
    made = type(message)()
    made.CopyFrom(message)
    made.pop = pop
    return made
