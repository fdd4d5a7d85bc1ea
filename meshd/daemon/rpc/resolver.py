"""The Resolver service: what DNS would answer, in full, and why."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

from dns.rdatatype import RdataType, UnknownRdatatype

from meshd.core.errors import Invalid, NotFound
from meshd.core.explain import Explanation, Line, explain, ranges_of, selector_from
from meshd.core.lifetime import longest_s, ready_families
from meshd.core.model import dns_name
from meshd.core.names import to_wire
from meshd.core.ranking import Ranked
from meshd.core.reasons import reason
from meshd.core.resolve import Answer, Client, resolve
from meshd.core.snapshot import Snapshot
from meshd.daemon.observed import Observed
from meshd.daemon.reports import Reports
from meshd.daemon.rpc.status import streaming, unary
from meshd.daemon.rpc.top import Top, clients_of, clues_of, decided_by
from meshd.daemon.state import State
from meshd.v1 import resolver_pb2 as pb
from meshd.v1 import resolver_pb2_grpc
from meshd.wire import answers
from meshd.wire.dns import Rcode

_EVERY_BOUNDS_S = (0.2, 60.0)
# Of the time, at most one part in so many goes into one `top`.
_TOP_DUTY = 4


class Resolver(resolver_pb2_grpc.ResolverServicer):
    """Answers from the core's snapshot with the same function that answerers use."""

    def __init__(self, state: State, observed: Observed, reports: Reports) -> None:
        self._state = state
        self._observed = observed
        self._reports = reports
        self._top = Top(state, observed, reports)

    @unary
    async def Resolve(self, request: pb.ResolveRequest, context: Any) -> pb.ResolveResponse:  # noqa: N802
        snapshot = self._state.snapshot
        name = to_wire(dns_name(request.name))
        client = _client(request.client)
        answer = resolve(snapshot, name, client)
        made = pb.ResolveResponse(
            status=answer.status, scope=answer.scope, revision=snapshot.topology.revision
        )
        if answer.choice is not None:
            made.ttl_s = answer.choice.ttl.seconds
            chosen = {ranked.member.instance.name for ranked in answer.choice.chosen}
            for ranked in answer.choice.ranked:
                in_set = ranked.member.instance.name in chosen
                made.endpoints.append(_endpoint(answer, ranked, in_set))
            _fill_motion(made.motion, answer, selector_from(answer, ranges_of(snapshot, client)))
        if request.type:
            whole, _ = answers.answer_template(snapshot, answer, name, _type(request.type))
            _fill_records(made, answers.fill(whole, dns_name(request.name), answer.scope))
        return made

    @unary
    async def Explain(self, request: pb.ExplainRequest, context: Any) -> pb.ExplainResponse:  # noqa: N802
        snapshot = self._state.snapshot
        client = _client(request.client)
        found = explain(snapshot, to_wire(dns_name(request.name)), client)
        made = pb.ExplainResponse(
            status=found.answer.status,
            name=dns_name(request.name),
            client=str(client) if client else "",
            revision=snapshot.topology.revision,
            scope=found.answer.scope,
            zone=found.answer.place.zone.name if found.answer.place else "",
            service=found.answer.place.service if found.answer.place else "",
            ranges=[entry.name for entry in found.ranges],
            range=found.ranges[-1].name if found.ranges else "",
            notes=found.notes,
        )
        decider = decided_by(self._observed.duties, made.service)
        made.notes.extend([decider] if decider else [])
        _fill_choice(made, found)
        self._fill_instances(made, snapshot, found)
        return made

    def _fill_instances(
        self, made: pb.ExplainResponse, snapshot: Snapshot, found: Explanation
    ) -> None:
        view, now = found.answer.view, time.monotonic()
        if view is None:
            return
        families = ready_families(view)
        for line in found.lines:
            instance = line.member.instance
            shown = _instance(line)
            shown.ttl_s = longest_s(view, line.member, families)
            clues = clues_of(self._observed, self._reports, instance.name, now)
            shown.reason = reason(snapshot, instance, clues, now)
            clients = clients_of(snapshot, self._reports, clues, instance.name, now)
            if clients is not None:
                shown.clients.CopyFrom(clients)
            made.instances.append(shown)

    @unary
    async def SafeToStop(  # noqa: N802
        self, request: pb.SafeToStopRequest, context: Any
    ) -> pb.SafeToStopResponse:
        snapshot, now = self._state.snapshot, time.monotonic()
        topology, lasting = snapshot.topology, self._state.lasting
        names = topology.matching(request.instance)
        if not names:
            raise NotFound(f"no instance is called {request.instance!r}, or matches it")
        made = pb.SafeToStopResponse(revision=topology.revision)
        for name in sorted(names):
            instance = topology.instances[name]
            service = topology.services.get(instance.service)
            made.instances.add(
                instance=name,
                verdict=snapshot.verdict(instance),
                safe_in_s=lasting.safe_in_s(name, now),
                is_answered=lasting.is_answered(name),
                min_ttl_s=service.ttl.min_s if service else 0,
            )
        return made

    @streaming
    async def Top(self, request: pb.TopRequest, context: Any) -> AsyncIterator[pb.TopResponse]:  # noqa: N802
        every_s = request.every_s
        low, high = _EVERY_BOUNDS_S
        if every_s and not low <= every_s <= high:
            raise Invalid(f"every_s must be 0, or {low:g}..{high:g} seconds")
        while True:
            began = time.monotonic()
            yield await self._top.reply(request.service)
            if not every_s:
                return
            took_s = time.monotonic() - began
            await asyncio.sleep(max(every_s, (_TOP_DUTY - 1) * took_s))


def _client(text: str) -> Client | None:
    return Client.parse(text) if text else None


def _type(text: str) -> int:
    try:
        return int(RdataType.from_text(text))
    except (UnknownRdatatype, ValueError):
        raise Invalid(f"{text!r} is no record type") from None


def _fill_records(made: pb.ResolveResponse, whole: str) -> None:
    found = json.loads(whole)
    made.rcode = Rcode(found["rcode"]).name
    made.answer.extend(found["answer"])
    made.authority.extend(found["authority"])
    made.additional.extend(found["additional"])


def _endpoint(answer: Answer, ranked: Ranked, in_set: bool) -> pb.Endpoint:
    instance = ranked.member.instance
    assert answer.view is not None, "a choice is made in a view"
    port = answer.spot.port if answer.spot and answer.spot.port else answer.view.service.ports[0]
    return pb.Endpoint(
        instance=instance.name,
        version=instance.version.text,
        pop=instance.pop,
        addresses=map(str, instance.addresses),
        port=instance.port(port),
        tier=ranked.tier,
        weight=ranked.member.weight,
        in_set=in_set,
    )


def _fill_choice(made: pb.ExplainResponse, found: Explanation) -> None:
    choice, locus, view = found.answer.choice, found.answer.locus, found.answer.view
    if choice is None or locus is None or view is None:
        return
    made.pop = locus.policy.pop or ""
    made.selector = str(choice.selector)
    made.selector_from = found.selector_from
    made.arm = str(choice.arm)
    made.bucket, made.key_length = locus.bucket, locus.key_length
    made.ttl_s, made.ttl_reason = choice.ttl.seconds, choice.ttl.reason
    made.ttl_min_s, made.ttl_max_s = view.service.ttl.min_s, view.service.ttl.max_s
    made.ttl_headroom, made.ttl_load_s = choice.ttl.headroom, choice.ttl.load_s
    _fill_motion(made.motion, found.answer, found.selector_from)
    if choice.ttl.rollout_s is not None:
        made.ttl_rollout_s = choice.ttl.rollout_s
    if choice.ttl.verdict_s is not None:
        made.ttl_verdict_s = choice.ttl.verdict_s
    if choice.ttl.change_s is not None:
        made.ttl_change_s = choice.ttl.change_s


def _fill_motion(made: pb.Motion, answer: Answer, origin: str) -> None:
    if answer.choice is None or answer.view is None:
        return
    draw, underway = answer.choice.draw, answer.view.motion.underway
    made.selector_from = origin
    made.experiment, made.arm = draw.experiment, draw.arm
    made.hidden.extend(answer.view.hidden)
    if draw.rollout and underway is not None:
        made.rollout, made.to = draw.rollout, underway.to.text
        made.percent, made.is_moved = underway.percent, draw.is_moved


def _instance(line: Line) -> pb.ExplainedInstance:
    member = line.member
    return pb.ExplainedInstance(
        instance=member.instance.name,
        version=member.instance.version.text,
        pop=member.instance.pop,
        verdict=member.verdict,
        capacity=member.instance.capacity,
        load=member.signal.load,
        headroom=line.headroom,
        share=member.signal.share,
        kept=member.signal.kept,
        held=member.signal.held,
        success=member.signal.success,
        weight=member.weight,
        place=line.place,
        tier=line.tier,
        cost=line.cost / (1 << 40),
        in_set=line.in_set,
        excluded=line.excluded,
    )
