"""What cores tell each other, in virtual time: any order, any loss, and what is no message."""

import random
from collections.abc import Collection, Iterator
from ipaddress import IPv4Address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshd.core.errors import Refused
from meshd.core.model import Check, Instance, NameServer, Pop, Port, Presence, Record, Service, Zone
from meshd.core.selector import Version
from meshd.core.signals import NO_SIGNAL, Signal
from meshd.core.snapshot import Snapshot
from meshd.core.topology import Change, Kind, Topology
from meshd.core.vantage import decider, probers
from meshd.core.verdict import Verdict
from meshd.daemon.duties import Duties
from meshd.daemon.exchange import Exchange
from meshd.daemon.hearing import MOST_ENTRIES, Hearing, Speaker
from meshd.daemon.members import PREFIX, Members
from meshd.daemon.observed import Observed
from meshd.daemon.pump import Pump
from meshd.daemon.state import State
from meshd.daemon.store.base import Contents, Item
from meshd.daemon.store.memory import MemoryStore
from meshd.daemon.tellings import everything, news_of
from meshd.daemon.told import News, Told
from meshd.v1 import cluster_pb2 as pb
from meshd.v1 import topology_pb2

CORES = ("a", "b", "c")
CHECK = Check("tcp", rise=1, fall=2)
SERVICES = ("s0", "s1", "s2", "s3")
CHECKED = ("s0", "s1")
NAMES = tuple(f"{service}-{n}" for service in SERVICES for n in range(4))


def instance(name: str) -> Instance:
    address = f"10.0.{NAMES.index(name) if name in NAMES else 99}.1"
    return Instance(name, name[:2], Version("1.0"), "eu", (IPv4Address(address),), registered=True)


def records() -> Iterator[Record]:
    yield Zone("mesh.internal.", (NameServer("ns.example."),), "h@example")
    yield Pop("eu")
    for service in SERVICES:
        check = CHECK if service in CHECKED else None
        yield Service(
            service, f"{service}.mesh.internal.", (Port("http", 80),), check=check, slow_start_s=5
        )
    for name in NAMES:
        yield instance(name)
        yield Presence(name)


class Core:
    """One core without tasks: what it is told and what it tells."""

    def __init__(self, name: str, able: Collection[str] = CORES) -> None:
        self.name = name
        self.state = State(Snapshot.build(Topology.load("x", 1, records())), 0)
        self.observed = Observed.resume(self.state.snapshot, Duties(name, 2))
        self.pump = Pump(MemoryStore(), self.state, self.observed)
        self.members = Members(MemoryStore(), node(name))
        self.hearing = Hearing(self.state, self.pump, self.members)
        items = (Item(PREFIX + n, node(n).SerializeToString(), 1, 1) for n in CORES)
        self.members.loaded(Contents("x", 1, tuple(items)))
        self.observed.share(self.state.snapshot, able, able, 0.0)
        self.news = {other: News() for other in CORES if other != name}
        self.observed.news |= set(self.news.values())
        self.speakers: dict[str, Speaker] = {}

    def swap(self, *changes: Change) -> None:
        pending, self.observed.pending = self.observed.pending, {}
        revision = self.state.snapshot.topology.revision + bool(changes)
        self.state.advance(changes, revision, dict(pending))

    def commits(self, now: float, *changes: Change) -> None:
        revision = self.state.snapshot.topology.revision + 1
        self.observed.changed(self.state.snapshot, changes, now, revision)
        self.swap(*changes)

    def tells(self, other: str, now: float) -> list[pb.ExchangeRequest]:
        return list(news_of(self.observed, self.state, self.news[other], now))

    def tells_all(self, now: float) -> list[pb.ExchangeRequest]:
        return list(everything(self.observed, self.state, now))

    def hears(self, other: str, message: pb.ExchangeRequest, now: float) -> None:
        if other not in self.speakers:
            hello = pb.ExchangeRequest(store_id="x", node=node(other))
            self.speakers[other] = self.hearing.admit(hello, now)
        sent = pb.ExchangeRequest.FromString(message.SerializeToString())
        self.hearing.take(self.speakers[other], sent, now)
        self.swap()

    def signals(self) -> dict[str, Signal]:
        return {
            name: self.state.snapshot.signals.get(name, NO_SIGNAL)
            for name in self.state.snapshot.topology.instances
        }


def node(name: str) -> pb.Node:
    return pb.Node(name=name, address=f"{name}:1", version="1", session=f"session of {name}")


def all_told(cores: dict[str, Core], now: float) -> None:
    """Everyone tells everyone everything, and what came of it."""
    for _ in range(2):
        for core in cores.values():
            told = core.tells_all(now)
            for other in cores.values():
                if other is not core:
                    for message in told:
                        other.hears(core.name, message, now)


class Mess:
    """Things happen to cores, and messages come in any order, or not at all."""

    def __init__(self, seed: int, loss: float) -> None:
        self.chance = random.Random(seed)
        self.loss = loss
        self.cores = {name: Core(name) for name in CORES}
        self.home = {name: self.chance.choice(CORES) for name in NAMES}
        self.under_way: list[tuple[str, str, pb.ExchangeRequest]] = []
        self.now = 100.0

    def step(self) -> None:
        self.now += self.chance.choice((0.0, 0.1, 1.0))
        core = self.cores[self.chance.choice(CORES)]
        do = self.chance.choice((self.beat, self.probe, self.tick, self.tell, self.deliver))
        do(core, self.chance.choice(NAMES))
        core.swap()

    def beat(self, _: Core, name: str) -> None:
        core, load = self.cores[self.home[name]], round(self.chance.random(), 2)
        core.observed.beat(core.state.snapshot, name, Told(), load, self.now)
        core.swap()

    def probe(self, core: Core, name: str) -> None:
        if core.name in core.observed.duties.probers(name) and name[:2] in CHECKED:
            passed = self.chance.random() < 0.5
            core.observed.probe(core.state.snapshot, name, passed, CHECK, self.now)

    def tick(self, core: Core, _: str) -> None:
        core.observed.tick(core.state.snapshot, self.now)

    def tell(self, core: Core, _: str) -> None:
        for other in core.news:
            is_all = self.chance.random() < 0.2
            sent = core.tells_all(self.now) if is_all else core.tells(other, self.now)
            self.under_way += [(core.name, other, each) for each in sent]

    def deliver(self, core: Core, _: str) -> None:
        if self.under_way:
            at = self.chance.randrange(len(self.under_way))
            sender, to, message = self.under_way.pop(at)
            if self.chance.random() >= self.loss:
                self.cores[to].hears(sender, message, self.now)


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 1 << 30), steps=st.integers(5, 60), loss=st.sampled_from([0.0, 0.3, 1]))
def test_after_everything_was_told_all_hold_the_same(seed: int, steps: int, loss: float) -> None:
    """Whatever order messages come in, and whichever are lost."""
    mess = Mess(seed, loss)
    for _ in range(steps):
        mess.step()
    all_told(mess.cores, mess.now)
    a, b, c = (mess.cores[name].signals() for name in CORES)
    assert a == b == c


def test_a_failed_probe_of_one_takes_nobody_out() -> None:
    cores = {name: Core(name) for name in CORES}
    probers = cores["a"].observed.duties.probers("s0-1")
    assert len(probers) == 2
    first, second = probers
    now = 10.0
    for _ in range(6):
        now += 1
        for name, passed in ((first, False), (second, True)):
            core = cores[name]
            core.observed.probe(core.state.snapshot, "s0-1", passed, CHECK, now)
            core.swap()
        all_told(cores, now)
        assert {core.signals()["s0-1"].verdict for core in cores.values()} == {Verdict.UP}
    for _ in range(3):
        now += 1
        core = cores[second]
        core.observed.probe(core.state.snapshot, "s0-1", False, CHECK, now)
        core.swap()
        all_told(cores, now)
    assert {core.signals()["s0-1"].verdict for core in cores.values()} == {Verdict.DOWN}


def test_before_the_other_prober_spoke_what_is_held_counts() -> None:
    cores = {name: Core(name) for name in CORES}
    first = cores["a"].observed.duties.probers("s0-1")[0]
    for _ in range(4):
        core = cores[first]
        core.observed.probe(core.state.snapshot, "s0-1", False, CHECK, 10.0)
        core.swap()
        all_told(cores, 10.0)
    assert {core.signals()["s0-1"].verdict for core in cores.values()} == {Verdict.UP}


def test_what_the_store_did_is_not_undone_by_one_that_has_not_heard_of_it() -> None:
    """All presences go at once: half of them are held back on all cores, at each moment."""
    cores = {name: Core(name) for name in CORES}
    deciding = cores["a"].observed.duties.decider("s2")
    other = cores[next(name for name in CORES if name != deciding)]
    lost = [f"s2-{n}" for n in range(4)]
    # Signals from before are on their way.
    cores[deciding].observed.beat(cores[deciding].state.snapshot, "s2-3", Told(), 0.5, 10.0)
    cores[deciding].swap()
    early = cores[deciding].tells_all(10.0)
    gone = [Change(Kind.PRESENCE, name, None) for name in lost]
    other.commits(10.0, *gone)
    held = {name for name in lost if other.signals()[name].held}
    assert len(held) == 2
    for message in early:
        other.hears(deciding, message, 10.1)
        assert {name for name in lost if other.signals()[name].held} == held
    cores[deciding].commits(10.2, *gone)
    for message in cores[deciding].tells_all(10.3):
        other.hears(deciding, message, 10.3)
    assert other.signals()["s2-3"].load == 0.5
    assert {name for name in lost if other.signals()[name].held} == held


def test_signals_of_what_is_not_known_yet_wait() -> None:
    cores = {name: Core(name) for name in CORES}
    deciding = cores["a"].observed.duties.decider("s1")
    other = cores[next(name for name in CORES if name != deciding)]
    came = Change.put(instance("s1-9"))
    cores[deciding].commits(5.0, came)
    core = cores[deciding]
    for prober in core.observed.duties.probers("s1-9"):
        if prober == deciding:
            core.observed.probe(core.state.snapshot, "s1-9", True, CHECK, 6.0)
        else:
            vote = pb.Vote(instance="s1-9", verdict="up")
            core.hears(prober, pb.ExchangeRequest(votes=[vote]), 6.0)
    core.swap()
    core.observed.beat(core.state.snapshot, "s1-9", Told(), 0.7, 6.0)
    core.swap()
    for message in core.tells_all(6.0):
        other.hears(deciding, message, 6.0)
    other.commits(7.0, came)
    assert other.signals()["s1-9"] == core.signals()["s1-9"]
    assert other.signals()["s1-9"].load == 0.7


def test_only_the_decider_is_believed() -> None:
    a = Core("a")
    for service in SERVICES:
        decider = a.observed.duties.decider(service)
        for liar in {"b", "c"} - {decider}:
            change = topology_pb2.SignalChange(instance=f"{service}-1")
            change.signal.verdict = "down"
            a.hears(liar, pb.ExchangeRequest(signals=[change], revision=9), 1.0)
    assert set(a.signals().values()) == {NO_SIGNAL}


def a_minute_of_life(cores: dict[str, Core], now: float) -> None:
    """One of a service has too much to do, and one is down."""
    for core in cores.values():
        snapshot = core.state.snapshot
        if core.observed.duties.decides("s0"):
            for name, load in (("s0-0", 0.9), ("s0-1", 0.4), ("s0-2", 0.4)):
                core.observed.beat(snapshot, name, Told(), load, now)
        for name in ("s0-0", "s0-1", "s0-2", "s0-3"):
            if core.name in core.observed.duties.probers(name):
                core.observed.probe(snapshot, name, name != "s0-3", CHECK, now)
        core.observed.tick(snapshot, now)
        core.swap()
    all_told(cores, now)


def test_a_new_decider_goes_on_without_a_jump() -> None:
    """Down stays down, shares stay: though it decides by itself from one moment to the next."""
    cores = {name: Core(name) for name in CORES}
    for second in range(60):
        a_minute_of_life(cores, 10.0 + second)
    before = cores["a"].signals()
    assert before["s0-3"].verdict is Verdict.DOWN
    assert before["s0-0"].share < 0.7
    del cores[cores["a"].observed.duties.decider("s0")]
    for core in cores.values():
        core.observed.share(core.state.snapshot, list(cores), list(cores), 70.0)
        core.swap()
        assert core.signals() == before
    for second in range(4):
        for core in cores.values():
            core.observed.tick(core.state.snapshot, 70.0 + second)
            core.swap()
            for name, signal in core.signals().items():
                assert signal.share == pytest.approx(before[name].share, abs=0.051)
                assert signal.verdict is before[name].verdict
                assert signal.held == before[name].held


def test_a_stranger_is_refused() -> None:
    a = Core("a")
    for hello, why in (
        (pb.ExchangeRequest(store_id="y", node=node("b")), "another store"),
        (pb.ExchangeRequest(store_id="x", node=node("z")), "no other core"),
        (pb.ExchangeRequest(store_id="x", node=node("a")), "no other core"),
        (pb.ExchangeRequest(store_id="x"), "no other core"),
    ):
        with pytest.raises(Refused, match=why):
            a.hearing.admit(hello, 1.0)
    a.hears("b", pb.ExchangeRequest(), 1.0)
    other = node("b")
    other.session = "another"
    with pytest.raises(Refused, match="another process"):
        a.hearing.admit(pb.ExchangeRequest(store_id="x", node=other), 2.0)
    # Once it is silent, its successor is heard.
    a.hearing.admit(pb.ExchangeRequest(store_id="x", node=other), 9.0)
    a.hearing.admit(pb.ExchangeRequest(store_id="x", node=other), 9.5)
    with pytest.raises(Refused, match="another stream"):
        a.hears("b", pb.ExchangeRequest(), 9.0)


NAN, INF = float("nan"), float("inf")


def _lies() -> Iterator[pb.ExchangeRequest]:
    for number in (NAN, INF, -1.0, 1e300):
        yield pb.ExchangeRequest(told=[pb.Told(instance="s2-1", load=number)])
        yield pb.ExchangeRequest(told=[pb.Told(instance="s2-1", age_s=number)])
        yield pb.ExchangeRequest(told=[pb.Told(instance="s2-1", load=0.5, load_age_s=number)])
        change = topology_pb2.SignalChange(instance="s2-1")
        change.signal.verdict, change.signal.load = "up", number
        yield pb.ExchangeRequest(signals=[change], revision=2)
    for verdict in ("forced up", "draining", "x" * 10_000):
        yield pb.ExchangeRequest(votes=[pb.Vote(instance="s0-1", verdict=verdict)])
    outcome = pb.HeardOutcome(instance="s2-1", attempts=1, failures=5)
    yield pb.ExchangeRequest(heard=[pb.Heard(host="h", reporter="r", outcomes=[outcome])])
    outcome = pb.HeardOutcome(instance="s2-1", attempts=5, failures=5)
    yield pb.ExchangeRequest(heard=[pb.Heard(host="", reporter="r", outcomes=[outcome])])
    yield pb.ExchangeRequest(is_whole=True, decides=["", "x" * 100_000, *SERVICES])


def test_a_liar_is_counted_and_harms_nobody() -> None:
    a = Core("a", ("a",))
    a.members.hear("b", 1.0)
    before = a.signals()
    for lie in _lies():
        ignored = a.hearing.ignored.total()
        a.hears("b", lie, 1.0)
        is_number_that_counts = bool(lie.told and lie.told[0].load == 1e300)
        assert a.hearing.ignored.total() > ignored or lie.is_whole or is_number_that_counts
    assert {name for name, signal in a.signals().items() if signal != before[name]} <= {"s2-1"}
    assert a.signals()["s2-1"].verdict is Verdict.UP


def test_a_flood_is_bounded() -> None:
    a = Core("a")
    for number in range(40):
        names = [f"x{number}-{n}" for n in range(MOST_ENTRIES + 100)]
        message = pb.ExchangeRequest(revision=5)
        for name in names:
            message.told.add(instance=name, load=0.5)
            message.votes.add(instance=name, verdict="down")
            change = message.signals.add(instance=name)
            change.signal.verdict = "down"
        a.hears("b", message, 1.0)
    assert a.hearing.ignored["many"] >= 40 * 3 * 100
    assert not a.observed.told
    assert len(a.observed.adopted._senders["b"].signals) <= 10_000 + len(NAMES)
    assert len(a.speakers["b"].signals) <= 10_000 + len(NAMES) + MOST_ENTRIES


def test_who_does_not_decide_changes_nothing_by_itself() -> None:
    a = Core("a")
    elsewhere = next(s for s in SERVICES if not a.observed.duties.decides(s))
    a.observed.beat(a.state.snapshot, f"{elsewhere}-1", Told(), 0.8, 1.0)
    a.observed.probe(a.state.snapshot, f"{elsewhere}-1", False, CHECK, 1.0)
    a.observed.tick(a.state.snapshot, 2.0)
    a.swap()
    assert set(a.signals().values()) == {NO_SIGNAL}
    assert a.observed.told[f"{elsewhere}-1"].load == 0.8


def test_what_a_dead_decider_left_undone_is_done() -> None:
    a = Core("a")
    service = next(s for s in SERVICES if not a.observed.duties.decides(s))
    a.observed.beat(a.state.snapshot, f"{service}-1", Told(), 0.8, 1.0)
    moved = a.observed.share(a.state.snapshot, (), ("a",), 2.0)
    a.swap()
    assert service in moved.taken
    assert a.signals()[f"{service}-1"].load == 0.8


def test_who_beats_at_a_core_that_is_cut_off_from_the_store_is_not_lost() -> None:
    a = Core("a", ("a",))
    beat = pb.Told(instance="s2-1", load=0.4)
    for number in range(60):
        now = 10.0 + number
        state = pb.NodeState(store_age_s=now - 10.0)
        a.hears("b", pb.ExchangeRequest(state=state, told=[beat]), now)
        if number == 5:
            a.commits(now, Change(Kind.PRESENCE, "s2-1", None))
        a.observed.tick(a.state.snapshot, now)
        a.swap()
        if number >= 5:
            assert a.signals()["s2-1"].held, number
    # It is silent there too.
    for number in range(32):
        a.observed.tick(a.state.snapshot, 70.0 + number)
        a.swap()
    assert not a.signals()["s2-1"].held
    a.hears("b", pb.ExchangeRequest(state=pb.NodeState(store_age_s=0.1)), 110.0)
    a.hears("b", pb.ExchangeRequest(told=[pb.Told(instance="s2-2", load=0.4)]), 110.0)
    a.commits(110.0, Change(Kind.PRESENCE, "s2-2", None))
    assert not a.signals()["s2-2"].held, "it could renew its lease"


def looked(exchange: Exchange, core: Core, now: float, *heard: str) -> tuple[str, ...]:
    """Who duties go to after others were heard, and told everything."""
    for name in heard:
        state = pb.NodeState(store_age_s=0.1, is_settled=True)
        core.hears(name, pb.ExchangeRequest(state=state, is_whole=True), now)
    exchange.look(now)
    return core.observed.duties.able


def test_who_comes_or_was_away_hears_the_others_before_it_decides() -> None:
    core = Core("a", ("a",))
    exchange = Exchange(core.state, core.pump, core.members, lambda: pb.NodeState(store_age_s=0.1))
    core.hearing = exchange.hearing
    assert looked(exchange, core, 0.0) == ("a",), "nobody is heard"
    core.members.hear("b", 0.2, pb.NodeState(store_age_s=0.1, is_settled=True))
    assert looked(exchange, core, 0.2) == ("b",), "b did not tell everything yet"
    assert not exchange.own_state(0.2).is_settled
    assert looked(exchange, core, 0.4, "b", "c") == ("a", "b", "c")
    # This process stands still for a minute: that nobody was heard is no wonder.
    assert looked(exchange, core, 60.0) == ("b", "c")
    assert looked(exchange, core, 60.2, "b") == ("b", "c")
    assert looked(exchange, core, 60.4, "b", "c") == ("a", "b", "c")
    # It is cut off: it goes on alone, and comes back as one that has to hear the others.
    found = [looked(exchange, core, 60.4 + 0.2 * number) for number in range(25)]
    assert (found[0], found[-1]) == (("a", "b", "c"), ("a",))
    core.members.hear("b", 65.5)
    assert looked(exchange, core, 65.5) == ("b",)


def test_a_vote_that_is_not_told_again_is_no_more() -> None:
    """A core left an instance to others, and the message that said so was lost."""
    a = Core("a", ("a", "b"))
    name = next(
        name
        for service in CHECKED
        for name in (f"{service}-{n}" for n in range(4))
        if set(probers(name, CORES, 2)) == {"a", "c"} and decider(service, CORES) == "a"
    )
    a.hears("b", pb.ExchangeRequest(votes=[pb.Vote(instance=name, verdict="up")]), 1.0)
    a.hears("b", pb.ExchangeRequest(is_whole=True), 1.0)
    a.observed.share(a.state.snapshot, CORES, CORES, 2.0)
    a.hears("c", pb.ExchangeRequest(votes=[pb.Vote(instance=name, verdict="down")]), 3.0)
    for _ in range(2):
        a.observed.probe(a.state.snapshot, name, False, CHECK, 3.0)
    a.swap()
    assert a.signals()[name].verdict is Verdict.UP, "as far as b says"
    a.hears("b", pb.ExchangeRequest(is_whole=True), 4.0)
    assert a.signals()[name].verdict is Verdict.DOWN


def test_of_the_answerers_of_a_core_some_are_remembered() -> None:
    one, names = Core("a"), [f"dns{n}/0" for n in range(1100)]
    speaker = one.hearing.admit(pb.ExchangeRequest(store_id="x", node=node("b")), 0.0)
    said = pb.NodeState(answerers=names, confirmed=dict.fromkeys([*names, "stranger"], 7))
    one.hearing.take(speaker, pb.ExchangeRequest(state=said), 0.0)
    held = one.members.states["b"]
    assert set(held.confirmed) == set(held.answerers) == set(names[:1000])
