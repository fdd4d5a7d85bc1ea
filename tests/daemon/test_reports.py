"""What clients report, in virtual time: the signals that it makes, liars, and bounds of memory."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from ipaddress import IPv4Address
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshd.core.hashing import BUCKETS
from meshd.core.histogram import quantile_us
from meshd.core.model import (
    Force,
    Instance,
    NameServer,
    Override,
    Pop,
    Port,
    Prefix,
    Range,
    Record,
    Service,
    Zone,
)
from meshd.core.outcomes import Outcome, Reporter
from meshd.core.ranges import Policy
from meshd.core.resolve import Choice, Spot, choose
from meshd.core.selector import Version
from meshd.core.snapshot import Snapshot
from meshd.core.topology import Change, Kind, Topology
from meshd.core.verdict import Verdict
from meshd.daemon import reports as module
from meshd.daemon.observed import Observed
from meshd.daemon.reports import Reports

SAMPLE = range(0, BUCKETS, 4)
EIGHT = tuple(f"i{n}" for n in range(8))
# Instance -> the part of calls to it that fail.
Failing = Mapping[str, float]


class World:
    """A service, reporters that call all its instances, and a clock; swaps as the pump does."""

    def __init__(self, instances: int = 6) -> None:
        self.now = 1000.0
        records: list[Record] = [
            Zone("mesh.internal.", (NameServer("ns.example."),), "h@example"),
            Pop("eu"),
            Service("api", "api.mesh.internal.", (Port("http", 80),), max_answers=4),
        ]
        self.names = [f"i{n}" for n in range(instances)]
        for n, name in enumerate(self.names):
            address = IPv4Address(0x0A000001 + n)
            records.append(Instance(name, "api", Version("1.0"), "eu", (address,)))
        self.snapshot = Snapshot.build(Topology.load("x", 1, records))
        self.observed = Observed.resume(self.snapshot)
        self.reports = Reports(self.observed)

    def swap(self, *changes: Change) -> None:
        pending, self.observed.pending = self.observed.pending, {}
        revision = self.snapshot.topology.revision + bool(changes)
        self.snapshot = self.snapshot.advance(changes, revision, pending)

    def say(self, who: str, name: str, calls: int, failed: int) -> bool:
        outcome = Outcome(calls, failures=failed, latency={40: calls - failed})
        return self.reports.note(self.snapshot, Reporter("h", who), name, outcome, self.now)

    def passes(
        self, seconds: int, failing: Failing, liars: Failing | None = None, lying: int = 0
    ) -> "World":
        """Eight report each other second, the first `lying` of them what `liars` says."""
        for _ in range(seconds):
            self.now += 1
            if self.now % 2 == 0:
                for n in range(8):
                    told = liars if liars is not None and n < lying else failing
                    for name in self.names:
                        self.say(f"r{n}", name, 20, round(20 * told.get(name, 0)))
            self.tick()
        return self

    def tick(self) -> None:
        self.reports.tick(self.snapshot, self.now)
        self.swap()

    def success(self, name: str = "i0") -> float:
        return self.snapshot.views["api"].members[int(name[1:])].signal.success

    def choices(self) -> list[Choice]:
        view = self.snapshot.views["api"]
        return [choose(view, Spot(), Policy("eu", {}), bucket) for bucket in SAMPLE]

    def share(self, name: str = "i0") -> float:
        """The part of all weight."""
        weights = {m.instance.name: m.weight for m in self.snapshot.views["api"].members}
        return weights[name] / sum(weights.values())

    def firsts(self) -> Counter[str]:
        return Counter(choice.chosen[0].member.instance.name for choice in self.choices())

    def ejected(self) -> set[str]:
        return {name for name in self.names if not self.success(name)}


def test_what_fails_half_of_its_calls_is_ejected_and_comes_back_gradually() -> None:
    world = World()
    assert world.passes(4, {"i0": 0.5}).ejected() == {"i0"}
    for choice in world.choices():
        assert "i0" not in {ranked.member.instance.name for ranked in choice.chosen}
        assert choice.ranked[-1].member.instance.name == "i0"
        assert choice.ttl.seconds == 60
    shares = []
    for _ in range(45):
        world.passes(1, {})
        shares.append(world.share())
    assert shares[3] < 0.001
    assert max(after - before for before, after in pairwise(shares)) < 0.05
    assert shares[-1] == pytest.approx(1 / 6, abs=0.04)
    assert world.success() == 1


def test_what_goes_on_failing_is_out_for_longer_each_time() -> None:
    world = World()
    out = []
    for _ in range(120):
        out.append("i0" in world.passes(1, {"i0": 1.0}).ejected())
    spells = "".join("x" if each else " " for each in out).split()
    assert len(spells) >= 4
    assert [len(spell) for spell in spells[:3]] == [10, 20, 30]
    assert max(map(len, "".join("x" if each else " " for each in out).strip().split("x"))) <= 4


def test_what_fails_a_little_gets_less_by_the_square() -> None:
    world = World().passes(20, {"i0": 0.2})
    assert world.ejected() == set()
    assert world.success() == pytest.approx(0.8, abs=0.05)
    expected = 0.64 / 5.64
    assert world.firsts()["i0"] / len(SAMPLE) == pytest.approx(expected, abs=0.04)


def test_if_all_fail_nothing_is_ejected_and_all_are_answered_alike() -> None:
    world = World().passes(20, dict.fromkeys(EIGHT, 1.0))
    assert world.ejected() == set()
    assert len({world.success(name) for name in world.names}) == 1
    assert all(world.firsts()[name] > len(SAMPLE) / 6 * 0.7 for name in world.names)


def test_not_more_than_a_third_and_never_one_of_two() -> None:
    world = World().passes(9, {"i0": 1.0, "i1": 0.9, "i2": 0.8})
    assert world.ejected() == {"i0", "i1"}
    assert World(2).passes(9, {"i0": 1.0}).ejected() == set()


@pytest.mark.parametrize("reporters", [1, 2])
def test_few_reporters_take_half_of_the_weight_at_most(reporters: int) -> None:
    world = World()
    for _ in range(10):
        world.now += 2
        for n in range(reporters):
            for name in world.names:
                world.say(f"r{n}", name, 50, 50 if name == "i0" else 0)
        world.tick()
    assert world.success() == 0.7
    assert world.share() == pytest.approx(world.share("i1") / 2, rel=0.05)


@pytest.mark.parametrize("lying", [1, 2])
@pytest.mark.parametrize("percent", [0, 15, 60, 100])
def test_a_quarter_of_liars_changes_no_ranking(lying: int, percent: int) -> None:
    """They say that all that is good is bad, and what is bad is good."""
    failing = {"i0": percent / 100}
    lies = {name: 1.0 for name in EIGHT if failing.get(name, 0) < 0.5}
    honest = World().passes(9, failing)
    lied_to = World().passes(9, failing, lies, lying)
    assert lied_to.ejected() == honest.ejected()
    for name in honest.names:
        assert lied_to.success(name) == pytest.approx(honest.success(name), abs=0.1)
    moved = sum((honest.firsts() - lied_to.firsts()).values())
    assert moved <= 0.05 * len(SAMPLE)


def test_liars_that_raise_one_gain_nothing() -> None:
    honest = World().passes(20, dict.fromkeys(EIGHT, 0.2))
    lies = {name: 1.0 for name in EIGHT if name != "i0"}
    lied_to = World().passes(20, dict.fromkeys(EIGHT, 0.2), lies, 2)
    assert lied_to.firsts()["i0"] <= 1.3 * honest.firsts()["i0"]


def test_without_news_what_was_known_fades() -> None:
    world = World().passes(10, {"i0": 0.2})
    assert world.success() < 0.9
    found = []
    for _ in range(62):
        world.now += 1
        world.tick()
        found.append(world.success())
    assert found == sorted(found)
    assert found[-1] == 1
    assert world.reports.voices == 0
    assert world.reports.folded == {}
    world.now += 60
    world.tick()
    assert (world.reports.reporters, world.reports._turns, world.reports._latency) == (0, {}, {})


def test_an_operators_word_outranks_clients() -> None:
    world = World().passes(6, {"i0": 1.0})
    assert world.ejected() == {"i0"}
    world.swap(Change.put(Override("i0", Force.UP)))
    (member,) = [m for m in world.snapshot.views["api"].members if m.instance.name == "i0"]
    assert (member.verdict, member.weight, member.is_last_resort) == (
        Verdict.FORCED_UP, 1000, False,
    )  # fmt: skip
    assert world.passes(4, {"i0": 1.0}).ejected() == set()


def test_where_only_the_ejected_are_left_they_are_answered() -> None:
    world = World(3).passes(6, {"i0": 1.0})
    assert world.ejected() == {"i0"}
    world.swap(*(Change.put(Override(name, Force.DOWN)) for name in ("i1", "i2")))
    for choice in world.choices():
        assert [ranked.member.instance.name for ranked in choice.chosen] == ["i0"]
        assert choice.ttl.seconds == 5
    assert world.passes(1, {"i0": 1.0}).ejected() == set()


def test_a_restart_lets_what_was_ejected_in_slowly() -> None:
    world = World().passes(6, {"i0": 1.0})
    world.observed = Observed.resume(world.snapshot)
    world.reports = Reports(world.observed)
    found = []
    for _ in range(21):
        world.now += 1
        world.tick()
        found.append(world.success())
    assert found[:3] == [0.05, 0.1, 0.15]
    assert found[-1] == 1


def test_what_is_gone_is_forgotten() -> None:
    world = World().passes(6, {"i0": 1.0})
    world.swap(Change(Kind.INSTANCES, "i0", None))
    world.swap(Change(Kind.SERVICES, "api", None))
    world.now += 61
    world.tick()
    assert "i0" not in world.reports.folded
    world.tick()
    reports = world.reports
    assert (reports._ejections, reports._turns, reports._latency) == ({}, {}, {})


def test_a_new_process_is_not_the_one_before_it() -> None:
    """It is let in at once, slowly; if it fails as well it is out for longer."""
    world = World().passes(6, {"i0": 1.0})
    held = world.snapshot.topology.instances["i0"]
    for epoch, success in ((0, 0.0), (7, 0.05)):
        change = Change.put(replace(held, epoch=epoch))
        world.reports.changed(world.snapshot, [change, Change(Kind.PRESENCE, "x", None)], world.now)
        world.swap(change)
        assert world.passes(1, {}).success() == success
    world.passes(2, {"i0": 1.0})
    out = 0
    while world.success() == 0 and out < 60:
        world.passes(1, {"i0": 1.0})
        out += 1
    assert out == 20


def test_latencies_are_those_of_the_last_half_minute() -> None:
    world = World()
    world.say("r0", "i0", 10, 0)
    found = quantile_us(world.reports.latency("i0", world.now), 0.5)
    assert found == pytest.approx(1024, rel=0.1)
    world.now += 20
    slow = Outcome(1000, latency={60: 1000})
    world.reports.note(world.snapshot, Reporter("h", "r1"), "i0", slow, world.now)
    both = world.reports.latency("i0", world.now)
    assert sum(both.values()) == pytest.approx(110), "a loud one counts as a hundred calls"
    assert quantile_us(both, 0.05) == pytest.approx(1024, rel=0.1)
    assert world.reports.latency("i0", world.now + 30) == {}
    world.now += 16
    world.say("r0", "i0", 10, 0)
    assert quantile_us(world.reports.latency("i0", world.now), 0.99) > 30_000  # type: ignore[operator]


def test_voices_are_bounded_and_who_speaks_keeps_its_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MOST_VOICES", 10)
    monkeypatch.setattr(module, "MOST_IN_ALL", 25)
    world = World(4)
    for n in range(8):
        assert world.say(f"honest{n}", "i0", 20, 0)
    taken = [world.say(f"flood{n}", "i0", 20, 20) for n in range(500)]
    assert sum(taken) == 2
    world.tick()
    assert world.success() == 1
    for name in ("i1", "i2", "i3"):
        taken += [world.say(f"flood{n}", name, 20, 20) for n in range(500)]
    assert world.reports.voices == 25
    assert all(world.say(f"honest{n}", "i0", 20, 0) for n in range(8))
    # Whoever fell silent makes room.
    world.now += 20
    assert all(world.say(f"honest{n}", "i0", 20, 0) for n in range(8))
    assert world.say("late", "i0", 20, 0)
    assert world.reports.voices == 25


def test_what_the_clients_of_each_pop_saw() -> None:
    """One Pop's clients fail on their way; those of the other, and those of none, do not."""
    world = World()
    ranges = [Range(Prefix.parse("10.1.0.0/16"), "eu"), Range(Prefix.parse("2001:db8::/32"), "us")]
    world.swap(Change.put(Pop("us")), *map(Change.put, ranges))
    slow, quick = Outcome(20, failures=10, latency={60: 10}), Outcome(20, latency={40: 20})
    for host, outcome in (
        ("10.1.0.9", slow), ("10.1.0.10", slow), ("2001:db8::", quick), ("unix:", quick)
    ):  # fmt: skip
        world.reports.note(world.snapshot, Reporter(host, "r"), "i0", outcome, world.now)
    found = world.reports.by_pop(world.snapshot, "i0", world.now)
    assert {pop: seen.folded.voices for pop, seen in found.items()} == {"": 1, "eu": 2, "us": 1}
    assert found["eu"].folded.rate < 0.6
    assert found["us"].folded.rate == found[""].folded.rate == 1
    assert found["eu"].latency == {60: 20}
    assert found["us"].latency == {40: 20}
    assert sum(world.reports.latency("i0", world.now).values()) == 60
    assert world.reports.by_pop(world.snapshot, "i1", world.now) == {}


def test_reporters_are_paced_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_REPORTERS", 5)
    reports = World().reports
    one = Reporter("h", "r")
    early = [reports.is_early(one, 2.0, now) for now in (0.0, 0.5, 0.9, 1.0, 1.9, 2.1)]
    # The second may be the last of a program that ends.
    assert early == [False, False, True, False, True, False]
    # It is held to the pace that it was told.
    assert [reports.is_early(one, 20.0, now) for now in (4.0, 8.0, 9.0)] == [False, False, True]
    steady = Reporter("h", "steady")
    assert sum(reports.is_early(steady, 2.0, 0.1 * n) for n in range(1000)) >= 898
    for n in range(50):
        reports.is_early(Reporter("h", f"r{n}"), 2.0, 9.0)
    assert reports.reporters == 5


def test_a_tick_looks_at_so_much_and_goes_on_in_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LOOKED_AT_A_TICK", 1)
    world = World()
    other = Service("other", "other.mesh.internal.", (Port("http", 80),))
    instance = Instance("x0", "other", Version("1.0"), "eu", (IPv4Address("10.9.0.1"),))
    world.swap(Change.put(other), Change.put(instance))
    for n in range(8):
        for name in ("i0", "x0"):
            world.say(f"r{n}", name, 20, 20)
    world.tick()
    assert world.reports.folded.keys() == {"i0"}
    world.tick()
    assert world.reports.folded.keys() == {"i0", "x0"}


COUNT = st.integers(0, 2**32 - 1)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["r0", "r1", "r2", "r3"]),
            st.sampled_from(["i0", "i1", "i2"]),
            COUNT,
            st.floats(0, 1),
            st.floats(-100, 100),
        ),
        max_size=30,
    )
)
def test_whatever_is_reported_all_are_answered(
    told: list[tuple[str, str, int, float, float]],
) -> None:
    world = World(3)
    for who, name, calls, part, passed in told:
        world.now += passed
        world.say(who, name, calls, int(calls * part))
        world.tick()
        members = world.snapshot.views["api"].members
        assert all(1 <= member.weight <= 2000 for member in members)
        assert len(world.ejected()) <= 1
        assert len(world.choices()[0].ranked) == 3
