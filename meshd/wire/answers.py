"""The bridge's own method `answer`: a whole answer as one line of JSON, for resolvers (Unbound).

    {"method":"answer","parameters":{"qname":"api.mesh.internal.","qtype":1,
     "remote":"10.1.0.9","real-remote":"10.1.0.9/32"}}
    {"result":{"rcode":0,"scope":32,"answer":["api.mesh.internal. 60 IN A 10.1.0.11"],
     "authority":[],"additional":[]}}

`remote` and `real-remote` are those of PowerDNS's protocol (remote.py). Records are in
presentation form (RFC 1035 5.1), their owner in the case asked. `scope` is 0 unless a client
subnet decided. rcode 5 means: no zone of ours, ask on as if meshd were not there.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from meshd.core.errors import Malformed
from meshd.core.names import to_text
from meshd.core.resolve import Answer, Status
from meshd.core.rrsets import RRset, Type, additional_of, rrsets_of, soa_of
from meshd.core.snapshot import Snapshot
from meshd.wire.dns import Rcode
from meshd.wire.remote import NAME, SCOPE, Lookup, parse_who, present, wire_name


def parse_question(parameters: Mapping[str, Any]) -> tuple[Lookup, int]:
    """Read the parameters of `answer`: what is asked for whom, and the type's number."""
    qname, qtype = parameters.get("qname"), parameters.get("qtype")
    if not isinstance(qname, str) or not isinstance(qtype, int) or not 0 < qtype < 65536:
        raise Malformed("answer without qname, or without the number of a type")
    return Lookup(qname, wire_name(qname), str(qtype), *parse_who(parameters)), qtype


def answer_template(
    snapshot: Snapshot, answer: Answer, name: bytes, qtype: int
) -> tuple[str, bool]:
    """The result for a question of one type, to be filled; True if it outlives the revision."""
    if answer.place is None:
        return template(Rcode.REFUSED), True
    if answer.status is Status.NOT_READY:
        return template(Rcode.SERVFAIL), False
    rrsets = rrsets_of(snapshot, answer, name, qtype)
    if not rrsets:
        rcode = Rcode.NXDOMAIN if answer.status is Status.NO_NAME else Rcode.NOERROR
        soa = soa_of(answer.place.zone, snapshot.topology.revision)
        # It has the zone's serial in it.
        return template(rcode, authority=(replace(soa, owner=answer.place.zone_wire),)), False
    if qtype == Type.ANY:
        return any_template(min(rrset.ttl for rrset in rrsets)), True
    return template(Rcode.NOERROR, rrsets, (), additional_of(answer, rrsets)), True


def template(
    rcode: Rcode,
    answer: Sequence[RRset] = (),
    authority: Sequence[RRset] = (),
    additional: Sequence[RRset] = (),
) -> str:
    """The result, to be filled with the name as it was asked and the scope."""
    return (
        f'{{"rcode":{rcode:d},"scope":{SCOPE},"answer":[{_records(answer)}],'
        f'"authority":[{_records(authority)}],"additional":[{_records(additional)}]}}'
    )


def any_template(ttl: int) -> str:
    """The result for ANY (RFC 8482 4.2)."""
    return (
        f'{{"rcode":0,"scope":{SCOPE},"answer":["{NAME} {ttl} IN HINFO \\"RFC8482\\" \\"\\""],'
        f'"authority":[],"additional":[]}}'
    )


def fill(made: str, qname: str, scope: int) -> str:
    """A result for a name as it was asked."""
    return made.replace(NAME, json.dumps(qname)[1:-1]).replace(SCOPE, str(scope))


def _records(rrsets: Sequence[RRset]) -> str:
    return ",".join(
        f'"{_owner(rrset)} {rrset.ttl} IN {Type(rrset.type).name} '
        f'{json.dumps(present(rrset.type, rdata))[1:-1]}"'
        for rrset in rrsets
        for rdata in rrset.rdata
    )


def _owner(rrset: RRset) -> str:
    return NAME if rrset.owner is None else json.dumps(to_text(rrset.owner))[1:-1]
