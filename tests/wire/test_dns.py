"""DNS messages, against dnspython as the second opinion."""

import struct

import dns.edns
import dns.flags
import dns.message
import dns.rdatatype
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.core.errors import Malformed
from meshd.core.names import to_wire
from meshd.core.resolve import Client
from meshd.core.rrsets import RRset, Soa, Srv, Svcb, Type
from meshd.wire.dns import (
    Body,
    Rcode,
    assemble,
    client_of,
    encode_rrset,
    negative_soa,
    parse_ecs,
    parse_query,
    udp_limit,
)


def packet(name: str = "api.mesh.internal", kind: str = "A", *options: dns.edns.Option) -> bytes:
    query = dns.message.make_query(name, kind, use_edns=0, payload=1232, options=list(options))
    return query.to_wire()


def test_query_is_read() -> None:
    query = parse_query(packet("ApI.Mesh.internal", "AAAA"))
    assert query is not None
    assert (query.name, query.qtype, query.qclass) == (to_wire("api.mesh.internal."), 28, 1)
    assert query.question.startswith(b"\x03ApI\x04Mesh")
    assert query.edns is not None
    assert (query.edns.size, query.edns.ecs, query.error) == (1232, None, Rcode.NOERROR)


def test_silence_is_kept() -> None:
    whole = packet()
    assert parse_query(whole[:11]) is None
    # A response, as a spoofed source would have two servers send each other (CVE-2024-2169).
    assert parse_query(whole[:2] + b"\x80" + whole[3:]) is None


def patched(at: int, value: bytes) -> bytes:
    whole = packet()
    return whole[:at] + value + whole[at + len(value) :]


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (patched(2, b"\x10"), Rcode.NOTIMP),
        (patched(2, b"\x28"), Rcode.NOTIMP),
        (patched(4, b"\0\0"), Rcode.FORMERR),
        (patched(4, b"\0\2"), Rcode.FORMERR),
        (patched(12, b"\xc0\x0c"), Rcode.FORMERR),
        (patched(12, b"\x40"), Rcode.FORMERR),
        (packet()[:20], Rcode.FORMERR),
        (packet() + b"\0", Rcode.FORMERR),
        (packet()[:10] + b"\0\2" + packet()[12:] + packet()[-11:], Rcode.FORMERR),
        (packet("a." * 126 + "b"), Rcode.NOERROR),
    ],
    ids=[
        "opcode 2", "update", "no question", "two questions", "compressed", "long label", "cut",
        "trailing bytes", "two OPT", "name of 255",
    ],
)  # fmt: skip
def test_errors_are_values(data: bytes, error: Rcode) -> None:
    query = parse_query(data)
    assert query is not None
    assert query.error == error


def test_unknown_edns_version() -> None:
    message = dns.message.make_query("api.mesh.internal", "A", use_edns=1)
    query = parse_query(message.to_wire())
    assert query is not None
    assert query.error == Rcode.BADVERS
    reply = dns.message.from_wire(assemble(query, Body(Rcode.BADVERS, 0, 0, b"", aa=False), 0, 512))
    assert reply.rcode() == 16
    assert reply.edns == 0


@given(st.binary(min_size=12, max_size=80))
def test_any_bytes_are_a_query_or_silence(data: bytes) -> None:
    query = parse_query(data)
    assert (query is None) == bool(data[2] & 0x80)
    if query is not None:
        reply = assemble(query, Body(query.error, 0, 0, b"", aa=False), 0, 512)
        assert reply[:2] == data[:2]
        assert reply[2] & 0x80


@given(st.data())
def test_damaged_queries_never_raise(data: st.DataObject) -> None:
    whole = bytearray(packet("api.mesh.internal", "A", dns.edns.ECSOption("10.1.0.0", 16)))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    parse_query(bytes(whole[: data.draw(st.integers(0, len(whole)))]))


ECS_CASES = [
    (b"\0\1\x18\0\x0a\1\2", Client(4, 0x0A010200, 24)),
    (b"\0\1\x00\0", None),
    (b"\0\1\x14\0\x0a\1\xf0", Client(4, 0x0A01F000, 20)),
    (b"\0\2\x38\0\x20\1\x0d\xb8\0\1\0", Client(6, 0x20010DB8000100 << 72, 56)),
]


@pytest.mark.parametrize(("value", "client"), ECS_CASES)
def test_client_subnets(value: bytes, client: Client | None) -> None:
    assert parse_ecs(value).client == client


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"\0\1\x18",
        b"\0\3\x18\0\x0a\1\2",
        b"\0\1\x21\0\x0a\1\2\3\4",
        b"\0\1\x18\0\x0a\1",
        b"\0\1\x18\0\x0a\1\2\3",
        b"\0\1\x14\0\x0a\1\xff",
        b"\0\1\x18\x18\x0a\1\2",
    ],
)
def test_wrong_client_subnets(value: bytes) -> None:
    with pytest.raises((Malformed, struct.error)):
        parse_ecs(value)


def reply_with(
    *rrsets: RRset, data: bytes | None = None, limit: int = 65535
) -> dns.message.Message:
    query = parse_query(data or packet())
    assert query is not None
    encoded = [encode_rrset(rrset) for rrset in rrsets]
    body = Body(0, sum(n for n, _ in encoded), 0, b"".join(e for _, e in encoded))
    return dns.message.from_wire(assemble(query, body, 0, limit))


@pytest.mark.parametrize(
    ("rrset", "text"),
    [
        (RRset(Type.A, 5, (b"\x0a\1\0\1", b"\x0a\1\0\2")), ["10.1.0.1", "10.1.0.2"]),
        (RRset(Type.AAAA, 5, (b"\x20\1" + bytes(13) + b"\1",)), ["2001::1"]),
        (
            RRset(Type.SRV, 5, (Srv(10, 256, 80, to_wire("a.b.")),)),
            ["10 256 80 a.b."],
        ),
        (RRset(Type.TXT, 5, ((b"one", b"two"),)), ['"one" "two"']),
        (RRset(Type.NS, 5, (to_wire("ns1.b."),)), ["ns1.b."]),
        (
            RRset(Type.SOA, 5, (Soa(to_wire("n.b."), to_wire("h.b."), 9, 1, 2, 3, 4),)),
            ["n.b. h.b. 9 1 2 3 4"],
        ),
        (
            RRset(
                Type.HTTPS,
                5,
                (Svcb(1, to_wire("a.b."), 8443, (b"\x0a\1\0\1",), (bytes(15) + b"\1",)),),
            ),
            ['1 a.b. port="8443" ipv4hint="10.1.0.1" ipv6hint="::1"'],
        ),
    ],
    ids=lambda value: value.type.name if isinstance(value, RRset) else "",
)
def test_records_read_back(rrset: RRset, text: list[str]) -> None:
    found = reply_with(rrset).answer[0]
    assert int(found.rdtype) == rrset.type
    assert [str(rdata) for rdata in found] == text
    assert (found.ttl, str(found.name)) == (5, "api.mesh.internal.")


def test_question_is_echoed_in_the_case_asked() -> None:
    data = packet("aPi.mESH.internal")
    reply = reply_with(RRset(Type.A, 5, (b"\x0a\1\0\1",)), data=data)
    assert str(reply.question[0].name) == "aPi.mESH.internal."
    assert reply.id == int.from_bytes(data[:2], "big")
    assert reply.flags & dns.flags.AA
    assert reply.flags & dns.flags.RD
    assert not reply.flags & dns.flags.RA


def test_too_long_a_reply_is_truncated() -> None:
    many = RRset(Type.A, 5, tuple(bytes([10, 1, 0, n]) for n in range(100)))
    reply = reply_with(many, limit=1232)
    assert reply.flags & dns.flags.TC
    assert not reply.answer
    assert len(reply_with(many, limit=65535).answer[0]) == 100


def test_additional_records_are_left_out_before_answers() -> None:
    query = parse_query(packet())
    assert query is not None
    extra = encode_rrset(RRset(Type.TXT, 5, ((b"x" * 200,),), to_wire("other.")))
    body = Body(0, 1, 0, encode_rrset(RRset(Type.A, 5, (b"\x0a\1\0\1",)))[1], (extra,) * 4)
    reply = dns.message.from_wire(assemble(query, body, 0, 600))
    assert not reply.flags & dns.flags.TC
    assert len(reply.answer) == 1
    assert len(reply.additional[0]) == 1


def test_negative_soa_points_at_the_zone() -> None:
    query = parse_query(packet("a.b.mesh.internal"))
    assert query is not None
    soa = RRset(Type.SOA, 5, (Soa(to_wire("n.b."), to_wire("h.b."), 9, 1, 2, 3, 4),))
    authority = negative_soa(soa, len(to_wire("mesh.internal.")), len(query.name))
    body = Body(Rcode.NXDOMAIN, 0, 1, encode_rrset(authority)[1])
    reply = dns.message.from_wire(assemble(query, body, 0, 512))
    assert str(reply.authority[0].name) == "mesh.internal."
    assert int(reply.rcode()) == Rcode.NXDOMAIN


def test_ecs_is_echoed_with_its_scope() -> None:
    query = parse_query(packet("api.mesh.internal", "A", dns.edns.ECSOption("10.1.2.0", 24)))
    assert query is not None
    reply = dns.message.from_wire(assemble(query, Body(0, 0, 0, b""), 17, 512))
    (option,) = reply.options
    assert isinstance(option, dns.edns.ECSOption)
    assert (option.address, option.srclen, option.scopelen) == ("10.1.2.0", 24, 17)


def test_sizes() -> None:
    plain = parse_query(dns.message.make_query("a.b", "A", use_edns=False).to_wire())
    small = parse_query(dns.message.make_query("a.b", "A", use_edns=0, payload=100).to_wire())
    large = parse_query(dns.message.make_query("a.b", "A", use_edns=0, payload=4096).to_wire())
    assert plain and small and large
    assert [udp_limit(query) for query in (plain, small, large)] == [512, 512, 1232]
    assert dns.message.from_wire(assemble(plain, Body(0, 0, 0, b""), 0, 512)).edns == -1


def test_client_addresses() -> None:
    assert client_of("10.1.0.1") == Client(4, 0x0A010001, 32)
    assert client_of("::ffff:10.1.0.1") == Client(4, 0x0A010001, 32)
    assert client_of("fe80::1%lo") == Client(6, 0xFE80 << 112 | 1, 128)
