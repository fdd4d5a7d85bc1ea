"""Each client gets its own ordered list, through PowerDNS and from the listener.

The expected lists come from the core's Resolve, over gRPC: a third way to the same answer.
"""

import threading
from collections.abc import Mapping

import dns.exception
import dns.rcode
import dns.rdatatype
import pytest

from meshd.v1 import resolver_pb2
from tests.servers.fronts import PowerDns
from tests.servers.processes import Meshd
from tests.servers.queries import Asker, addresses, scope

pytestmark = pytest.mark.integration

NAME = "api.mesh.internal"
ASKERS = {
    "source eu": Asker("127.0.1.9"),
    "source us": Asker("127.0.2.9"),
    "source ap, 1.3": Asker("127.0.3.9"),
    "source nowhere": Asker("127.0.9.9"),
    "ecs eu": Asker("127.0.2.9", "10.1.2.0/24"),
    "ecs us": Asker("127.0.1.9", "10.2.2.0/24"),
    "ecs ap inside eu": Asker("127.0.1.9", "10.1.7.0/24"),
    "ecs eu /32": Asker("127.0.2.9", "10.1.2.3/32"),
    "ecs us ipv6": Asker("127.0.1.9", "2001:db8:2::/56"),
}


def wanted(meshd: Meshd, asker: Asker, name: str = NAME) -> dict[str, list[str]]:
    """Type -> the addresses that this client should get, in order."""
    request = resolver_pb2.ResolveRequest(name=name, client=asker.ecs or asker.source)
    with meshd.stubs() as (_, resolver, _):
        reply = resolver.Resolve(request, timeout=5)
    listed = [list(each.addresses) for each in reply.endpoints if each.in_set]
    flat = [address for held in listed for address in held]
    return {
        "A": [address for address in flat if ":" not in address],
        "AAAA": [address for address in flat if ":" in address],
    }


@pytest.fixture(scope="module")
def expected(meshd: Meshd) -> Mapping[str, dict[str, list[str]]]:
    """What each asker should get."""
    found = {name: wanted(meshd, asker) for name, asker in ASKERS.items()}
    assert all(len(lists["A"]) in (1, 4) for lists in found.values())
    assert len({tuple(lists["A"]) for lists in found.values()}) >= 6, "clients must differ"
    return found


def ports(meshd: Meshd, powerdns: PowerDns) -> dict[str, int]:
    return {"listener": meshd.dns_port, "powerdns": powerdns.port}


@pytest.mark.parametrize("way", ["listener", "powerdns"])
@pytest.mark.parametrize("who", list(ASKERS))
def test_own_list(
    meshd: Meshd,
    powerdns: PowerDns,
    expected: Mapping[str, dict[str, list[str]]],
    way: str,
    who: str,
) -> None:
    port, asker = ports(meshd, powerdns)[way], ASKERS[who]
    for kind in ("A", "AAAA", "A"):
        for tcp in (False, True):
            reply = asker.ask(port, NAME, kind, tcp=tcp)
            assert addresses(reply) == expected[who][kind]


@pytest.mark.parametrize("way", ["listener", "powerdns"])
def test_interleaved_clients_never_see_each_other(
    meshd: Meshd,
    powerdns: PowerDns,
    expected: Mapping[str, dict[str, list[str]]],
    way: str,
) -> None:
    """4 threads of 200 queries; every cache of PowerDNS as shipped."""
    port = ports(meshd, powerdns)[way]
    wrong: list[str] = []
    asked = [0]
    lock = threading.Lock()

    def work(offset: int) -> None:
        names = list(ASKERS)
        for number in range(200):
            who = names[(number + offset) % len(names)]
            kind = "AAAA" if number % 3 == 0 else "A"
            try:
                got = addresses(ASKERS[who].ask(port, NAME, kind))
            except dns.exception.Timeout:
                got = ["timeout"]
            with lock:
                asked[0] += 1
                if got != expected[who][kind]:
                    wrong.append(f"{who} {kind}: {got} instead of {expected[who][kind]}")

    threads = [threading.Thread(target=work, args=(offset,)) for offset in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert asked[0] == 800
    assert wrong == []


@pytest.mark.parametrize("way", ["listener", "powerdns"])
@pytest.mark.parametrize(
    ("name", "ecs", "length"),
    [
        (NAME, "10.1.2.0/24", 24),
        (NAME, "10.1.2.3/32", 32),
        (NAME, "10.2.0.0/16", 16),
        # The key is cut to /16, but a /24 inside is another pop: 10.1.0.0/22 is the widest
        # prefix around the client without it.
        ("coarse.mesh.internal", "10.1.2.0/24", 22),
        ("coarse.mesh.internal", "10.1.200.0/24", 17),
        ("coarse.mesh.internal", "10.1.7.0/24", 24),
        ("coarse.mesh.internal", "10.2.3.0/24", 16),
        (NAME, "2001:db8:2::/56", 56),
        ("coarse.mesh.internal", "2001:db8:2::/56", 48),
    ],
)
def test_scopes(
    meshd: Meshd, powerdns: PowerDns, way: str, name: str, ecs: str, length: int
) -> None:
    reply = Asker("127.0.1.9", ecs).ask(ports(meshd, powerdns)[way], name)
    assert addresses(reply)
    assert scope(reply) == length


def test_two_clients_in_one_scope_get_one_answer(meshd: Meshd) -> None:
    """Whatever 10.1.0.0/22 holds: the scope that was told is true."""
    told = {
        tuple(
            addresses(
                Asker("127.0.1.9", f"10.1.{third}.0/24").ask(meshd.dns_port, "coarse.mesh.internal")
            )
        )
        for third in range(4)
    }
    assert len(told) == 1


@pytest.mark.parametrize("way", ["listener", "powerdns"])
@pytest.mark.parametrize(
    ("name", "kind", "rcode"),
    [
        (NAME, "MX", "NOERROR"),
        ("only.deep.mesh.internal", "AAAA", "NOERROR"),
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
    meshd: Meshd, powerdns: PowerDns, way: str, name: str, kind: str, rcode: str
) -> None:
    port = ports(meshd, powerdns)[way]
    for asker in ASKERS.values():
        reply = asker.ask(port, name, kind)
        assert dns.rcode.to_text(reply.rcode()) == rcode
        assert not reply.answer
        (soa,) = reply.authority
        assert (soa.rdtype, str(soa.name), soa.ttl) == (dns.rdatatype.SOA, "mesh.internal.", 5)


@pytest.mark.parametrize("way", ["listener", "powerdns"])
def test_records_of_all_kinds(meshd: Meshd, powerdns: PowerDns, way: str) -> None:
    port, asker = ports(meshd, powerdns)[way], Asker("127.0.1.9")
    a_set = addresses(asker.ask(port, NAME))
    srv = asker.ask(port, f"_http._tcp.{NAME}", "SRV")
    first = [rdata for rdata in srv.answer[0] if rdata.priority == 10]
    assert len(first) == 4
    assert {rdata.port for rdata in srv.answer[0]} == {8080}
    targets = [addresses(asker.ask(port, str(rdata.target)))[0] for rdata in first]
    assert sorted(targets) == sorted(a_set)
    assert srv.additional
    https = asker.ask(port, NAME, "HTTPS")
    hints = [
        rdata.params[4].addresses[0] for rdata in sorted(https.answer[0], key=lambda r: r.priority)
    ]
    assert hints == a_set
    (text,) = asker.ask(port, NAME, "TXT").answer[0]
    assert [line.split()[4] for line in (s.decode() for s in text.strings)] == [
        f"{address}:8080" for address in a_set
    ]
    assert addresses(asker.ask(port, "anything.apps.mesh.internal")) == ["192.0.2.8"]
    assert addresses(asker.ask(port, "aPi.MeSh.iNtErNaL")) == a_set
    assert len(addresses(asker.ask(port, "1-3.version.api.mesh.internal"))) == 1
    assert all(
        x.startswith("10.3.") for x in addresses(asker.ask(port, "ap.pop.api.mesh.internal"))
    )


@pytest.mark.parametrize("way", ["listener", "powerdns"])
def test_zone_records(meshd: Meshd, powerdns: PowerDns, way: str) -> None:
    port, asker = ports(meshd, powerdns)[way], Asker("127.0.1.9")
    soa = asker.ask(port, "mesh.internal", "SOA").answer[0][0]
    assert (str(soa.mname), soa.minimum) == ("ns1.mesh.internal.", 5)
    assert soa.serial >= 1
    (server,) = asker.ask(port, "mesh.internal", "NS").answer[0]
    assert addresses(asker.ask(port, str(server.target))) == ["127.0.0.1"]
    assert asker.ask(port, "www.example.com").rcode() == dns.rcode.REFUSED


@pytest.mark.parametrize("way", ["listener", "powerdns"])
def test_order_stays(meshd: Meshd, powerdns: PowerDns, way: str) -> None:
    """PowerDNS shuffles unless told not to: twenty askings, one order."""
    port = ports(meshd, powerdns)[way]
    for who in ("source eu", "ecs us"):
        assert len({tuple(addresses(ASKERS[who].ask(port, NAME))) for _ in range(20)}) == 1
