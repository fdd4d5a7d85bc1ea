"""DNS messages: questions parsed from bytes, replies put together from finished pieces.

Layout RFC 1035 4.1, EDNS RFC 6891, client subnet RFC 7871. Errors of a question are values
(an rcode to answer with), never exceptions: every packet gets its due reply or silence.
"""

import struct
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import ip_address
from typing import NamedTuple

from meshd.core.errors import Malformed
from meshd.core.resolve import Client
from meshd.core.rrsets import Rdata, RRset, Soa, Srv, Svcb, Type

# Flag day 2020, RFC 9715: no reply that could be fragmented.
MAX_UDP = 1232
PLAIN_UDP = 512
# Room for what is in a UDP reply behind the question, whatever question and OPT are around it.
UDP_ROOM = MAX_UDP - 12 - 259 - 40
_QUESTION_POINTER = b"\xc0\x0c"
_ECS = 8


class Rcode(IntEnum):
    """Response codes (RFC 1035 4.1.1, RFC 6891 9)."""

    NOERROR = 0
    FORMERR = 1
    SERVFAIL = 2
    NXDOMAIN = 3
    NOTIMP = 4
    REFUSED = 5
    BADVERS = 16


class Ecs(NamedTuple):
    """A client subnet option (RFC 7871 6): what to echo, and the client (None for /0)."""

    raw: bytes
    client: Client | None


class Edns(NamedTuple):
    """What an OPT record said: UDP size, version, DO bit, client subnet."""

    size: int
    version: int
    do: bool
    ecs: Ecs | None


class Query(NamedTuple):
    """A question as asked; `error` is set where only an error can be the reply.

    `name` is the lower-cased wire name, `question` the section's bytes in the case asked.
    """

    id: bytes
    flags: int
    question: bytes = b""
    name: bytes = b""
    qtype: int = 0
    qclass: int = 1
    edns: Edns | None = None
    error: Rcode = Rcode.NOERROR


def parse_query(data: bytes) -> Query | None:
    """Read a packet; None where silence is due: too short, or itself a response (CVE-2024-2169)."""
    if len(data) < 12:
        return None
    ident, flags, qd, an, ns, ar = struct.unpack("!2sHHHHH", data[:12])
    if flags & 0x8000:
        return None
    if flags >> 11 & 0xF:
        return Query(ident, flags, error=Rcode.NOTIMP)
    try:
        # RFC 9619: exactly one question.
        if qd != 1:
            return Query(ident, flags, error=Rcode.FORMERR)
        end = _skip_name(data, 12, compressed=False)
        name, (qtype, qclass) = data[12:end].lower(), struct.unpack_from("!HH", data, end)
        edns = _parse_rest(data, end + 4, an + ns, ar)
    except (Malformed, struct.error, IndexError):
        return Query(ident, flags, error=Rcode.FORMERR)
    error = Rcode.BADVERS if edns and edns.version else Rcode.NOERROR
    return Query(ident, flags, data[12 : end + 4], name, qtype, qclass, edns, error)


def _skip_name(data: bytes, at: int, *, compressed: bool) -> int:
    start = at
    while True:
        length = data[at]
        if length == 0:
            return at + 1
        if length >= 0xC0 and compressed:
            return at + 2
        if length > 63:
            raise Malformed("label longer than 63, or compression in a question")
        at += 1 + length
        if at - start > 254:
            raise Malformed("name longer than 255")


def _parse_rest(data: bytes, at: int, skipped: int, additional: int) -> Edns | None:
    edns: Edns | None = None
    for index in range(skipped + additional):
        root = data[at] == 0
        at = _skip_name(data, at, compressed=True)
        rtype, size, ttl, length = struct.unpack_from("!HHIH", data, at)
        rdata = data[at + 10 : at + 10 + length]
        if len(rdata) < length:
            raise Malformed("record longer than the message")
        at += 10 + length
        if rtype == Type.OPT:
            # RFC 6891 6.1.1: one OPT, at the root, in the additional section.
            if edns is not None or not root or index < skipped:
                raise Malformed("OPT where none may be")
            ecs = _parse_options(rdata)
            edns = Edns(max(size, PLAIN_UDP), ttl >> 16 & 0xFF, bool(ttl & 0x8000), ecs)
    if at != len(data):
        raise Malformed("bytes after the message")
    return edns


def _parse_options(rdata: bytes) -> Ecs | None:
    ecs = None
    at = 0
    while at < len(rdata):
        code, length = struct.unpack_from("!HH", rdata, at)
        value = rdata[at + 4 : at + 4 + length]
        if len(value) < length:
            raise Malformed("option longer than its record")
        if code == _ECS:
            ecs = parse_ecs(value)
        at += 4 + length
    return ecs


def parse_ecs(value: bytes) -> Ecs:
    """Read a client subnet (RFC 7871 6); Malformed if lengths or trailing bits are wrong."""
    family, source, scope = struct.unpack_from("!HBB", value)
    bits = {1: 32, 2: 128}.get(family)
    address = value[4:]
    if bits is None or source > bits or scope or len(address) != (source + 7) // 8:
        raise Malformed("client subnet of wrong form")
    number = int.from_bytes(address.ljust(bits // 8, b"\0"), "big")
    if number & (1 << bits - source) - 1:
        raise Malformed("client subnet with bits beyond its length")
    client = Client(4 if family == 1 else 6, number, source) if source else None
    return Ecs(value, client)


# Replies. A finished reply is a body behind the question, whatever ID, case and EDNS come.


@dataclass(frozen=True, slots=True)
class Body:
    """The sections behind the question: counts, bytes; of `extra` (RRsets) what fits."""

    rcode: int
    answers: int
    authority: int
    data: bytes
    extra: tuple[tuple[int, bytes], ...] = ()
    aa: bool = True

    def fitted(self, room: int) -> tuple[bytes, int]:
        """The bytes with as many additional RRsets as there is room for, and their records."""
        data, count = self.data, 0
        for records, encoded in self.extra:
            if len(data) + len(encoded) <= room:
                data += encoded
                count += records
        return data, count


def encode_rrset(rrset: RRset) -> tuple[int, bytes]:
    """How many records, and their bytes; owner None points at the question."""
    owner = _QUESTION_POINTER if rrset.owner is None else rrset.owner
    head = owner + struct.pack("!HHI", rrset.type, 1, rrset.ttl)
    packed = [encode_rdata(rrset.type, rdata) for rdata in rrset.rdata]
    records = [head + len(data).to_bytes(2, "big") + data for data in packed]
    return len(records), b"".join(records)


def encode_rdata(kind: Type, rdata: Rdata) -> bytes:
    """One record's data; names uncompressed (RFC 2782, RFC 3597 4)."""
    if isinstance(rdata, bytes):
        return rdata
    if isinstance(rdata, Srv):
        return struct.pack("!HHH", rdata.priority, rdata.weight, rdata.port) + rdata.target
    if isinstance(rdata, Soa):
        return rdata.mname + rdata.rname + struct.pack("!5I", *rdata[2:])
    if isinstance(rdata, Svcb):
        return _encode_svcb(rdata)
    return b"".join(bytes([len(text)]) + text for text in rdata)


def _encode_svcb(rdata: Svcb) -> bytes:
    # RFC 9460 14.3.2: port 3, ipv4hint 4, ipv6hint 6; ascending.
    params = [(3, rdata.port.to_bytes(2, "big"))]
    params += [(4, b"".join(rdata.hints4))] if rdata.hints4 else []
    params += [(6, b"".join(rdata.hints6))] if rdata.hints6 else []
    encoded = b"".join(struct.pack("!HH", key, len(value)) + value for key, value in params)
    return struct.pack("!H", rdata.priority) + rdata.target + encoded


def negative_soa(soa: RRset, zone_length: int, name_length: int) -> RRset:
    """The SOA for an authority section (RFC 2308 3), its owner pointing into the question."""
    offset = 12 + name_length - zone_length
    return RRset(soa.type, soa.ttl, soa.rdata, (0xC000 | offset).to_bytes(2, "big"))


def assemble(query: Query, body: Body, scope: int, limit: int) -> bytes:
    """The whole reply to a query; TC and no records if it would pass `limit` bytes."""
    opt = _opt(query.edns, scope, body.rcode) if query.edns else b""
    room = limit - 12 - len(query.question) - len(opt)
    truncated = len(body.data) > room
    extra_room = room if limit > MAX_UDP else min(room, UDP_ROOM)
    data, extras = (b"", 0) if truncated else body.fitted(extra_room)
    answers, authority = (0, 0) if truncated else (body.answers, body.authority)
    flags = 0x8000 | (0x0400 if body.aa else 0) | (0x0200 if truncated else 0)
    # Opcode, RD and CD as asked.
    flags |= query.flags & 0x7910 | body.rcode & 0xF
    counts = (1 if query.question else 0, answers, authority, extras + (1 if opt else 0))
    return query.id + struct.pack("!5H", flags, *counts) + query.question + data + opt


def _opt(edns: Edns, scope: int, rcode: int) -> bytes:
    option = ecs_option(edns.ecs, scope) if edns.ecs else b""
    ttl = (rcode >> 4) << 24 | (0x8000 if edns.do else 0)
    return struct.pack("!BHHIH", 0, Type.OPT, MAX_UDP, ttl, len(option)) + option


def ecs_option(ecs: Ecs, scope: int) -> bytes:
    """The option echoed with its scope (RFC 7871 7.2.1)."""
    raw = ecs.raw
    return struct.pack("!HH", _ECS, len(raw)) + raw[:3] + bytes([scope]) + raw[4:]


def udp_limit(query: Query) -> int:
    """How long a UDP reply may be."""
    return min(query.edns.size, MAX_UDP) if query.edns else PLAIN_UDP


def client_of(address: str) -> Client:
    """The client that a source address is; an IPv4-mapped one counts as IPv4."""
    found = ip_address(address.partition("%")[0])
    mapped = getattr(found, "ipv4_mapped", None) or found
    return Client(mapped.version, int(mapped), mapped.max_prefixlen)
