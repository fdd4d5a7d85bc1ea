"""The Rollouts service: begun, watched and moved by hand."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any, TypeVar

from meshd.core import rollout as machine
from meshd.core.errors import Fault, Invalid, NotFound, Refused
from meshd.core.references import Known, reference_faults
from meshd.core.release import Rollout
from meshd.core.selector import Split, Version
from meshd.core.snapshot import Snapshot
from meshd.core.topology import Topology
from meshd.core.whatif import rollout_flows
from meshd.daemon.lines import what_became
from meshd.daemon.rollouts import Advancing
from meshd.daemon.rpc.status import streaming, unary
from meshd.daemon.state import State
from meshd.daemon.store.base import Author
from meshd.v1 import rollout_pb2 as pb
from meshd.v1 import rollout_pb2_grpc
from meshd.wire.flows import flow_to_message
from meshd.wire.release_messages import (
    course_from_message,
    rollout_to_message,
    scope_from_message,
)

T = TypeVar("T")

_MOVES = ("pause", "resume", "promote", "finish", "rollback")


class Rollouts(rollout_pb2_grpc.RolloutsServicer):
    """Reads rollouts from the state; writes go to the store and come back by its follow."""

    def __init__(self, state: State, advancing: Advancing) -> None:
        self._state = state
        self.advancing = advancing

    async def start(self, request: pb.StartRequest) -> tuple[Rollout, bool, int]:
        """Begin a rollout, or find it; whether it is new, and the revision."""
        now = time.time()
        author = Author(request.author or "unknown", f"rollout {request.service} begun")
        made, revision = await self.advancing.begin(
            lambda snapshot: wanted(snapshot, request, now), author
        )
        return made.rollout, made.is_new, revision

    @unary
    async def Start(self, request: pb.StartRequest, context: Any) -> pb.StartResponse:  # noqa: N802
        rollout, is_new, revision = await self.start(request)
        message = rollout_to_message(rollout)
        return pb.StartResponse(rollout=message, is_new=is_new, revision=revision)

    @unary
    async def Preview(self, request: pb.StartRequest, context: Any) -> pb.PreviewResponse:  # noqa: N802
        snapshot = self._state.snapshot
        rollouts = snapshot.topology.rollouts.values()
        rollout = machine.begun(rollouts, wanted(snapshot, request, time.time())).rollout
        made = pb.PreviewResponse(rollout=rollout_to_message(rollout))
        for step in rollout.course.steps:
            flows = await asyncio.to_thread(rollout_flows, snapshot, rollout, step.percent)
            made.steps.add(percent=step.percent, flows=map(flow_to_message, flows))
        if rollout.to not in snapshot.views[rollout.service].versions:
            made.notes.append(f"no instance serves {rollout.to} yet")
        return made

    @unary
    async def Move(self, request: pb.MoveRequest, context: Any) -> pb.MoveResponse:  # noqa: N802
        if request.action not in _MOVES:
            raise Invalid(f"{request.action!r} is none of {', '.join(_MOVES)}")
        who, now = request.author or "unknown", time.time()

        def find(topology: Topology) -> Rollout:
            return found(topology, request.id, request.service)

        def become(rollout: Rollout, elapsed_s: float) -> Rollout:
            return moved(rollout, request.action, request.reason, (elapsed_s, now))

        def author(before: Rollout, after: Rollout) -> Author:
            return Author(who, what_became(before, after))

        rollout, revision = await self.advancing.move(find, become, author)
        return pb.MoveResponse(rollout=rollout_to_message(rollout), revision=revision)

    @unary
    async def List(self, request: pb.ListRequest, context: Any) -> pb.ListResponse:  # noqa: N802
        topology = self._state.snapshot.topology
        rollouts = [
            rollout
            for rollout in topology.rollouts.values()
            if request.service in ("", rollout.service)
        ]
        rollouts.sort(key=lambda each: (each.service, -each.order))
        return pb.ListResponse(
            rollouts=map(rollout_to_message, rollouts), revision=topology.revision
        )

    @streaming
    async def Watch(  # noqa: N802
        self, request: pb.WatchRequest, context: Any
    ) -> AsyncIterator[pb.WatchResponse]:
        last: Rollout | None = None
        while True:
            topology = self._state.snapshot.topology
            rollout = found(topology, request.id, "")
            if rollout != last:
                last = rollout
                message = rollout_to_message(rollout)
                yield pb.WatchResponse(rollout=message, revision=topology.revision)
                if rollout.phase.is_over:
                    return
            while self._state.snapshot.topology.rollouts is topology.rollouts:
                await self._state.moved()


def wanted(snapshot: Snapshot, request: pb.StartRequest, now_unix_s: float) -> Rollout:
    """The rollout that is asked for; its order is given later. Invalid lists every fault."""
    topology = snapshot.topology
    service = topology.services.get(request.service)
    if service is None:
        raise NotFound(f"no service is called {request.service!r}")
    if isinstance(service.selector, Split):
        raise Refused(
            f"service {service.name} is split by hand ({service.selector}): end that first"
        )
    usual, faults = service.course, list[Fault]()
    scope = scope_from_message(request.scope)
    to = _part(faults, "to", lambda: Version(request.to), Version("0"))
    course = _part(faults, "course", lambda: course_from_message(request.course, usual), usual)
    name = request.id or machine.default_id(service.name, to, topology.rollouts.values())
    spare = Rollout(
        service.name, service.name, to, course, scope,
        author=request.author, began_unix_s=now_unix_s, changed_unix_s=now_unix_s,
    )  # fmt: skip
    made = _part(faults, "", lambda: replace(spare, name=name), spare)
    faults += [
        replace(fault, where=fault.where.removeprefix(f"rollouts.{made.name}."))
        for fault in reference_faults(Known(topology), [made], {})
    ]
    if faults:
        raise Invalid(faults)
    return made


def _part(faults: list[Fault], where: str, make: Callable[[], T], spare: T) -> T:
    try:
        return make()
    except Invalid as error:
        faults.extend(replace(f, where=f"{where}.{f.where}".strip(".")) for f in error.faults)
        return spare


def found(topology: Topology, name: str, service: str) -> Rollout:
    """A rollout by its id, or the newest of a service; NotFound."""
    if name:
        rollout = topology.rollouts.get(name)
        if rollout is None:
            raise NotFound(f"no rollout is called {name!r}")
        return rollout
    own = machine.of_service(topology.rollouts.values(), service)
    if not own:
        known = service in topology.services
        raise NotFound(
            f"service {service} has no rollout" if known else f"no service is called {service!r}"
        )
    return own[0]


def moved(rollout: Rollout, action: str, why: str, at: tuple[float, float]) -> Rollout:
    """A rollout after a move by hand; `at`: how long it stood, and Unix seconds. Refused."""
    elapsed_s, now_unix_s = at
    if action == "pause":
        return machine.paused(rollout, elapsed_s, why, now_unix_s)
    moves = {
        "resume": machine.resumed,
        "promote": machine.promoted,
        "finish": machine.finished,
        "rollback": machine.rolled_back,
    }
    return moves[action](rollout, why, now_unix_s)
