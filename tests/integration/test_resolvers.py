"""Resolvers of other people in front of the listener: what their clients get of meshd's answers."""

import secrets
from collections.abc import Iterator

import dns.flags
import dns.query
import dns.rcode
import dns.rdatatype
import pytest

from tests.integration.judge import ASKERS, NAME, wanted
from tests.integration.ways import Ways
from tests.servers.fronts import Front
from tests.servers.install import find
from tests.servers.processes import Meshd, wait_until
from tests.servers.queries import Asker, addresses
from tests.servers.resolvers import RESOLVERS

pytestmark = pytest.mark.integration

# What each does with the order of addresses; those that tell meshd who asks.
ORDER = {
    "bind": "sorted",
    "recursor": "shuffled",
    "knot": "sorted, once it is in the cache",
    "dnsmasq": "kept",
}
KNOW_THEIR_CLIENTS = ("recursor", "dnsmasq")
EU = Asker("127.0.1.9")


@pytest.fixture(scope="module", params=list(ORDER))
def resolver(
    request: pytest.FixtureRequest, ways: Ways, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Front]:
    """One of them, running."""

    program, make = RESOLVERS[request.param]
    if not find(program):
        pytest.skip(f"{program} is not installed here")
    made = make(tmp_path_factory.mktemp(request.param), ways.meshd.dns_port)
    try:
        made.start_ready()
        wait_until("it resolves", lambda: bool(addresses(EU.ask(made.port, NAME))))
        yield made
    finally:
        made.stop()


def due(meshd: Meshd, resolver: Front, asker: Asker = EU) -> list[str]:
    """The list of a client, or that of the resolver where it says nothing of clients."""
    told = asker if resolver.name in KNOW_THEIR_CLIENTS else Asker("127.0.0.1")
    return wanted(meshd, told)["A"]


def test_addresses(resolver: Front, ways: Ways) -> None:
    """By UDP and TCP, with EDNS and without, never cut short, TTLs within meshd's."""
    expected = sorted(due(ways.meshd, resolver))
    for tcp in (False, True):
        for kind in ("A", "AAAA"):
            reply = EU.ask(resolver.port, NAME, kind, tcp=tcp)
            assert len(addresses(reply)) == 4
            assert not reply.flags & dns.flags.TC
            assert 0 < reply.answer[0].ttl <= 60
            assert kind == "AAAA" or sorted(addresses(reply)) == expected
    for name, kind in ((NAME, "A"), (NAME, "AAAA"), (f"_http._tcp.{NAME}", "SRV")):
        query = EU.query(name, kind, edns=False)
        query.flags |= dns.flags.RD
        reply = dns.query.udp(query, "127.0.0.1", port=resolver.port, source=EU.source, timeout=3)
        assert not reply.flags & dns.flags.TC
        assert reply.answer


def test_a_name_with_addresses_of_one_family(resolver: Front) -> None:
    """AAAA first, A first: NODATA, never NXDOMAIN, and the addresses stay."""
    for kinds in (("AAAA", "A"), ("A", "AAAA", "A")):
        name = f"{secrets.token_hex(4)}.cold.mesh.internal"
        for kind in kinds:
            reply = EU.ask(resolver.port, name, kind)
            assert reply.rcode() == dns.rcode.NOERROR
            assert bool(addresses(reply)) == (kind == "A")


def test_an_empty_name_above_one_that_is_there(resolver: Front) -> None:
    """RFC 8020: an NXDOMAIN here would be one for all below."""
    for _ in range(2):
        reply = EU.ask(resolver.port, "deep.mesh.internal")
        assert (reply.rcode(), addresses(reply)) == (dns.rcode.NOERROR, [])
        assert addresses(EU.ask(resolver.port, "only.deep.mesh.internal")) == ["192.0.2.7"]


def test_names_that_are_not_there(resolver: Front) -> None:
    """And what is above them, and beside them, stays."""
    for name in ("none.mesh.internal", "a.b.none.mesh.internal", "x.only.deep.mesh.internal"):
        assert EU.ask(resolver.port, name).rcode() == dns.rcode.NXDOMAIN
    assert addresses(EU.ask(resolver.port, "only.deep.mesh.internal")) == ["192.0.2.7"]
    assert addresses(EU.ask(resolver.port, NAME))


def test_any_case(resolver: Front) -> None:
    reply = EU.ask(resolver.port, "ApI.mEsH.iNtErNaL")
    assert len(addresses(reply)) == 4
    assert str(reply.question[0].name) == "ApI.mEsH.iNtErNaL."


def test_srv_and_its_targets(resolver: Front, ways: Ways) -> None:
    reply = EU.ask(resolver.port, f"_http._tcp.{NAME}", "SRV")
    first = [rdata for rdata in reply.answer[0] if rdata.priority == 10]
    found = [addresses(EU.ask(resolver.port, str(rdata.target)))[0] for rdata in first]
    assert sorted(found) == sorted(due(ways.meshd, resolver))


def test_https(resolver: Front, ways: Ways) -> None:
    """Order is explicit here, whatever is done to the records."""
    (records,) = EU.ask(resolver.port, NAME, "HTTPS").answer
    ordered = sorted(records, key=lambda rdata: rdata.priority)
    hints = [rdata.params[4].addresses[0] for rdata in ordered]
    assert hints == due(ways.meshd, resolver)


def test_order(resolver: Front, ways: Ways) -> None:
    """The set is meshd's, everywhere; the order is in few."""
    expected = due(ways.meshd, resolver)
    orders = {tuple(addresses(EU.ask(resolver.port, NAME))) for _ in range(30)}
    assert {tuple(sorted(order)) for order in orders} == {tuple(sorted(expected))}
    assert {
        "sorted": orders == {tuple(sorted(expected))},
        "shuffled": len(orders) > 3,
        "sorted, once it is in the cache": tuple(sorted(expected)) in orders,
        "kept": orders == {tuple(expected)},
    }[ORDER[resolver.name]]


def test_clients(resolver: Front, ways: Ways) -> None:
    """Each its own list through those that say who asks; all one list through the others."""
    sources = [asker for asker in ASKERS.values() if not asker.ecs]
    for asker in sources * 2:
        found = sorted(addresses(asker.ask(resolver.port, NAME)))
        assert found == sorted(due(ways.meshd, resolver, asker))
    told = {tuple(sorted(due(ways.meshd, resolver, asker))) for asker in sources}
    assert (len(told) > 1) == (resolver.name in KNOW_THEIR_CLIENTS)


def test_types_that_nobody_has(resolver: Front) -> None:
    for kind in ("MX", "TYPE666"):
        reply = EU.ask(resolver.port, NAME, kind)
        assert (reply.rcode(), reply.answer) == (dns.rcode.NOERROR, [])
        assert [rrset.rdtype for rrset in reply.authority] == [dns.rdatatype.SOA]
