"""Where probes may go, by address and port, and which faults a change has for it."""

from ipaddress import IPv4Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.core.errors import Invalid
from meshd.core.guard import STRICT, Guard, probe_at, probe_refusal
from meshd.core.model import Check, Instance, Port, Service
from meshd.core.plan import plan_edits
from meshd.core.selector import Version
from meshd.core.topology import Change, Kind
from tests.samples import snapshot

SERVICE = Service(
    "web",
    "web.mesh.internal.",
    (Port("dns", 53, "udp"), Port("http", 8080), Port("admin", 9000)),
    check=Check("http"),
)


def at(*addresses: str, ports: tuple[tuple[str, int], ...] = ()) -> Instance:
    return Instance("web-1", "web", Version("1.0"), "eu", tuple(map(ip_address, addresses)), ports)


def refusal(guard: Guard, address: str, port: int = 80) -> str:
    return guard.refusal(ip_address(address), port, {80, 7700})


CLOSED = [
    ("127.0.0.1", "loopback"),
    ("127.255.0.9", "loopback"),
    ("0.0.0.0", "unspecified"),
    ("0.1.2.3", "unspecified"),
    ("169.254.169.254", "metadata"),
    ("169.254.0.1", "link-local"),
    ("100.100.100.200", "metadata"),
    ("168.63.129.16", "metadata"),
    ("192.0.0.192", "metadata"),
    ("224.0.0.1", "multicast"),
    ("239.255.255.255", "multicast"),
    ("255.255.255.255", "broadcast"),
    ("::", "unspecified"),
    ("::1", "loopback"),
    ("fe80::1", "link-local"),
    ("febf:ffff::1", "link-local"),
    ("ff02::1", "multicast"),
    ("fd00:ec2::254", "metadata"),
    ("fd20:ce::254", "metadata"),
    ("::ffff:127.0.0.1", "127.0.0.1, which is loopback"),
    ("::ffff:169.254.169.254", "169.254.169.254, which is cloud metadata"),
    ("::127.0.0.1", "127.0.0.1, which is loopback"),
    ("::ffff:0:127.0.0.1", "127.0.0.1, which is loopback"),
    ("64:ff9b::169.254.169.254", "which is cloud metadata"),
    ("64:ff9b::7f00:1", "which is loopback"),
    ("64:ff9b:1::a00:1", "translated"),
    ("2002:7f00:1::1", "127.0.0.1, which is loopback"),
    ("2002:a9fe:a9fe::", "which is cloud metadata"),
    # Teredo: the client's address is in it with all bits turned.
    ("2001:0:a00:1:0:0:5601:5601", "169.254.169.254, which is cloud metadata"),
]


@pytest.mark.parametrize(("address", "why"), CLOSED)
def test_closed(address: str, why: str) -> None:
    said = refusal(STRICT, address)
    assert why in said
    assert address in said or str(ip_address(address)) in said
    assert "probe-allow" in said
    # An operator can allow each, by what is written.
    assert refusal(Guard((ip_network(address),)), address) == ""


@pytest.mark.parametrize(
    "address",
    ["10.1.0.1", "192.168.1.1", "172.16.0.9", "192.0.2.1", "100.64.0.1", "169.253.255.255",
     "169.255.0.0", "126.255.255.255", "128.0.0.0", "223.255.255.255", "2001:db8::1",
     "fd12:3456::1", "2606:4700::1111", "64:ff9b::a00:1", "::ffff:10.0.0.1", "2002:a00:1::1"],
)  # fmt: skip
def test_open(address: str) -> None:
    assert refusal(STRICT, address) == ""


@given(st.ip_addresses(v=4))
def test_ipv6_forms_count_as_the_ipv4_address(address: IPv4Address) -> None:
    number = int(address)
    forms = [f"::ffff:{address}", f"64:ff9b::{address}", f"::ffff:0:{address}"]
    forms.append(f"2002:{number >> 16:x}:{number & 0xFFFF:x}::1")
    closed = bool(refusal(STRICT, str(address)))
    assert {bool(refusal(STRICT, form)) for form in forms} == {closed}
    # So is what is allowed: the network of the IPv4 address opens its other forms.
    allowed = Guard((ip_network(f"{address}/32"),))
    assert {refusal(allowed, form) for form in forms} == {""}


def test_allowing_one_network_allows_no_other() -> None:
    guard = Guard((ip_network("127.0.0.0/8"),))
    assert refusal(guard, "127.0.0.1") == ""
    assert "metadata" in refusal(guard, "169.254.169.254")
    assert "loopback" in refusal(guard, "::1")


def test_ports() -> None:
    assert "probe-ports" in refusal(STRICT, "10.1.0.1", 22)
    assert refusal(Guard(ports=frozenset({22})), "10.1.0.1", 22) == ""
    # A port allowed opens no network.
    assert "loopback" in refusal(Guard(ports=frozenset({22})), "127.0.0.1", 22)


def test_the_core_does_not_probe_itself() -> None:
    own = Guard(
        (ip_network("0.0.0.0/0"),),
        own_ports=frozenset({7700}),
        is_local=lambda address: str(address) == "10.1.0.1",
    )
    assert "meshd itself" in refusal(own, "10.1.0.1", 7700)
    assert refusal(own, "10.1.0.2", 7700) == ""
    assert refusal(own, "10.1.0.1", 80) == ""


@pytest.mark.parametrize(
    ("check_port", "ports", "where"),
    [
        ("", (), 8080),
        ("", (("http", 81),), 81),
        ("admin", (), 9000),
        ("9000", (), 9000),
        ("admin", (("admin", 9001),), 9001),
        ("dns", (), None),
        ("nothing", (), None),
        ("0", (), None),
        ("65536", (), None),
    ],
)
def test_which_port(check_port: str, ports: tuple[tuple[str, int], ...], where: int | None) -> None:
    service = Service(
        SERVICE.name, SERVICE.dns, SERVICE.ports, check=Check("http", port=check_port)
    )
    found = probe_at(service, at("10.1.0.1", "10.1.0.2", ports=ports))
    assert found == (None if where is None else (ip_address("10.1.0.1"), where))
    assert bool(probe_refusal(STRICT, service, at("10.1.0.1"))) == (where is None)


def test_a_number_must_be_a_port_of_the_instance() -> None:
    service = Service(SERVICE.name, SERVICE.dns, SERVICE.ports, check=Check("tcp", port="6379"))
    assert "port 6379" in probe_refusal(STRICT, service, at("10.1.0.1"))
    assert probe_refusal(STRICT, service, at("10.1.0.1", ports=(("http", 6379),))) == ""
    # The number of a udp port is no port to connect to.
    service = Service(SERVICE.name, SERVICE.dns, SERVICE.ports, check=Check("tcp", port="53"))
    assert "port 53" in probe_refusal(STRICT, service, at("10.1.0.1"))


def faults(*changes: Change, guard: Guard = STRICT) -> list[str]:
    try:
        plan_edits(snapshot(), changes, guard)
    except Invalid as error:
        return [str(fault) for fault in error.faults]
    return []


def api(name: str, address: str, service: str = "api", *, registered: bool = False) -> Change:
    made = Instance(
        name, service, Version("1.2.0"), "eu", (ip_address(address),), registered=registered
    )
    return Change.put(made)


def test_edits() -> None:
    assert faults(api("a", "10.9.0.1")) == []
    # `api` has a check, `old` has none.
    assert faults(api("a", "169.254.169.254", "old")) == []
    said = faults(api("a", "169.254.169.254"), api("b", "127.0.0.1", registered=True))
    assert [line.split(":")[0] for line in said] == ["instances.a.address", "instances.b.address"]
    assert faults(api("b", "127.0.0.1"), guard=Guard((ip_network("127.0.0.0/8"),))) == []
    # The first address is the one that is probed.
    made = Instance("a", "api", Version("1.2.0"), "eu", (ip_address("10.9.0.1"), ip_address("::1")))
    assert faults(Change.put(made)) == []


def test_a_new_check_is_asked_of_the_instances_there() -> None:
    old = snapshot().topology.services["old"]
    checked = Service(old.name, old.dns, old.ports, check=Check("tcp"))
    assert faults(Change.put(checked)) == []
    loop = api("old-2", "127.0.0.1", "old")
    assert faults(loop) == []
    assert [line.split(":")[0] for line in faults(loop, Change.put(checked))] == [
        "instances.old-2.address"
    ]
    registered = api("old-2", "127.0.0.1", "old", registered=True)
    said = plan_edits(snapshot(), [registered])
    after = snapshot().advance(said.changes(), 8)
    plan = plan_edits(after, [Change.put(checked)])
    assert [edit.kind for edit in plan.edits] == [Kind.SERVICES]


def test_a_port_that_is_not_there() -> None:
    old = snapshot().topology.services["old"]
    for check, what in (("admin", "'admin'"), ("70000", "'70000'")):
        bad = Service(old.name, old.dns, old.ports, check=Check("tcp", port=check))
        assert faults(Change.put(bad)) == [f"services.old.check.port: there is no tcp port {what}"]
    udp = Service(old.name, old.dns, (Port("dns", 53, "udp"),), check=Check("tcp"))
    assert faults(Change.put(udp)) == ["services.old.check.port: there is no tcp port to probe"]
    number = Service(old.name, old.dns, old.ports, check=Check("tcp", port="22"))
    assert "instances.old-1.address: port 22 is none" in faults(Change.put(number))[0]
