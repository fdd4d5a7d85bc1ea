"""The Registry service: a process announces itself on a stream, holds a lease, tells its load.

A registration is two records: the instance, which stays, and its presence, which is bound to
the lease. A lost lease makes the instance down; it is not forgotten, so the last one of a
service is still known when all are gone. Silence is for the store to judge, by the lease.
"""

import asyncio
import logging
import time
from dataclasses import dataclass, replace
from typing import Any

import grpc

from meshd.core.errors import Conflict, Invalid, LeaseLost, MeshError, Unavailable
from meshd.core.guard import STRICT, Guard
from meshd.core.model import Instance, Presence
from meshd.core.topology import Kind
from meshd.daemon.pump import Pump
from meshd.daemon.rpc.hello import LEASE_S, instance_of
from meshd.daemon.rpc.status import unary
from meshd.daemon.state import State
from meshd.daemon.store.base import Author, Delete, Expect, Put, Store
from meshd.daemon.told import Told
from meshd.v1 import registry_pb2 as pb
from meshd.v1 import registry_pb2_grpc
from meshd.wire.messages import instance_to_message
from meshd.wire.records import key_of, value_of

log = logging.getLogger(__name__)

_BEATS_A_LEASE = 3
# Terms change once there are so many more that the fair lease is this much longer.
_LONGER = 2.0
# Below the server's limit of calls, so that others are served beside any number of processes.
MOST_STREAMS = 50_000
_HELLO_S = 10.0
_LOOK_AGAIN_S = 0.5
_TRIES = 5
# What was committed is swapped in soon, but behind all that a whole fleet commits at once.
_SWAPPED_S = 60.0


@dataclass(slots=True, eq=False)
class _Registration:
    """One process on its stream; times are the event loop's."""

    instance: Instance
    asked_s: float
    lease_s: float
    heard_at: float
    lease: int = 0
    timer: asyncio.TimerHandle | None = None
    # It left, was replaced, or fell silent: there is no presence of its own to take away.
    has_ended: bool = False
    # It waits for the store with us.
    is_renewing: bool = False

    @property
    def name(self) -> str:
        """The instance's name."""
        return self.instance.name


class Registry(registry_pb2_grpc.RegistryServicer):
    """Registrations go to the store; what beats tell stays in memory."""

    def __init__(self, store: Store, state: State, pump: Pump, guard: Guard = STRICT) -> None:
        self._store = store
        self._state = state
        self._pump = pump
        self._guard = guard
        self._streams = 0
        self.most_streams = MOST_STREAMS
        # Beats to hear each second, of all processes together: with more of them each beats less
        # often, and silence is forgiven for longer. A closed stream is noticed at once anyway.
        self.beats_per_s = 1000.0
        # Set before the server stops: streams that it ends itself are not processes that died.
        self.is_stopping = False

    @property
    def streams(self) -> int:
        """How many processes are registered on this core, or about to be."""
        return self._streams

    @unary
    async def Register(self, _: Any, context: Any) -> None:  # noqa: N802
        if self._streams >= self.most_streams:
            await context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED, f"{self._streams} processes are registered here"
            )
        hello = await _hello(context)
        made = self._admit(hello)
        self._streams += 1
        try:
            await self._register(made, hello.epoch, context)
            await context.write(self._welcome(made))
            if hello.HasField("beat"):
                self._note(made, hello.beat)
            await self._converse(made, context)
        finally:
            self._streams -= 1
            # Who waited for the store in vain is well, and goes to another core, which takes the
            # presence over before this lease runs out.
            is_known = made.has_ended or made.is_renewing or self._pump.reach.is_away
            if made.lease and not is_known and not self.is_stopping:
                await asyncio.shield(self._lost(made))

    def _admit(self, hello: pb.Hello) -> _Registration:
        instance = instance_of(hello, self._state.snapshot.topology, self._guard)
        asked_s = hello.lease_s or LEASE_S
        now = asyncio.get_running_loop().time()
        return _Registration(instance, asked_s, self._fair_lease_s(asked_s), now)

    def _fair_lease_s(self, asked_s: float) -> float:
        """How long a lease should live with so many processes as there are."""
        known = max(self._streams, len(self._state.leases))
        return max(asked_s, _BEATS_A_LEASE * known / self.beats_per_s)

    async def _register(self, made: _Registration, epoch: int, context: Any) -> None:
        for _ in range(_TRIES):
            topology = self._state.snapshot.topology
            held = topology.instances.get(made.name)
            if held is not None and not held.registered:
                await context.abort(
                    grpc.StatusCode.ALREADY_EXISTS,
                    f"instance {made.name} belongs to the topology document",
                )
            newest = held.epoch if held else 0
            if epoch and epoch < newest:
                raise Conflict(_replaced(made.name))
            # Later than every epoch of this store, those of forgotten instances too.
            made.instance = replace(
                made.instance, epoch=epoch or max(newest, topology.revision) + 1
            )
            try:
                await self._put(made, f"register from {context.peer()}")
            except Conflict:
                # Somebody registered under this name at the same moment: look again.
                await asyncio.sleep(0.05)
                continue
            return
        raise Unavailable(f"instance {made.name} is being registered by others too")

    async def _put(self, made: _Registration, what: str) -> None:
        """Write instance and presence under a new lease; Conflict if another process did."""
        held = self._state.leases.get(made.name)
        made.lease = await self._store.grant(made.lease_s)
        presence = Presence(made.name, made.instance.epoch)
        writes = [
            Put(key_of(Kind.INSTANCES, made.name), value_of(made.instance)),
            Put(key_of(Kind.PRESENCE, made.name), value_of(presence), made.lease),
        ]
        expect = [Expect(key_of(Kind.PRESENCE, made.name), held.revision if held else 0)]
        revision = await self._store.commit(writes, Author(f"instance {made.name}", what), expect)
        await self._state.reached(revision, _SWAPPED_S)

    def _welcome(self, made: _Registration) -> pb.RegisterResponse:
        welcome = pb.Welcome(
            epoch=made.instance.epoch,
            lease_s=made.lease_s,
            beat_every_s=made.lease_s / _BEATS_A_LEASE,
            instance=instance_to_message(made.instance),
        )
        return pb.RegisterResponse(welcome=welcome)

    async def _converse(self, made: _Registration, context: Any) -> None:
        """Hear what the process says until it leaves, goes, or falls silent."""
        try:
            async with asyncio.timeout(None) as silence:
                self._watch(made, silence)
                while (request := await context.read()) is not grpc.aio.EOF:
                    which = request.WhichOneof("said")
                    if which == "leave":
                        await self._leave(made, context.peer())
                        return
                    if which != "beat":
                        raise Invalid("after its hello a process says beat or leave")
                    made.heard_at = asyncio.get_running_loop().time()
                    self._check_owner(made)
                    # First, for a store that is away is waited for.
                    self._note(made, request.beat)
                    made.is_renewing = True
                    await self._renew(made)
                    made.is_renewing = False
                    await context.write(await self._answer(made, request.beat))
        except TimeoutError:
            made.has_ended = True
            raise Unavailable(f"nothing was heard of {made.name} for {made.lease_s:g} s") from None
        finally:
            if made.timer is not None:
                made.timer.cancel()

    def _watch(self, made: _Registration, silence: asyncio.Timeout) -> None:
        """End the stream of a process that is silent, once its lease has run out as well.

        Leases outlive a core that stood still, and a store that is away: so do streams.
        """
        loop = asyncio.get_running_loop()
        now, due = loop.time(), made.heard_at + made.lease_s
        if now >= due and not self._holds(made):
            silence.reschedule(now)
            return
        made.timer = loop.call_at(max(due, now + _LOOK_AGAIN_S), self._watch, made, silence)

    def _holds(self, made: _Registration) -> bool:
        """True if the instance's presence is bound to the lease of this stream."""
        held = self._state.leases.get(made.name)
        return held is not None and held.lease == made.lease

    async def _renew(self, made: _Registration) -> None:
        """Keep the lease; one that ran out while nobody could renew it is made anew."""
        try:
            await self._store.renew(made.lease)
            if self._holds(made):
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
        held = self._state.snapshot.topology.instances.get(made.name)
        if held is not None and held.epoch > made.instance.epoch:
            made.has_ended = True
            raise Conflict(_replaced(made.name))

    def _note(self, made: _Registration, beat: pb.Heartbeat) -> None:
        load = beat.load if beat.HasField("load") else None
        self._pump.beat(made.name, Told(in_flight=beat.in_flight, lame_duck=beat.lame_duck), load)

    async def _answer(self, made: _Registration, beat: pb.Heartbeat) -> pb.RegisterResponse:
        """What a beat is answered: new terms if there are many more processes now."""
        if beat.lame_duck:
            safe_in_s = self._state.lasting.safe_in_s(made.name, time.monotonic())
            return pb.RegisterResponse(beaten=pb.Beaten(safe_in_s=safe_in_s))
        fair_s = self._fair_lease_s(made.asked_s)
        if fair_s < _LONGER * made.lease_s or not self._holds(made):
            return pb.RegisterResponse(beaten=pb.Beaten())
        before_s, made.lease_s = made.lease_s, fair_s
        try:
            await self._put(made, "beats less often: there are many more")
        except (Unavailable, Conflict):
            made.lease_s = before_s
            return pb.RegisterResponse(beaten=pb.Beaten())
        return self._welcome(made)

    async def _leave(self, made: _Registration, peer: str) -> None:
        self._check_owner(made)
        held = self._state.leases.get(made.name)
        keys = [key_of(kind, made.name) for kind in (Kind.INSTANCES, Kind.PRESENCE)]
        author = Author(f"instance {made.name}", f"leave from {peer}")
        # A process that takes the name over at this moment must not be forgotten.
        expect = [Expect(keys[1], held.revision if held else 0)]
        revision = await self._store.commit([Delete(key) for key in keys], author, expect)
        made.has_ended = True
        await self._store.revoke(made.lease)
        await self._state.reached(revision, _SWAPPED_S)

    async def _lost(self, made: _Registration) -> None:
        """The stream ended without a word: the process is gone, and so is its presence."""
        try:
            await self._store.revoke(made.lease)
        except MeshError as error:
            # Nobody renews the lease: it runs out by itself.
            self._pump.store_away()
            log.warning("presence stays: instance=%s error=%s", made.name, error)


async def _hello(context: Any) -> pb.Hello:
    try:
        async with asyncio.timeout(_HELLO_S):
            request = await context.read()
    except TimeoutError:
        raise Invalid("nothing was said") from None
    if request is grpc.aio.EOF or request.WhichOneof("said") != "hello":
        raise Invalid("a process says hello first")
    hello: pb.Hello = request.hello
    return hello


def _replaced(name: str) -> str:
    return f"instance {name} was registered by a newer process: this one was replaced"
