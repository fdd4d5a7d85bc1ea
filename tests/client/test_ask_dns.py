"""What is read out of DNS: an answerer's own answers, and those of others."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rrset
import pytest

from meshd.client.ask_dns import DnsLookup
from meshd.client.endpoint import Endpoint
from meshd.client.lookup import Answer, Denied, Sought, Unresolved
from meshd.core.errors import Invalid
from tests.client.names import NAME, Place, answering
from tests.servers.processes import free_port

EU = [Place(f"api-eu-{n}", f"127.0.1.{n}", 8000 + n) for n in (1, 2, 3)]
FAR = Place("api-us-1", "127.0.2.1", 8011, "us")
DUAL = Place("api-eu-4", '[127.0.1.4, "::1"]', 8004)


async def ask(*servers: str, name: str = NAME, port: str | int = "http") -> Answer:
    return await DnsLookup(Sought(name, port), servers)()


async def test_srv_has_all_of_it() -> None:
    heavy = Place("api-eu-2", "127.0.1.2", 8002, capacity=2.0)
    async with answering(EU[0], heavy, FAR, DUAL) as names:
        answer = await ask(names.address)
        assert names.asked == [f"_http._tcp.{NAME}. IN SRV"], "addresses come along"
    found = {endpoint.instance: endpoint for endpoint in answer.endpoints}
    assert found.keys() == {"api-eu-1", "api-eu-2", "api-eu-4", "api-us-1"}
    assert answer.ttl_s == 1.0
    assert [found[name].tier for name in sorted(found)] == [0, 0, 0, 1]
    assert answer.endpoints[0].instance == "api-eu-2", "the heaviest of the first tier"
    assert found["api-eu-1"].weight == pytest.approx(found["api-eu-2"].weight / 2, rel=0.01)
    # 8 bits of an address family each, and of both one endpoint.
    assert (found["api-eu-4"].address, found["api-eu-4"].others) == ("127.0.1.4", ("::1",))
    assert found["api-us-1"] == Endpoint(
        "api-us-1", "127.0.2.1", 8011, NAME, 1, found["api-us-1"].weight
    )


async def test_a_number_of_a_port_means_plain_addresses() -> None:
    async with answering(*EU[:2], DUAL) as names:
        answer = await ask(names.address, port=8080)
    assert {each.address for each in answer.endpoints if each.tier == 0} == {
        "127.0.1.1",
        "127.0.1.2",
        "127.0.1.4",
    }
    assert [each.key for each in answer.endpoints if each.tier == 1] == ["[::1]:8080"]
    assert {each.port for each in answer.endpoints} == {8080}


async def test_a_port_that_is_no_srv_is_the_well_known_one() -> None:
    async with answering(*EU) as names:
        answer = await ask(names.address, port="https")
        assert {each.port for each in answer.endpoints} == {443}
        with pytest.raises(Denied, match="_amqp-mgmt"):
            await ask(names.address, port="amqp-mgmt")


async def test_who_had_srv_does_not_fall_back() -> None:
    """A port that was renamed is no reason to call another one."""
    zone = {**ZONE, ("a.b.", "A"): ["127.0.0.1"]}
    async with served(from_zone(zone, along=True)) as address:
        lookup = DnsLookup(Sought("a.b", "http"), [address])
        assert [each.port for each in (await lookup()).endpoints] == [81, 82]
        del zone["_http._tcp.a.b.", "SRV"]
        with pytest.raises(Denied):
            await lookup()
        assert [each.port for each in (await ask(address, name="a.b")).endpoints] == [80]


async def test_what_does_not_fit_is_asked_over_tcp() -> None:
    async with answering(*EU) as names:
        names.is_truncating = True
        assert len((await ask(names.address)).endpoints) == 3


async def test_a_name_that_is_not_there() -> None:
    async with answering(*EU) as names:
        with pytest.raises(Denied, match="NXDOMAIN"):
            await ask(names.address, name="none.mesh.internal")


@pytest.mark.parametrize("rcode", [dns.rcode.SERVFAIL, dns.rcode.REFUSED, dns.rcode.FORMERR])
async def test_failures_of_a_server_say_nothing_of_a_name(rcode: dns.rcode.Rcode) -> None:
    async with answering(*EU) as names, answering(*EU) as good:
        names.rcode = rcode
        with pytest.raises(Unresolved, match=dns.rcode.to_text(rcode)):
            await ask(names.address)
        assert len((await ask(names.address, good.address)).endpoints) == 3


async def test_servers_that_are_away_are_passed_by() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        quiet = f"127.0.0.1:{silent.getsockname()[1]}"
        async with answering(*EU) as names:
            began = time.monotonic()
            closed = f"127.0.0.1:{free_port()}"
            assert len((await ask(closed, quiet, names.address)).endpoints) == 3
            assert time.monotonic() - began >= 1.0
        with pytest.raises(Unresolved, match=r"timed out"):
            await ask(quiet)


@pytest.mark.parametrize(
    ("servers", "wrong"),
    [(["127.0.0.1:0", "ns1.example", "::1"], 2), (["127.0.0.1:70000", "[::1]:x"], 2)],
)
def test_wrong_servers_are_told_at_once(servers: list[str], wrong: int) -> None:
    with pytest.raises(Invalid) as refused:
        DnsLookup(Sought(NAME, "http"), servers)
    assert len(refused.value.faults) == wrong


def test_wrong_names_are_told_at_once() -> None:
    with pytest.raises(Invalid, match="is no DNS name"):
        DnsLookup(Sought("a" * 64 + ".b", "http"))


Answering = Callable[[dns.message.Message], dns.message.Message | None]


class _Served(asyncio.DatagramProtocol):
    def __init__(self, answer: Answering) -> None:
        self._answer = answer
        self._transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, peer: tuple[str, int]) -> None:
        reply = self._answer(dns.message.from_wire(data))
        if reply is not None:
            self._transport.sendto(reply.to_wire(), peer)


@asynccontextmanager
async def served(answer: Answering) -> AsyncIterator[str]:
    """A server of somebody else, that says what it is told to."""
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(
        lambda: _Served(answer), local_addr=("127.0.0.1", 0)
    )
    try:
        yield f"127.0.0.1:{transport.get_extra_info('sockname')[1]}"
    finally:
        transport.close()


def from_zone(zone: dict[tuple[str, str], list[str]], *, along: bool = False) -> Answering:
    """Answers out of a table: NODATA for what is not in it; `along`: one address with an SRV."""

    def answer(query: dns.message.Message) -> dns.message.Message:
        reply = dns.message.make_response(query)
        name, kind = query.question[0].name.to_text(), query.question[0].rdtype.name
        if (name, "CNAME") in zone:
            alias = dns.rrset.from_text(name, 5, "IN", "CNAME", *zone[name, "CNAME"])
            reply.answer.append(alias)
            name = zone[name, "CNAME"][0]
        if (name, kind) in zone:
            # One by one: dnspython shuffles what it writes of one RRset.
            for text in zone[name, kind]:
                reply.answer.append(dns.rrset.from_text(name, 60, "IN", kind, text))
        if kind == "SRV" and along:
            reply.additional.append(dns.rrset.from_text("one.b.", 60, "IN", "A", "127.0.0.9"))
        return reply

    return answer


ZONE = {
    ("_http._tcp.a.b.", "SRV"): ["0 3 81 one.b.", "0 0 82 two.b.", "5 1 83 three.b."],
    ("two.b.", "A"): ["127.0.0.2"],
    ("two.b.", "AAAA"): ["::2"],
}


async def test_missing_addresses_are_asked_for() -> None:
    """As Consul or CoreDNS answer: not every target's address comes along, nor is there one."""
    async with served(from_zone(ZONE, along=True)) as address:
        answer = await ask(address, name="a.b.")
    assert [(e.instance, e.address, e.others, e.port, e.weight) for e in answer.endpoints] == [
        ("one", "127.0.0.9", (), 81, 3),
        ("two", "127.0.0.2", ("::2",), 82, 1),
    ]


async def test_aliases_are_followed_and_the_least_ttl_counts() -> None:
    zone = {
        ("_http._tcp.www.b.", "CNAME"): ["_http._tcp.a.b."],
        **ZONE,
    }
    async with served(from_zone(zone, along=True)) as address:
        answer = await ask(address, name="www.b")
    assert (len(answer.endpoints), answer.ttl_s) == (2, 5.0)


async def test_no_address_of_any_target_says_nothing_of_the_service() -> None:
    only_srv = {("_http._tcp.a.b.", "SRV"): ["0 3 81 one.b."]}
    async with served(from_zone(only_srv)) as address:
        with pytest.raises(Unresolved, match="no address of a target"):
            await ask(address, name="a.b")


async def test_a_service_that_is_decidedly_not_there() -> None:
    async with served(from_zone({("_http._tcp.a.b.", "SRV"): ["0 0 0 ."]})) as address:
        with pytest.raises(Denied):
            await ask(address, name="a.b")


async def test_order_of_plain_addresses_is_kept() -> None:
    addresses = ["127.0.0.9", "127.0.0.3", "127.0.0.5"]
    async with served(from_zone({("a.b.", "A"): addresses})) as address:
        answer = await ask(address, name="a.b", port=80)
    assert [each.address for each in answer.endpoints] == addresses
    assert {(each.tier, each.weight) for each in answer.endpoints} == {(0, 1)}


async def test_one_family_is_enough_when_the_other_is_not_answered() -> None:
    """Some servers never answer AAAA."""
    good = from_zone({("a.b.", "A"): ["127.0.0.9"]})

    def answer(query: dns.message.Message) -> dns.message.Message | None:
        return None if query.question[0].rdtype.name == "AAAA" else good(query)

    async with served(answer) as address:
        found = await ask(address, name="a.b", port=80)
    assert [each.address for each in found.endpoints] == ["127.0.0.9"]
