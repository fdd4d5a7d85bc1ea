"""No answer that holds an instance lives beyond what was told, whatever loads and verdicts did."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshd.core.model import Force, Override, Service, Ttl
from meshd.core.names import to_wire
from meshd.core.resolve import Client, resolve
from meshd.core.rrsets import Type, rrsets_of
from meshd.core.signals import Signal
from meshd.core.snapshot import Snapshot
from meshd.core.topology import Change, Kind
from meshd.core.verdict import Verdict
from meshd.daemon.drain import MARGIN_S, Lasting
from tests import samples

LONG_AGO = -1e6
WATCHED = [f"api-{pop}-{number}" for pop in ("eu", "us") for number in (1, 11)]
NAMES = ["api.mesh.internal.", "_http._tcp.api.mesh.internal.", "1-2.version.api.mesh.internal."]
CLIENTS = [Client.parse(f"10.{net}.{third}.9") for net in (1, 2) for third in range(5)]


def small() -> Snapshot:
    """Two instances of each of two versions in two pops, so that tiers and versions take over."""
    kept = [r for r in samples.RECORDS if not r.name.startswith("api-") or r.name in WATCHED]
    changes = [Change.put(record) for record in kept]
    api = samples.topology().services["api"]
    changes.append(Change.put(replace(api, ttl=Ttl(5, 60), max_answers=2)))
    return Snapshot.build(samples.topology().apply(
        [Change(Kind.INSTANCES, name, None) for name in samples.topology().instances
         if name.startswith("api-") and name not in WATCHED]
        + [Change(Kind.OVERRIDES, "api-us-3", None), *changes], 8,
    ))  # fmt: skip


def given_now(snapshot: Snapshot, client: Client | None) -> Iterator[tuple[str, int]]:
    """Instance -> TTL of each set of records that holds it; its addresses tell them apart."""
    holders = {
        address.packed: instance.name
        for instance in snapshot.topology.instances.values()
        for address in instance.addresses
    }
    for name in NAMES:
        answer = resolve(snapshot, to_wire(name), client)
        for rrset in rrsets_of(snapshot, answer, to_wire(name)):
            for rdata in rrset.rdata:
                if rrset.type in (Type.A, Type.AAAA) and isinstance(rdata, bytes):
                    yield holders[rdata], rrset.ttl
                elif rrset.type == Type.SRV:
                    target: bytes = rdata.target  # type: ignore[union-attr]
                    yield target[1 : 1 + target[0]].decode(), rrset.ttl


@dataclass
class World:
    """Answers are given at any time; the last moment at which one still holds an instance."""

    snapshot: Snapshot = field(default_factory=small)
    now: int = 0
    ends: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.lasting = Lasting(self.snapshot, LONG_AGO)

    def answer(self) -> None:
        for client in CLIENTS:
            for name, ttl in given_now(self.snapshot, client):
                self.ends[name] = max(self.ends.get(name, 0.0), self.now + ttl)

    def swap(self, snapshot: Snapshot) -> None:
        self.answer()
        self.snapshot = snapshot
        self.lasting.swapped(snapshot, self.now)
        self.answer()
        self.check()

    def check(self) -> None:
        for name in WATCHED:
            told_s = self.lasting.safe_in_s(name, self.now)
            assert self.ends.get(name, 0.0) <= self.now + max(0.0, told_s - MARGIN_S), name

    def force(self, name: str, force: Force | None) -> None:
        record = Override(name, force) if force else None
        self.swap(self.snapshot.advance([Change(Kind.OVERRIDES, name, record)], 9))


signals = st.builds(
    Signal,
    load=st.sampled_from([0.0, 0.6, 0.8, 0.95]),
    verdict=st.sampled_from([Verdict.UP, Verdict.UP, Verdict.FAILING, Verdict.DOWN]),
    share=st.sampled_from([0.05, 1.0]),
    held=st.booleans(),
)
ttls = st.sampled_from([Ttl(1, 10), Ttl(5, 60), Ttl(30, 30)])
steps = st.lists(
    st.tuples(
        st.integers(0, 40),
        st.one_of(
            st.dictionaries(st.sampled_from(WATCHED), signals, min_size=1),
            st.tuples(
                st.sampled_from([*WATCHED, "api-eu-*"]),
                st.sampled_from([None, Force.UP, Force.DOWN, Force.LEAVE]),
            ),
            ttls,
            st.booleans(),
        ),
    ),
    max_size=8,
)


def play(world: World, step: object) -> None:
    service: Service = world.snapshot.topology.services["api"]
    if isinstance(step, dict):
        world.swap(world.snapshot.advance(signals=step))
    elif isinstance(step, tuple):
        world.force(*step)
    elif isinstance(step, Ttl):
        put = Change.put(replace(service, ttl=step))
        world.swap(world.snapshot.advance([put], 9))
    else:
        put = Change.put(replace(service, fail_open=bool(step)))
        world.swap(world.snapshot.advance([put], 9))


@settings(max_examples=150, deadline=None)
@given(steps, st.sampled_from(WATCHED), st.integers(0, 20), steps)
def test_nothing_lives_longer_than_was_told_at_drain(
    before: list[tuple[int, object]], name: str, notice_s: int, after: list[tuple[int, object]]
) -> None:
    world = World()
    world.answer()
    for passed_s, step in before:
        world.now += passed_s
        play(world, step)
    world.force(name, Force.LEAVE)
    world.now += notice_s
    world.force(name, Force.DRAIN)
    told = world.now + world.lasting.safe_in_s(name, world.now)
    for passed_s, step in after:
        if world.lasting.is_answered(name):
            # Nobody else is ready, so it stands in; nobody was told that it may stop.
            return
        assert world.ends.get(name, 0.0) <= told - MARGIN_S
        world.now += passed_s
        if not (isinstance(step, tuple) and step[0] == name):
            play(world, step)


def lasting(snapshot: Snapshot, began: float = LONG_AGO) -> Lasting:
    return Lasting(snapshot, began)


def forced(snapshot: Snapshot, name: str, force: Force) -> Snapshot:
    return snapshot.advance([Change.put(Override(name, force))], 9)


def test_a_loaded_instance_may_stop_sooner() -> None:
    snapshot = small().advance(signals={"api-eu-1": Signal(load=0.95)})
    made = lasting(snapshot)
    assert made.safe_in_s("api-eu-1", 100) < made.safe_in_s("api-us-1", 100) == 60 + MARGIN_S
    made.swapped(forced(snapshot, "api-eu-1", Force.DRAIN), 100)
    assert made.safe_in_s("api-eu-1", 100) < 60
    assert not made.is_answered("api-eu-1")
    assert made.safe_in_s("api-eu-1", 200) == 0


def test_notice_makes_the_time_short_that_is_left() -> None:
    snapshot = small()
    made = lasting(snapshot)
    leaving = forced(snapshot, "api-eu-1", Force.LEAVE)
    made.swapped(leaving, 100)
    assert made.is_answered("api-eu-1")
    assert made.safe_in_s("api-eu-1", 100) == 60 + MARGIN_S
    made.swapped(forced(leaving, "api-eu-1", Force.DRAIN), 157)
    assert made.safe_in_s("api-eu-1", 157) == 5 + MARGIN_S
    assert made.safe_in_s("api-eu-1", 165) == 0


def test_a_core_that_began_just_now_knows_nothing() -> None:
    drained = forced(small(), "api-eu-1", Force.DRAIN)
    assert lasting(drained, began=100).safe_in_s("api-eu-1", 110) == 50 + MARGIN_S
    assert lasting(drained).safe_in_s("api-eu-1", 110) == 0


def test_the_last_one_stands_in_and_is_not_safe() -> None:
    snapshot = small()
    made = lasting(snapshot)
    made.swapped(forced(snapshot, "api-*", Force.DRAIN), 100)
    assert made.is_answered("api-eu-1")
    assert made.safe_in_s("api-eu-1", 1000) == 5 + MARGIN_S
    made.swapped(forced(snapshot, "api-*", Force.DOWN), 2000)
    assert not made.is_answered("api-eu-1")
    assert made.safe_in_s("api-eu-1", 2000) == 5 + MARGIN_S


def test_what_was_removed_is_remembered_and_forgotten_in_time() -> None:
    snapshot = small()
    made = lasting(snapshot)
    made.swapped(snapshot.advance([Change(Kind.INSTANCES, "api-eu-1", None)], 9), 100)
    assert made.safe_in_s("api-eu-1", 100) == 60 + MARGIN_S
    assert made.safe_in_s("nobody", 100) == 0
    many = [replace(samples.instance("us", 1), name=f"many-{n}") for n in range(1500)]
    full = snapshot.advance(list(map(Change.put, many)), 9)
    made = lasting(full)
    made.swapped(snapshot, 100)
    made.swapped(full, 1000)
    made.swapped(snapshot, 1001)
    assert len(made._fixed) == 1500
    made.swapped(full, 2000)
    made.swapped(forced(full, "api-eu-1", Force.DRAIN), 3000)
    assert made.safe_in_s("many-1", 3000) == 60 + MARGIN_S


@pytest.mark.parametrize("field_", ["revision", "other service"])
def test_what_does_not_concern_it_costs_nothing(field_: str) -> None:
    snapshot = small()
    made = lasting(snapshot)
    signal = {"old-1": Signal(load=0.5)} if field_ == "other service" else {}
    made.swapped(snapshot.advance((), 10, signal), 100)
    assert made._fixed.keys() <= {"old-1"}


def test_the_only_one_with_an_address_of_a_version_stands_in() -> None:
    """That AAAA exists may not depend on probes: but what drains is not shown for its sake."""
    snapshot = small()
    only_v4 = [
        Change.put(replace(instance, addresses=instance.addresses[:1]))
        for instance in snapshot.topology.instances.values()
        if instance.name in WATCHED[1:]
    ]
    snapshot = snapshot.advance(only_v4, 9)
    made = lasting(snapshot)
    failed = snapshot.advance(signals={"api-eu-1": Signal(verdict=Verdict.DOWN)})
    made.swapped(failed, 100)
    assert made.is_answered("api-eu-1")
    assert ("api-eu-1", 5) in set(given_now(failed, CLIENTS[0]))
    for force in (Force.DRAIN, Force.DOWN):
        out = forced(failed, "api-eu-1", force)
        made.swapped(out, 200)
        assert not made.is_answered("api-eu-1")
        assert "api-eu-1" not in {name for name, _ in given_now(out, CLIENTS[0])}
