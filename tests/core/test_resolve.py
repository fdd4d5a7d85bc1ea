"""The DNS contract (design section 5) as properties of any small topology."""

from dataclasses import replace
from ipaddress import ip_address
from random import Random

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from meshd.core.model import Instance, Service
from meshd.core.names import to_wire
from meshd.core.ranges import NEUTRAL
from meshd.core.resolve import Answer, Client, Status, resolve
from meshd.core.rrsets import RRset, Srv, Svcb, Type, rrsets_of
from meshd.core.selector import Version
from meshd.core.snapshot import Snapshot
from meshd.core.topology import Kind, Topology
from meshd.core.verdict import Verdict
from tests import samples
from tests.core.strategies import SERVICES, clients, snapshots

FRONTS = (
    "", "_http._tcp.", "_tcp.", "_udp.", "version.", "pop.", "instance.", "1-2.version.",
    "1-2-0.version.", "latest.version.", "beta.version.", "9.version.", "eu.pop.", "mars.pop.",
    "i1.instance.", "i2.instance.", "_http._tcp.eu.pop.", "_http._tcp.pop.", "x.", "x.y.",
)  # fmt: skip


@st.composite
def names(draw: st.DrawFn) -> bytes:
    """Names of a service, below it, and elsewhere in the zone."""
    base = draw(st.sampled_from([*SERVICES.values(), "mesh.internal.", "b.mesh.internal."]))
    base = base.replace("*", draw(st.sampled_from(["x", "x.y", "*"])))
    return to_wire(draw(st.sampled_from(FRONTS)) + base)


def shown(snapshot: Snapshot, answer: Answer, name: bytes) -> dict[Type, RRset]:
    return {rrset.type: rrset for rrset in rrsets_of(snapshot, answer, name)}


@settings(max_examples=80)
@given(snapshots(), names(), st.lists(clients(), min_size=2, max_size=5))
def test_existence_never_depends_on_the_client(
    snapshot: Snapshot, name: bytes, asking: list[Client | None]
) -> None:
    answers = [resolve(snapshot, name, client) for client in asking]
    assert len({answer.status for answer in answers}) == 1
    assert len({tuple(sorted(shown(snapshot, answer, name))) for answer in answers}) == 1


@settings(max_examples=120)
@given(snapshots(), names(), clients(), st.data())
def test_who_is_in_the_scope_gets_the_answer(
    snapshot: Snapshot, name: bytes, client: Client | None, data: st.DataObject
) -> None:
    assume(client is not None)
    assert client is not None
    answer = resolve(snapshot, name, client)
    bits = 32 if client.version == 4 else 128
    free = bits - answer.scope
    other = client.address >> free << free | data.draw(st.integers(0, (1 << free) - 1))
    length = data.draw(st.sampled_from([client.length, bits]))
    if length > client.length and answer.scope >= client.length:
        # A longer prefix would be another key, but nobody is told so wide a scope for it.
        length = client.length
    neighbour = Client(client.version, other >> bits - length << bits - length, length)
    again = resolve(snapshot, name, neighbour)
    assert shown(snapshot, again, name) == shown(snapshot, answer, name)


@settings(max_examples=80)
@given(snapshots(), names(), clients())
def test_records_are_as_promised(snapshot: Snapshot, name: bytes, client: Client | None) -> None:
    answer = resolve(snapshot, name, client)
    for kind, rrset in shown(snapshot, answer, name).items():
        assert rrset.rdata
        assert len(set(rrset.rdata)) == len(rrset.rdata)
        if answer.view is not None and kind not in (Type.SOA, Type.NS):
            bounds = answer.view.service.ttl
            assert bounds.min_s <= rrset.ttl <= bounds.max_s
            if kind in (Type.A, Type.AAAA) and answer.spot and answer.spot.member is None:
                assert len(rrset.rdata) <= answer.view.service.max_answers
        for rdata in rrset.rdata:
            if isinstance(rdata, Srv):
                assert 256 <= rdata.weight <= 65535
                assert rdata.priority % 10 == 0
    if client is None:
        assert answer.scope == 0


@settings(max_examples=80)
@given(snapshots(), st.sampled_from(list(SERVICES)), clients())
def test_faults_never_empty_an_answer(
    snapshot: Snapshot, service: str, client: Client | None
) -> None:
    view = snapshot.views.get(service)
    assume(view is not None)
    assert view is not None
    usable = [m for m in view.members if m.verdict is not Verdict.FORCED_DOWN]
    name = to_wire(SERVICES[service].replace("*", "x"))
    answer = resolve(snapshot, name, client)
    assert answer.choice is not None
    assert bool(answer.choice.chosen) == bool(usable)
    ready = [m for m in usable if m.verdict.is_ready]
    if ready:
        assert all(ranked.member in ready for ranked in answer.choice.ranked)
        assert {m.instance.name for m in ready} >= {
            ranked.member.instance.name for ranked in answer.choice.chosen
        }
    wanted = [ranked for ranked in answer.choice.first if not ranked.member.is_ejected]
    if wanted:
        assert not any(ranked.member.is_ejected for ranked in answer.choice.chosen)
    if answer.status is Status.NOT_READY:
        assert not ready
        assert not view.service.fail_open


@settings(max_examples=100)
@given(snapshots(), clients())
def test_hints_are_the_address_sets(snapshot: Snapshot, client: Client | None) -> None:
    name = to_wire("api.mesh.internal.")
    found = shown(snapshot, resolve(snapshot, name, client), name)
    if Type.HTTPS not in found:
        assert not {Type.A, Type.AAAA} & set(found)
        return
    svcbs = [rdata for rdata in found[Type.HTTPS].rdata if isinstance(rdata, Svcb)]
    assert [svcb.priority for svcb in svcbs] == list(range(1, len(svcbs) + 1))
    hints4 = [hint for svcb in svcbs for hint in svcb.hints4]
    hints6 = [hint for svcb in svcbs for hint in svcb.hints6]
    for kind, hints in ((Type.A, hints4), (Type.AAAA, hints6)):
        wanted = list(found[kind].rdata) if kind in found else []
        # At most max_answers addresses are shown; more hints come only with a second family.
        assert hints[: len(wanted)] == wanted


def test_addresses_of_both_families_are_of_the_same_instances() -> None:
    snapshot = samples.snapshot()
    name = to_wire("api.mesh.internal.")
    for third in range(64):
        found = shown(snapshot, resolve(snapshot, name, Client(4, 0x0A020000 | third, 32)), name)
        fours = [rdata[3] for rdata in found[Type.A].rdata if isinstance(rdata, bytes)]
        sixes = [rdata[15] for rdata in found[Type.AAAA].rdata if isinstance(rdata, bytes)]
        assert fours == sixes


def test_a_family_that_only_some_instances_have_is_not_lost_to_max_answers() -> None:
    """Else a client whose first instances are IPv4 only would get NODATA for AAAA."""
    four = Instance("old-2", "old", Version("1.0"), "eu", (ip_address("192.0.2.3"),))
    six = Instance("old-6", "old", Version("1.0"), "us", (ip_address("2001:db8::6"),))
    old = next(r for r in samples.RECORDS if isinstance(r, Service) and r.name == "old")
    others = (record for record in samples.RECORDS if record is not old)
    records = [*others, replace(old, max_answers=1), four, six]
    snapshot = Snapshot.build(Topology.load("x", 1, records))
    name = to_wire(old.dns)
    for address in (0x0A010001, 0x0A020001):
        found = shown(snapshot, resolve(snapshot, name, Client(4, address, 32)), name)
        assert found[Type.A].rdata[0] in (b"\xc0\0\2\1", b"\xc0\0\2\3")
        assert found[Type.AAAA].rdata == (six.addresses[0].packed,)


@settings(max_examples=100)
@given(snapshots(), names(), st.lists(clients(), min_size=1, max_size=5), st.randoms())
def test_the_order_in_which_records_came_is_forgotten(
    snapshot: Snapshot, name: bytes, asking: list[Client | None], random: Random
) -> None:
    records = [record for kind in Kind for record in snapshot.topology.records(kind)]
    random.shuffle(records)
    other = Snapshot.build(Topology.load("x", 1, records), snapshot.signals)
    for client in asking:
        answers = [(s, resolve(s, name, client)) for s in (snapshot, other)]
        assert len({repr(rrsets_of(s, a, name)) for s, a in answers}) == 1
        assert len({a.scope for _, a in answers}) == 1


def test_one_pop_is_one_tier() -> None:
    """Also for a client elsewhere: each instance once, all of one priority."""
    snapshot = samples.snapshot()
    name = to_wire("_http._tcp.eu.pop.api.mesh.internal.")
    for address in (0x0A010001, 0x0A020001):
        found = shown(snapshot, resolve(snapshot, name, Client(4, address, 32)), name)
        targets = [rdata for rdata in found[Type.SRV].rdata if isinstance(rdata, Srv)]
        assert {rdata.priority for rdata in targets} == {10}
        assert len({rdata.target for rdata in targets}) == len(targets) == 4


def test_clients() -> None:
    assert Client.parse("10.1.0.0/16") == Client(4, 0x0A010000, 16)
    assert Client.parse("10.1.2.3") == Client(4, 0x0A010203, 32)
    assert Client.parse("0.0.0.0/0") is None
    assert str(Client.parse("2001:db8::/48")) == "2001:db8::/48"


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("api.mesh.internal.", Status.FOUND),
        ("nope.mesh.internal.", Status.NO_NAME),
        ("internal.", Status.NOT_OURS),
        (".", Status.NOT_OURS),
    ],
)
def test_statuses(name: str, status: Status) -> None:
    assert resolve(samples.snapshot(), to_wire(name), None).status is status


def test_neutral_view_has_no_policy() -> None:
    answer = resolve(samples.snapshot(), to_wire("api.mesh.internal."), None)
    assert answer.locus is not None
    assert answer.locus.policy is NEUTRAL
