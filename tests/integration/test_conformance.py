"""One kit for every way in: DNS as the RFCs want it, and each client its own answer.

C1-C36 are the checklist's numbers, K1-K15 those of the tests for client-correctness; EXCEPTIONS
says where a server in front of meshd does it in its own way. Expected lists come from the core's
Resolve over gRPC: another way to the same answer.

Not here: C2, C3, C26 (meshd has no aliases and no delegations), C4 and C6 (wire and model tests),
C17 and C23 (not offered), C22 (no TTL outlives a fault: test_faults), C31 and C32 (about zones that
meshd was not given), C35 (tests of the core's ranking), K13 (meshd does not sign).
"""

import secrets
import socket
import struct
from collections.abc import Mapping

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.query
import dns.rcode
import dns.rdatatype
import pytest

from tests.integration.judge import (
    ASKERS,
    NAME,
    Expected,
    complaint,
    complaints,
    expected_of,
    storm,
    wanted,
)
from tests.integration.ways import ELSEWHERE, NEEDED, Way, Ways
from tests.servers.queries import Asker, addresses, scope

pytestmark = pytest.mark.integration

EU, US = ASKERS["source eu"], ASKERS["source us"]
UNBOUNDS = ("unbound module", "unbound subnetcache", "unbound, powerdns")
REFUSALS = (dns.rcode.REFUSED, dns.rcode.NOTIMP, dns.rcode.NOTAUTH, dns.rcode.FORMERR)


Reasons = Mapping[tuple[str, ...], str]


def each_way(never: Reasons | None = None, at_times: Reasons | None = None) -> pytest.MarkDecorator:
    """Run a test through every way in, but for exceptions; one of `never` must really be one."""
    params = []
    for name in NEEDED:
        marks = [
            pytest.mark.xfail(reason=why, strict=exceptions is never)
            for exceptions in (never, at_times)
            for names, why in (exceptions or {}).items()
            if name in names
        ]
        params.append(pytest.param(name, marks=marks))
    return pytest.mark.parametrize("way", params, indirect=True)


@pytest.fixture(scope="module")
def expected(ways: Ways) -> Expected:
    """What each asker should get."""
    return expected_of(ways.meshd)


def raw(way: Way, packet: bytes, source: str = "127.0.1.9") -> bytes | None:
    """The reply to any packet; None for silence."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((source, 0))
        sock.settimeout(0.7)
        sock.sendto(packet, ("127.0.0.1", way.port))
        try:
            return sock.recv(65535)
        except TimeoutError:
            return None


def exchange(way: Way, query: dns.message.Message, *, tcp: bool = False) -> dns.message.Message:
    """The reply to a query made by hand."""
    ask = dns.query.tcp if tcp else dns.query.udp
    return ask(query, "127.0.0.1", port=way.port, source="127.0.1.9", timeout=3)


# Each client its own answer.


@each_way()
@pytest.mark.parametrize("who", list(ASKERS))
def test_own_list(way: Way, expected: Expected, who: str) -> None:
    """K1, K4, C19: types, transports and caches change nothing."""
    for kind in ("A", "AAAA", "A"):
        for tcp in (False, True):
            assert complaint(way.port, expected, who, kind, tcp=tcp) == ""


@each_way()
def test_clients_by_turns(way: Way, expected: Expected) -> None:
    """K1, K2, K10."""
    assert complaints(way.port, expected) == []


@each_way()
def test_another_client_first_changes_nothing(way: Way, expected: Expected) -> None:
    """K1, K2: by turns and with caches primed by one, with and without EDNS, with DO."""
    for edns, dnssec in ((True, False), (False, False), (True, True)):
        for who in ("source eu", "source us", "source eu", "source eu", "source us"):
            query = ASKERS[who].query(NAME, edns=edns)
            if dnssec:
                query.want_dnssec(True)
            reply = dns.query.udp(
                query, "127.0.0.1", port=way.port, source=ASKERS[who].source, timeout=3
            )
            assert addresses(reply) == expected[who]["A"]


@each_way()
def test_interleaved_clients_never_see_each_other(way: Way, expected: Expected) -> None:
    """K1, K4: 4 threads of 200 queries of nine clients."""
    work = [(who, "AAAA" if n % 3 == 0 else "A") for n, who in enumerate([*ASKERS] * 23)][:200]
    turned = [work[offset:] + work[:offset] for offset in range(4)]
    assert storm(way.port, expected, turned) == []


@each_way()
@pytest.mark.parametrize("pair", [("source eu", "source us"), ("ecs eu", "ecs us")])
@pytest.mark.parametrize("name", [NAME, "{}.cold.mesh.internal"])
def test_a_thousand_identical_queries_at_once(
    way: Way, ways: Ways, expected: Expected, pair: tuple[str, str], name: str
) -> None:
    """K3: two ranges, one question, four threads; a name that is in all caches, and one in none."""
    name = name.format(secrets.token_hex(4))
    if name != NAME:
        expected = {who: wanted(ways.meshd, ASKERS[who], name) for who in pair}
        assert expected[pair[0]] != expected[pair[1]]
    work = [(who, "A") for _ in range(125) for who in pair]
    assert storm(way.port, expected, [work, work[::-1]] * 2, name) == []


@each_way()
def test_order_stays(way: Way) -> None:
    """K10: twenty askings, one order."""
    for who in ("source eu", "ecs us"):
        orders = {tuple(addresses(ASKERS[who].ask(way.port, NAME))) for _ in range(20)}
        assert len(orders) == 1


@each_way()
def test_a_name_that_is_a_whole_zone(way: Way) -> None:
    """K6: the apex has rows of clients, and its SOA asked first changes nothing."""
    assert EU.ask(way.port, "api.myservice.com", "SOA").answer
    for _ in range(2):
        assert addresses(EU.ask(way.port, "api.myservice.com"))[0] == "192.0.2.31"
        assert addresses(US.ask(way.port, "api.myservice.com"))[0] == "192.0.2.32"


@each_way()
def test_questions_without_a_client_come_first(way: Way, expected: Expected) -> None:
    """K7: /0 is answered neutrally, and nobody else gets that."""
    for name in (NAME, "coarse.mesh.internal"):
        reply = Asker("127.0.1.9", "0.0.0.0/0").ask(way.port, name)
        assert addresses(reply)
    for who in ("source eu", "source us", "ecs eu"):
        assert addresses(ASKERS[who].ask(way.port, NAME)) == expected[who]["A"]


# Client subnets (RFC 7871).


@each_way()
@pytest.mark.parametrize(
    ("name", "ecs", "length"),
    [
        (NAME, "10.1.2.0/24", 24),
        (NAME, "10.1.3.3/32", 32),
        (NAME, "10.2.0.0/16", 16),
        # The key is cut to /16, but a /24 inside is another Pop: 10.1.0.0/22 is the widest
        # prefix around the client without it.
        ("coarse.mesh.internal", "10.1.2.0/24", 22),
        ("coarse.mesh.internal", "10.1.200.0/24", 17),
        ("coarse.mesh.internal", "10.1.7.0/24", 24),
        ("coarse.mesh.internal", "10.2.3.0/24", 16),
        (NAME, "2001:db8:2::/56", 56),
        ("coarse.mesh.internal", "2001:db8:2::/56", 48),
    ],
)
def test_scopes(way: Way, name: str, ecs: str, length: int) -> None:
    """C18: neither wider nor narrower than the answer holds."""
    for _ in range(2):
        reply = Asker("127.0.1.9", ecs).ask(way.port, name)
        assert addresses(reply)
        assert scope(reply) == length


@each_way(
    {("powerdns", "dnsdist, powerdns"): "1, the least that keeps rows out of its cache"},
    {UNBOUNDS[1:]: "Unbound may take what it holds for any prefix"},
)
def test_the_scope_for_who_will_not_be_known(way: Way) -> None:
    """C18: /0 in, 0 out."""
    assert scope(Asker("127.0.1.9", "0.0.0.0/0").ask(way.port, NAME)) in (0, None)


@each_way()
def test_all_of_a_scope_get_one_answer(way: Way) -> None:
    """C18: 10.1.0.0/22 was told as the scope."""
    told = {
        tuple(
            addresses(
                Asker("127.0.1.9", f"10.1.{third}.0/24").ask(way.port, "coarse.mesh.internal")
            )
        )
        for third in range(4)
    }
    assert len(told) == 1


@each_way()
def test_no_subnet_in_none_out(way: Way) -> None:
    """C18."""
    for _ in range(2):
        assert scope(EU.ask(way.port, NAME)) is None


MALFORMED_SUBNETS = [
    b"\0\1\x18\0\x0a\1\2\3",
    b"\0\1\x18\0\x0a\1",
    b"\0\1\x21\0\x0a\1\2\3\0",
    b"\0\1\x10\0\x0a\1\2",
]


@each_way(
    {
        ("powerdns", "dnsdist, powerdns"): "PowerDNS ignores it",
        ("unbound module",): "Unbound reads it leniently",
    }
)
def test_malformed_subnets(way: Way) -> None:
    """C18: FORMERR."""
    for data in MALFORMED_SUBNETS:
        option = dns.edns.GenericOption(dns.edns.OptionType.ECS, data)
        query = dns.message.make_query(NAME, "A", use_edns=0, options=[option])
        reply = raw(way, query.to_wire())
        assert reply is not None
        assert reply[3] & 0xF == dns.rcode.FORMERR


# What is not there.


@each_way()
@pytest.mark.parametrize(
    ("name", "kind", "rcode"),
    [
        (NAME, "MX", "NOERROR"),
        (NAME, "TYPE666", "NOERROR"),
        ("only.deep.mesh.internal", "AAAA", "NOERROR"),
        ("only.deep.mesh.internal", "HTTPS", "NOERROR"),
        ("deep.mesh.internal", "A", "NOERROR"),
        ("_tcp.api.mesh.internal", "A", "NOERROR"),
        ("instance.api.mesh.internal", "TXT", "NOERROR"),
        ("apps.mesh.internal", "A", "NOERROR"),
        ("none.mesh.internal", "A", "NXDOMAIN"),
        ("x.none.mesh.internal", "A", "NXDOMAIN"),
        ("x.api-eu-1.instance.api.mesh.internal", "A", "NXDOMAIN"),
    ],
)
def test_negative_answers_are_the_same_for_everybody(
    way: Way, name: str, kind: str, rcode: str
) -> None:
    """C8, C9, C10, C12, C25, K5."""
    for asker in ASKERS.values():
        reply = asker.ask(way.port, name, kind)
        assert dns.rcode.to_text(reply.rcode()) == rcode
        assert not reply.answer
        (soa,) = reply.authority
        assert (soa.rdtype, str(soa.name)) == (dns.rdatatype.SOA, "mesh.internal.")
        # A resolver may have kept it for a while.
        assert soa.ttl <= 5 if way.is_resolver else soa.ttl == 5


@each_way()
def test_no_type_makes_an_existing_name_vanish(way: Way) -> None:
    """C9: names of all kinds; not DS, which is asked of the parent, and not RRSIG (RFC 8482 7)."""
    names = (NAME, "mesh.internal", "deep.mesh.internal", "api-eu-1.instance.api.mesh.internal")
    for name in names:
        for kind in (1, 2, 5, 6, 12, 13, 15, 16, 28, 33, 35, 39, 47, 48, 52, 64, 65, 257):
            reply = EU.ask(
                way.port, name, dns.rdatatype.to_text(dns.rdatatype.RdataType.make(kind))
            )
            assert reply.rcode() in (dns.rcode.NOERROR,), (name, kind)


# Records.


@each_way()
def test_records_of_all_kinds(way: Way) -> None:
    """C5, C11, C13, C25: SRV, HTTPS, TXT tell of the addresses that A has."""
    a_set = addresses(EU.ask(way.port, NAME))
    srv = EU.ask(way.port, f"_http._tcp.{NAME}", "SRV")
    first = [rdata for rdata in srv.answer[0] if rdata.priority == 10]
    assert len(first) == 4
    assert {rdata.port for rdata in srv.answer[0]} == {8080}
    targets = [addresses(EU.ask(way.port, str(rdata.target)))[0] for rdata in first]
    assert sorted(targets) == sorted(a_set)
    https = EU.ask(way.port, NAME, "HTTPS")
    hints = [
        rdata.params[4].addresses[0] for rdata in sorted(https.answer[0], key=lambda r: r.priority)
    ]
    assert hints == a_set
    (text,) = EU.ask(way.port, NAME, "TXT").answer[0]
    assert [line.split()[4] for line in (s.decode() for s in text.strings)] == [
        f"{address}:8080" for address in a_set
    ]
    assert addresses(EU.ask(way.port, "anything.apps.mesh.internal")) == ["192.0.2.8"]
    assert len(addresses(EU.ask(way.port, "1-3.version.api.mesh.internal"))) == 1
    in_ap = addresses(EU.ask(way.port, "ap.pop.api.mesh.internal"))
    assert all(address.startswith("10.3.") for address in in_ap)


@each_way(
    {
        (
            "unbound module",
            "unbound subnetcache",
            "unbound, powerdns",
        ): "Unbound's minimal-responses leaves additional addresses out"
    }
)
def test_targets_come_with_their_addresses(way: Way) -> None:
    """C11."""
    assert EU.ask(way.port, f"_http._tcp.{NAME}", "SRV").additional


@each_way()
def test_zone_records(way: Way) -> None:
    """C30."""
    soa = EU.ask(way.port, "mesh.internal", "SOA").answer[0][0]
    assert (str(soa.mname), soa.minimum) == ("ns1.mesh.internal.", 5)
    assert soa.serial >= 1
    (server,) = EU.ask(way.port, "mesh.internal", "NS").answer[0]
    assert addresses(EU.ask(way.port, str(server.target))) == ["127.0.0.1"]


@each_way()
def test_names_that_are_not_meshds(way: Way) -> None:
    """C29: an authority refuses them; for a resolver or dnsdist they are what they were."""
    for name, address in ELSEWHERE.items():
        reply = EU.ask(way.port, name)
        if way.name in ("listener", "powerdns"):
            assert reply.rcode() == dns.rcode.REFUSED
            assert not (reply.answer or reply.authority)
        else:
            assert addresses(reply) == [address]


# Messages.


@each_way()
def test_header_and_question(way: Way) -> None:
    """C1, C13: ID, RD and the very bytes of the question come back."""
    for cased in ("aPi.MeSh.InTeRnAl", "API.MESH.INTERNAL", "api.mesh.internal"):
        for recurse in (True, False):
            query = EU.query(cased)
            query.flags = dns.flags.RD if recurse else 0
            packet = query.to_wire()
            reply = raw(way, packet)
            assert reply is not None
            end = packet.index(b"\0", 12) + 5
            assert reply[:2] == packet[:2]
            assert reply[12:end] == packet[12:end]
            message = dns.message.from_wire(reply)
            assert message.rcode() == dns.rcode.NOERROR
            assert bool(message.flags & dns.flags.RD) == recurse
            assert message.flags & (dns.flags.RA if way.is_resolver else dns.flags.AA)
            assert str(message.answer[0].name).rstrip(".") == cased


ODD_LABELS = (b"a b", b"x.y", b'q"t', b"back\\s", b"\0\xff\7", b"it's", b"?", b"\xc3\xbc", b"a@b")


@each_way(
    {
        (
            "powerdns",
            "unbound, powerdns",
            "dnsdist, powerdns",
        ): "PowerDNS answers SERVFAIL to some without asking meshd"
    }
)
def test_labels_of_any_octets(way: Way) -> None:
    """C1: a label may hold any octet (RFC 2181 11)."""
    for label in ODD_LABELS:
        name = dns.name.Name((label, b"apps", b"mesh", b"internal", b""))
        reply = exchange(way, dns.message.make_query(name, "A", use_edns=0))
        assert addresses(reply) == ["192.0.2.8"], label
        assert reply.answer[0].name == name


@each_way()
def test_edns(way: Way) -> None:
    """C14: OPT if and only if asked, options that nobody knows are ignored, flags come back 0."""
    assert EU.ask(way.port, NAME).edns == 0
    plain = dns.query.udp(
        EU.query(NAME, edns=False), "127.0.0.1", port=way.port, source=EU.source, timeout=3
    )
    assert plain.edns == -1
    numbers = map(dns.edns.OptionType.make, (65001, 10))
    odd: list[dns.edns.Option] = [dns.edns.GenericOption(each, b"12345678") for each in numbers]
    query = dns.message.make_query(NAME, "A", use_edns=0, ednsflags=0x7FFF, options=odd)
    reply = exchange(way, query)
    assert addresses(reply) == addresses(plain)
    assert not reply.ednsflags & 0x7FFF


@each_way()
def test_unknown_edns_version(way: Way) -> None:
    """C14: BADVERS, in version 0."""
    reply = raw(way, dns.message.make_query(NAME, "A", use_edns=1).to_wire())
    assert reply is not None
    message = dns.message.from_wire(reply)
    assert (message.rcode(), message.edns) == (dns.rcode.BADVERS, 0)


@each_way()
def test_truncation(way: Way) -> None:
    """C7, C15: what does not fit is asked for by TCP; no reply is longer than it may be."""
    for edns, size in ((False, 512), (True, 512)):
        query = dns.message.make_query("many.mesh.internal", "TXT", use_edns=0 if edns else False)
        if edns:
            query.use_edns(0, payload=size)
        reply = raw(way, query.to_wire())
        assert reply is not None
        assert len(reply) <= size
        assert dns.message.from_wire(reply).flags & dns.flags.TC
    whole = EU.ask(way.port, "many.mesh.internal", "TXT", tcp=True)
    assert len(whole.answer[0][0].strings) == 16
    assert not whole.flags & dns.flags.TC


@each_way()
def test_usual_answers_fit(way: Way) -> None:
    """C36: with the default max_answers nothing is truncated, not even without EDNS."""
    for name, kind in ((NAME, "A"), (NAME, "AAAA"), ("only.deep.mesh.internal", "A")):
        reply = raw(way, dns.message.make_query(name, kind, use_edns=False).to_wire())
        assert reply is not None
        assert len(reply) <= 512
        assert not dns.message.from_wire(reply).flags & dns.flags.TC


@each_way({("unbound, powerdns",): "Unbound follows PowerDNS's TC to TCP, and shows all it got"})
def test_any_is_minimal(way: Way) -> None:
    """C21: one RRset, or the way to TCP."""
    reply = EU.ask(way.port, NAME, "ANY")
    assert len(reply.answer) <= 1
    assert reply.answer or reply.flags & dns.flags.TC


@each_way()
def test_several_questions_a_connection(way: Way) -> None:
    """C16, C28: pipelined in one write, answered in any order."""
    packets = [dns.message.make_query(NAME, "A", id=number).to_wire() for number in range(1, 6)]
    with socket.create_connection(("127.0.0.1", way.port), 3, ("127.0.1.9", 0)) as sock:
        sock.sendall(b"".join(struct.pack("!H", len(packet)) + packet for packet in packets))
        with sock.makefile("rb") as stream:
            found = set()
            for _ in packets:
                (size,) = struct.unpack("!H", stream.read(2))
                found.add(dns.message.from_wire(stream.read(size)).id)
    assert found == {1, 2, 3, 4, 5}


@each_way()
def test_transfers_and_updates_are_refused(way: Way) -> None:
    """C28."""
    transfer = dns.message.make_query("mesh.internal", "AXFR")
    assert exchange(way, transfer, tcp=True).rcode() in REFUSALS
    update = dns.message.make_query("mesh.internal", "SOA")
    update.set_opcode(dns.opcode.UPDATE)
    reply = raw(way, update.to_wire())
    assert reply is not None
    assert reply[3] & 0xF in REFUSALS


@each_way({("powerdns", "dnsdist, powerdns"): "PowerDNS drops opcodes that it does not know"})
def test_other_opcodes(way: Way) -> None:
    """C24: NOTIMP, or refused; never silence, never an answer."""
    for opcode in (1, 2, 3, 6, 15):
        packet = bytearray(dns.message.make_query(NAME, "A").to_wire())
        packet[2] = opcode << 3
        reply = raw(way, bytes(packet))
        assert reply is not None
        assert reply[3] & 0xF in (dns.rcode.NOTIMP, dns.rcode.REFUSED, dns.rcode.FORMERR)


@each_way({("powerdns", "dnsdist, powerdns"): "PowerDNS drops a packet of two questions"})
def test_not_one_question(way: Way) -> None:
    """C27: FORMERR."""
    packet = dns.message.make_query(NAME, "A").to_wire()
    two = packet[:4] + b"\0\2" + packet[6:] + packet[12:]
    reply = raw(way, two)
    assert reply is not None
    assert reply[3] & 0xF in (dns.rcode.FORMERR, dns.rcode.NOTIMP)


@each_way()
def test_other_classes(way: Way) -> None:
    """C12, C33: no addresses, and no version, in other classes."""
    for name, kind, klass in ((NAME, "A", "HS"), ("version.bind", "TXT", "CH")):
        query = dns.message.make_query(name, kind, klass)
        reply = raw(way, query.to_wire())
        if reply is not None:
            assert b"owerDNS" not in reply
            assert b"\x0a\1\0" not in reply[12 + len(name) :]


@each_way()
def test_what_is_no_question_gets_no_reply(way: Way) -> None:
    """C34: answers and scraps are met with silence (CVE-2024-2169)."""
    packet = bytearray(dns.message.make_query(NAME, "A").to_wire())
    packet[2] |= 0x80
    assert raw(way, bytes(packet)) is None
    assert raw(way, b"short") is None
