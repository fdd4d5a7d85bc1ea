"""Packets to replies: the contract of design section 5, and that the fast path changes nothing."""

from dataclasses import replace

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshd.answerer.replies import Replier
from meshd.answerer.state import State
from meshd.core.model import Force, Override, Service
from meshd.core.names import to_wire
from meshd.core.release import Phase, Scope
from meshd.core.resolve import Client, resolve
from meshd.core.signals import Signal
from meshd.core.snapshot import Snapshot
from meshd.core.topology import Change, Kind
from meshd.core.verdict import Verdict
from tests import proxy, samples
from tests.samples import LOCAL, NOBODY

TRUSTED = 0x7F000001
STRANGER = 0x0A020005


def replier(snapshot: Snapshot | None = None) -> tuple[Replier, State]:
    state = State()
    made = Replier(state, LOCAL, LOCAL)
    state.swap(snapshot or samples.snapshot())
    return made, state


def ask(
    made: Replier, name: str, kind: str, *options: dns.edns.Option, source: int = TRUSTED
) -> dns.message.Message:
    """Ask twice: the second time the reply may come from memory, and must be the same."""
    query = dns.message.make_query(name, kind, use_edns=0, options=list(options))
    packet = query.to_wire()
    first = made.reply_udp(packet, made.source(4, source))
    second = made.reply_udp(packet, made.source(4, source))
    assert first is not None
    assert first == second
    reply = dns.message.from_wire(first)
    assert query.is_response(reply)
    return reply


def addresses(reply: dns.message.Message) -> list[str]:
    return [str(rdata) for rrset in reply.answer for rdata in rrset]


def test_clients_get_their_own_lists() -> None:
    made, state = replier()
    assert state.snapshot is not None
    for text, prefix in (("10.1.0.0", "10.1."), ("10.2.0.0", "10.2."), ("192.0.2.0", "10.2.")):
        reply = ask(made, "api.mesh.internal", "A", dns.edns.ECSOption(text, 24))
        assert len(addresses(reply)) == 4
        assert all(address.startswith(prefix) for address in addresses(reply))
        assert reply.flags & dns.flags.AA
        (option,) = reply.options
        assert isinstance(option, dns.edns.ECSOption)
        assert (option.srclen, option.scopelen) == (24, 24)
        wanted = resolve(state.snapshot, to_wire("api.mesh.internal."), Client.parse(f"{text}/24"))
        assert wanted.choice is not None
        chosen = [str(r.member.instance.addresses[0]) for r in wanted.choice.chosen]
        assert addresses(reply) == chosen


def test_subnets_of_strangers_are_not_believed() -> None:
    made, _ = replier()
    reply = ask(made, "api.mesh.internal", "A", dns.edns.ECSOption("10.1.0.0", 24), source=STRANGER)
    assert all(address.startswith("10.2.") for address in addresses(reply))
    (option,) = reply.options
    assert isinstance(option, dns.edns.ECSOption)
    assert option.scopelen == 0


def test_neutral_view_for_clients_that_opt_out() -> None:
    made, _ = replier()
    reply = ask(made, "api.mesh.internal", "A", dns.edns.ECSOption("0.0.0.0", 0))
    assert len(addresses(reply)) == 4
    (option,) = reply.options
    assert isinstance(option, dns.edns.ECSOption)
    assert (option.srclen, option.scopelen) == (0, 0)


@pytest.mark.parametrize(
    ("name", "kind", "rcode", "count"),
    [
        ("api.mesh.internal", "A", "NOERROR", 4),
        ("api.mesh.internal", "AAAA", "NOERROR", 4),
        ("api.mesh.internal", "TXT", "NOERROR", 1),
        ("api.mesh.internal", "HTTPS", "NOERROR", 4),
        ("api.mesh.internal", "MX", "NOERROR", 0),
        ("api.mesh.internal", "TYPE65280", "NOERROR", 0),
        ("_http._tcp.api.mesh.internal", "SRV", "NOERROR", 8),
        ("_http._tcp.api.mesh.internal", "SVCB", "NOERROR", 8),
        ("_tcp.api.mesh.internal", "SRV", "NOERROR", 0),
        ("_udp.api.mesh.internal", "SRV", "NXDOMAIN", 0),
        ("_ftp._tcp.api.mesh.internal", "SRV", "NXDOMAIN", 0),
        ("1-2-0.version.api.mesh.internal", "A", "NOERROR", 4),
        ("1-2.version.api.mesh.internal", "A", "NOERROR", 4),
        ("beta.version.api.mesh.internal", "A", "NOERROR", 4),
        ("9-9.version.api.mesh.internal", "A", "NXDOMAIN", 0),
        ("version.api.mesh.internal", "A", "NOERROR", 0),
        ("ap.pop.api.mesh.internal", "A", "NOERROR", 4),
        ("mars.pop.api.mesh.internal", "A", "NXDOMAIN", 0),
        ("api-eu-1.instance.api.mesh.internal", "A", "NOERROR", 1),
        ("old-1.instance.api.mesh.internal", "A", "NXDOMAIN", 0),
        ("x.api-eu-1.instance.api.mesh.internal", "A", "NXDOMAIN", 0),
        ("old.deep.mesh.internal", "A", "NOERROR", 1),
        ("old.deep.mesh.internal", "AAAA", "NOERROR", 0),
        ("deep.mesh.internal", "A", "NOERROR", 0),
        ("any.apps.mesh.internal", "A", "NOERROR", 1),
        ("a.b.apps.mesh.internal", "A", "NOERROR", 1),
        ("_http._tcp.any.apps.mesh.internal", "SRV", "NOERROR", 1),
        ("apps.mesh.internal", "A", "NOERROR", 0),
        ("mesh.internal", "SOA", "NOERROR", 1),
        ("mesh.internal", "NS", "NOERROR", 1),
        ("mesh.internal", "A", "NOERROR", 0),
        ("ns1.mesh.internal", "A", "NOERROR", 1),
        ("nothing.mesh.internal", "A", "NXDOMAIN", 0),
        ("www.example.com", "A", "REFUSED", 0),
        (".", "NS", "REFUSED", 0),
        ("api.mesh.internal", "ANY", "NOERROR", 1),
    ],
)
def test_names_and_types(name: str, kind: str, rcode: str, count: int) -> None:
    made, _ = replier()
    reply = ask(made, name, kind)
    assert dns.rcode.to_text(reply.rcode()) == rcode
    assert sum(len(rrset) for rrset in reply.answer) == count
    is_negative = rcode != "REFUSED" and count == 0
    assert [rrset.rdtype.name for rrset in reply.authority] == ["SOA"] * is_negative
    if is_negative:
        assert str(reply.authority[0].name) == "mesh.internal."
        assert reply.authority[0].ttl == 5
    for rrset in reply.answer:
        assert rrset.name == dns.name.from_text(name)


def test_srv_targets_have_addresses_beside() -> None:
    made, _ = replier()
    reply = ask(made, "_http._tcp.api.mesh.internal", "SRV")
    targets = {str(rdata.target) for rdata in reply.answer[0]}
    given_for = {str(rrset.name) for rrset in reply.additional}
    assert given_for
    assert given_for <= targets
    first = min(reply.answer[0], key=lambda rdata: rdata.priority)
    assert first.priority == 10
    assert all(256 <= rdata.weight <= 65535 for rdata in reply.answer[0])


def test_over_tcp_nothing_is_left_out() -> None:
    made, _ = replier()
    packet = dns.message.make_query("_http._tcp.api.mesh.internal", "SRV").to_wire()
    raw = made.reply_tcp(packet, made.source(4, TRUSTED))
    assert raw is not None
    assert len(dns.message.from_wire(raw).additional) == 16


def test_default_answers_never_truncate() -> None:
    made, _ = replier()
    for kind in ("A", "AAAA", "TXT", "HTTPS"):
        packet = dns.message.make_query("api.mesh.internal", kind, use_edns=False).to_wire()
        raw = made.reply_udp(packet, made.source(4, STRANGER))
        assert raw is not None
        assert len(raw) <= 512
        assert not dns.message.from_wire(raw).flags & dns.flags.TC


def test_classes_and_any() -> None:
    made, _ = replier()
    chaos = dns.message.make_query("version.bind", "TXT", "CH")
    raw = made.reply_udp(chaos.to_wire(), made.source(4, TRUSTED))
    assert raw is not None
    assert dns.message.from_wire(raw).rcode() == dns.rcode.REFUSED
    reply = ask(made, "api.mesh.internal", "ANY")
    assert str(reply.answer[0][0]) == '"RFC8482" ""'


def test_without_a_topology_it_is_servfail_and_never_nxdomain() -> None:
    made = Replier(State(), LOCAL, LOCAL)
    packet = dns.message.make_query("api.mesh.internal", "A").to_wire()
    raw = made.reply_udp(packet, made.source(4, TRUSTED))
    assert raw is not None
    assert dns.message.from_wire(raw).rcode() == dns.rcode.SERVFAIL


def test_a_snapshot_that_was_there_first_is_answered_from() -> None:
    state = State()
    state.swap(samples.snapshot())
    made = Replier(state, NOBODY, NOBODY)
    assert len(addresses(ask(made, "api.mesh.internal", "A"))) == 4


def test_a_swap_shows_at_once() -> None:
    made, state = replier()
    before = addresses(ask(made, "api.mesh.internal", "A", source=STRANGER))
    assert state.snapshot is not None
    forced = [Change.put(Override(f"api-us-{n}", Force.DOWN)) for n in range(11, 14)]
    state.swap(state.snapshot.advance(forced, 8))
    after = addresses(ask(made, "api.mesh.internal", "A", source=STRANGER))
    assert before != after
    assert not set(after) & {"10.2.0.11", "10.2.0.12", "10.2.0.13"}
    soa = ask(made, "mesh.internal", "SOA").answer[0][0]
    assert soa.serial == 8
    negative = ask(made, "api.mesh.internal", "MX").authority[0][0]
    assert negative.serial == 8


def test_ttl_falls_with_load() -> None:
    made, state = replier()
    assert ask(made, "api.mesh.internal", "A", source=STRANGER).answer[0].ttl == 60
    assert state.snapshot is not None
    loaded = {f"api-us-{n}": Signal(0.95, Verdict.UP) for n in range(11, 16)}
    state.swap(state.snapshot.advance(signals=loaded))
    assert ask(made, "api.mesh.internal", "A", source=STRANGER).answer[0].ttl == 6


def test_fail_closed_is_servfail() -> None:
    made, state = replier()
    assert state.snapshot is not None
    old = state.snapshot.topology.services["old"]
    closed = Service(old.name, old.dns, old.ports, fail_open=False)
    down = {"old-1": Signal(0.0, Verdict.DOWN)}
    state.swap(state.snapshot.advance([Change.put(closed)], 8, down))
    assert ask(made, "old.deep.mesh.internal", "A").rcode() == dns.rcode.SERVFAIL
    state.swap(state.snapshot.advance([Change.put(old)], 9))
    assert addresses(ask(made, "old.deep.mesh.internal", "A")) == ["192.0.2.1"]


NAMES = (
    "api.mesh.internal",
    "_http._tcp.api.mesh.internal",
    "1-2.version.api.mesh.internal",
    "api-us-1.instance.api.mesh.internal",
    "old.deep.mesh.internal",
    "x.apps.mesh.internal",
    "deep.mesh.internal",
    "none.mesh.internal",
    "nope.mesh.internal",
    "name.api.mesh.internal",
    "nope.deep.mesh.internal",
    "ns1.mesh.internal",
    "*.apps.mesh.internal",
)


@st.composite
def queries(draw: st.DrawFn) -> tuple[bytes, int, int]:
    """A packet, IP version and source, as clients may send them."""
    name = draw(st.sampled_from(NAMES))
    cased = "".join(c.upper() if draw(st.booleans()) else c for c in name)
    kind = draw(st.sampled_from(["A", "AAAA", "SRV", "TXT", "HTTPS", "ANY", "MX", "SOA"]))
    message = dns.message.make_query(cased, kind, use_edns=False)
    message.id = draw(st.integers(0, 65535))
    if draw(st.booleans()):
        message.flags ^= dns.flags.RD
    if draw(st.booleans()):
        message.use_edns(0, draw(st.sampled_from([0, dns.flags.DO])), 1232, options=draw(options()))
    source = draw(st.sampled_from([TRUSTED, STRANGER, 0x0A010705, 0x7F000002]))
    if draw(st.integers(0, 4)) == 0:
        return message.to_wire(), 6, draw(st.sampled_from([1, 0x20010DB8 << 96 | 5]))
    return message.to_wire(), 4, source


@st.composite
def options(draw: st.DrawFn) -> list[dns.edns.Option]:
    found: list[dns.edns.Option] = []
    if draw(st.booleans()):
        found.append(
            dns.edns.GenericOption(
                dns.edns.OptionType.COOKIE, draw(st.binary(min_size=8, max_size=8))
            )
        )
    if draw(st.booleans()):
        address = draw(st.sampled_from(["10.1.7.0", "10.1.9.0", "10.2.0.0", "2001:db8::"]))
        length = draw(st.sampled_from([0, 8, 17, 24] + ([56] if ":" in address else [32])))
        found.append(dns.edns.ECSOption(address, length))
    return found


@pytest.mark.parametrize("kind", ["A", "AAAA", "TXT", "MX"])
@pytest.mark.parametrize("subnet", ["", "10.1.9.0/24", "2001:db8::/56"])
@pytest.mark.parametrize("name", ["api.mesh.internal", "old.deep.mesh.internal"])
def test_what_was_answered_is_remembered(kind: str, subnet: str, name: str) -> None:
    """Whatever ID, case, cookie and flags come with it."""
    made, _ = replier()
    address, _, length = subnet.partition("/")
    ecs: list[dns.edns.Option] = [dns.edns.ECSOption(address, int(length))] if subnet else []
    cookie = dns.edns.GenericOption(dns.edns.OptionType.COOKIE, b"12345678")
    first = dns.message.make_query(name, kind, use_edns=0, options=ecs)
    made.reply_udp(first.to_wire(), made.source(4, TRUSTED))
    again = dns.message.make_query(name.upper(), kind, want_dnssec=True, options=[cookie, *ecs])
    assert made._remembered.find(again.to_wire(), made.source(4, TRUSTED)) is not None


@settings(max_examples=120, deadline=None)
@given(st.lists(queries(), min_size=1, max_size=8))
def test_the_fast_path_gives_what_the_full_way_gives(asked: list[tuple[bytes, int, int]]) -> None:
    warm, _ = replier()
    for packet, version, source in asked + asked:
        cold, _ = replier()
        assert warm.reply_udp(packet, warm.source(version, source)) == cold.reply_udp(
            packet, cold.source(version, source)
        )


MOVES = (
    Change.put(samples.ROLLOUT),
    Change.put(replace(samples.ROLLOUT, held_s=7.0)),
    Change.put(replace(samples.ROLLOUT, step=1)),
    Change.put(replace(samples.ROLLOUT, scope=Scope(("ap",), ("0.0.0.0/0",)))),
    Change.put(replace(samples.ROLLOUT, phase=Phase.ROLLED_BACK)),
    Change(Kind.ROLLOUTS, "api-7", None),
    Change.put(samples.EXPERIMENT),
    Change(Kind.EXPERIMENTS, "cart", None),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(MOVES), st.lists(queries(), max_size=6)), max_size=5))
def test_the_fast_path_follows_versions_in_motion(
    steps: list[tuple[Change, list[tuple[bytes, int, int]]]],
) -> None:
    """Whatever begins, grows and ends while it remembers."""
    warm, state = replier()
    for revision, (change, asked) in enumerate(steps, start=8):
        assert state.snapshot is not None
        state.swap(state.snapshot.advance([change], revision))
        cold, _ = replier(state.snapshot.advance([], revision))
        for packet, version, source in asked + asked:
            whole = cold._reply(packet, cold.source(version, source), None)
            assert warm.reply_udp(packet, warm.source(version, source)) == whole


def test_what_a_rollout_notes_is_no_reason_to_forget() -> None:
    made, state = replier(samples.in_motion())
    packet = dns.message.make_query("api.mesh.internal", "A").to_wire()
    source = made.source(4, STRANGER)
    reply = made.reply_udp(packet, source)
    assert state.snapshot is not None
    noted = replace(samples.ROLLOUT, held_s=5.0, reason="all gates hold")
    state.swap(state.snapshot.advance([Change.put(noted)], 8))
    # Who stands in front of the replies is found again by the first question alone.
    state.snapshot.views["api"].replies.clear()
    assert made.reply_udp(packet, source) == reply
    view = state.snapshot.views["api"]
    held = {key: dict(replies) for key, replies in view.replies.items()}
    assert held
    state.swap(state.snapshot.advance([Change.put(replace(noted, held_s=9.0))], 9))
    assert state.snapshot.views["api"].replies == held
    state.swap(state.snapshot.advance([Change.put(replace(noted, step=1))], 10))
    assert not state.snapshot.views["api"].replies


@settings(max_examples=120, deadline=None)
@given(queries(), st.data())
def test_damaged_packets_never_raise(asked: tuple[bytes, int, int], data: st.DataObject) -> None:
    made, _ = replier()
    packet, version, source = asked
    made.reply_udp(packet, made.source(version, source))
    damaged = bytearray(packet)
    for _ in range(data.draw(st.integers(0, 5))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(damaged[: data.draw(st.integers(0, len(damaged)))])
    reply = made.reply_udp(cut, made.source(version, source))
    silent = len(cut) < 12 or cut[2] & 0x80
    assert (reply is None) == bool(silent)
    cold, _ = replier()
    assert reply == cold.reply_udp(cut, cold.source(version, source))


def test_names_that_are_not_there_are_remembered_by_their_parent() -> None:
    made, state = replier()
    for name in ("nope", "none", "nops"):
        assert ask(made, f"{name}.mesh.internal", "A").rcode() == dns.rcode.NXDOMAIN
    packet = dns.message.make_query("nine.mesh.internal", "AAAA").to_wire()
    assert made._remembered.find(packet, made.source(4, TRUSTED)) is not None
    # One of that length beside them comes to be.
    assert state.snapshot is not None
    old = state.snapshot.topology.services["old"]
    state.swap(
        state.snapshot.advance([Change.put(Service("n", "nine.mesh.internal.", old.ports))], 8)
    )
    assert ask(made, "nine.mesh.internal", "A").rcode() == dns.rcode.NOERROR
    assert ask(made, "none.mesh.internal", "A").rcode() == dns.rcode.NXDOMAIN


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    from meshd.answerer import fast

    monkeypatch.setattr(fast, "_MAX_REPLIES", 50)
    monkeypatch.setattr(fast, "_MAX_CLIENTS", 40)
    made, state = replier()
    packet = dns.message.make_query("api.mesh.internal", "A").to_wire()
    for number in range(500):
        made.reply_udp(packet, made.source(4, STRANGER + number))
    assert state.snapshot is not None
    stored = sum(len(kept) for kept in state.snapshot.views["api"].replies.values())
    assert 0 < stored <= 50
    assert 0 < len(made._remembered._clients) <= 40


def test_a_proxy_speaks_for_its_clients() -> None:
    made, _ = replier()
    packet = dns.message.make_query("api.mesh.internal", "A", id=9).to_wire()
    for client, prefix in (("10.1.0.9", "10.1."), ("10.2.0.9", "10.2."), ("2001:db8::9", "10.3.")):
        header = proxy.header(client)
        for _ in range(2):
            raw = made.reply_udp(header + packet, made.source(4, TRUSTED))
            assert raw is not None
            assert all(each.startswith(prefix) for each in addresses(dns.message.from_wire(raw)))
    plain = made.reply_udp(packet, made.source(4, TRUSTED))
    assert made.reply_udp(proxy.local() + packet, made.source(4, TRUSTED)) == plain


def test_only_trusted_proxies_are_believed() -> None:
    made, _ = replier()
    packet = dns.message.make_query("api.mesh.internal", "A").to_wire()
    raw = made.reply_udp(proxy.header("10.1.0.9") + packet, made.source(4, STRANGER))
    # To a stranger it is a message of an opcode that nobody knows.
    assert raw is not None
    assert raw[3] & 0xF == dns.rcode.NOTIMP
    # Once is enough: a header behind a header is no message of a proxy.
    twice = proxy.header("127.0.0.1") + proxy.header("10.1.0.9") + packet
    raw = made.reply_udp(twice, made.source(4, TRUSTED))
    assert raw is not None
    assert raw[3] & 0xF == dns.rcode.NOTIMP
    assert made.reply_udp(proxy.SIGNATURE + b"\x21" + packet, made.source(4, TRUSTED)) is None


def test_the_subnet_of_a_client_behind_a_proxy_counts_by_that_client() -> None:
    made, _ = replier()
    subnet = dns.edns.ECSOption("10.1.0.0", 24)
    packet = dns.message.make_query("api.mesh.internal", "A", options=[subnet]).to_wire()
    for client, prefix in (("127.0.0.9", "10.1."), ("10.2.0.9", "10.2.")):
        raw = made.reply_udp(proxy.header(client) + packet, made.source(4, TRUSTED))
        assert raw is not None
        assert all(each.startswith(prefix) for each in addresses(dns.message.from_wire(raw)))
