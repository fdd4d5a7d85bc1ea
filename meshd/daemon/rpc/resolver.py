"""The Resolver service: what DNS would answer, in full, and why."""

import json
from typing import Any

from dns.rdatatype import RdataType, UnknownRdatatype

from meshd.core.errors import Invalid
from meshd.core.explain import Explanation, Line, explain
from meshd.core.model import dns_name
from meshd.core.names import to_wire
from meshd.core.ranking import Ranked
from meshd.core.resolve import Answer, Client, resolve
from meshd.daemon.rpc.status import unary
from meshd.daemon.state import State
from meshd.v1 import resolver_pb2 as pb
from meshd.v1 import resolver_pb2_grpc
from meshd.wire import answers
from meshd.wire.dns import Rcode


class Resolver(resolver_pb2_grpc.ResolverServicer):
    """Answers from the core's snapshot with the same function that answerers use."""

    def __init__(self, state: State) -> None:
        self._state = state

    @unary
    async def Resolve(self, request: pb.ResolveRequest, context: Any) -> pb.ResolveResponse:  # noqa: N802
        snapshot = self._state.snapshot
        name = to_wire(dns_name(request.name))
        answer = resolve(snapshot, name, _client(request.client))
        made = pb.ResolveResponse(
            status=answer.status, scope=answer.scope, revision=snapshot.topology.revision
        )
        if answer.choice is not None:
            made.ttl_s = answer.choice.ttl.seconds
            chosen = {ranked.member.instance.name for ranked in answer.choice.chosen}
            for ranked in answer.choice.ranked:
                in_set = ranked.member.instance.name in chosen
                made.endpoints.append(_endpoint(answer, ranked, in_set))
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
        _fill_choice(made, found)
        return made


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
    made.ttl_headroom = choice.ttl.headroom
    made.instances.extend(map(_instance, found.lines))


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
        weight=member.weight,
        place=line.place,
        tier=line.tier,
        cost=line.cost / (1 << 40),
        in_set=line.in_set,
        excluded=line.excluded,
    )
