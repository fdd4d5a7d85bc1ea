"""What is observed, in virtual time: beats, probes, lost leases, and the signals they make."""

from collections.abc import Iterable
from ipaddress import IPv4Address

import pytest

from meshd.core.errors import Invalid
from meshd.core.model import (
    Check,
    Force,
    Instance,
    NameServer,
    Override,
    Pop,
    Port,
    Presence,
    Record,
    Service,
    Zone,
)
from meshd.core.selector import Version
from meshd.core.signals import Signal
from meshd.core.snapshot import Snapshot
from meshd.core.topology import Change, Kind, Topology
from meshd.core.verdict import Verdict
from meshd.daemon.observed import Observed
from meshd.daemon.told import Told

CHECK = Check("tcp", rise=1, fall=2)


class World:
    """A snapshot, what is observed, and a clock; swaps after each step as the pump does."""

    def __init__(self, names: Iterable[str], check: Check | None = None, slow_s: float = 0) -> None:
        self.now = 1000.0
        self.revision = 1
        self.service = Service(
            "api", "api.mesh.internal.", (Port("http", 80),), check=check, slow_start_s=slow_s
        )
        records: list[Record] = [
            Zone("mesh.internal.", (NameServer("ns.example."),), "h@example"),
            Pop("eu"),
            Pop("us"),
            self.service,
        ]
        for name in names:
            records += [self.instance(name), Presence(name)]
        self.snapshot = Snapshot.build(Topology.load("x", 1, records))
        self.observed = Observed.resume(self.snapshot)

    @staticmethod
    def instance(name: str) -> Instance:
        """A registered instance; its name begins with its Pop."""
        address = IPv4Address(0x0A000001 + sum(name.encode()) * 256 + len(name))
        return Instance(name, "api", Version("1.0"), name[:2], (address,), registered=True)

    def swap(self, changes: tuple[Change, ...] = ()) -> None:
        pending, self.observed.pending = self.observed.pending, {}
        self.revision += bool(changes)
        self.snapshot = self.snapshot.advance(changes, self.revision, dict(pending))

    def commits(self, *changes: Change) -> None:
        self.observed.changed(self.snapshot, changes, self.now)
        self.swap(changes)

    def loses(self, *names: str) -> None:
        self.commits(*(Change(Kind.PRESENCE, name, None) for name in names))

    def gets(self, *names: str) -> None:
        self.commits(*(Change.put(Presence(name)) for name in names))

    def told(self, name: str, load: float | None = None, lame_duck: bool = False) -> None:
        self.observed.beat(self.snapshot, name, Told(lame_duck=lame_duck), load, self.now)
        self.swap()

    def probed(self, name: str, *passed: bool) -> None:
        for each in passed:
            self.observed.probe(self.snapshot, name, each, CHECK, self.now)
            self.swap()

    def passes(self, seconds: int) -> None:
        for _ in range(seconds):
            self.now += 1
            self.observed.tick(self.snapshot, self.now)
            self.swap()

    def restarts(self) -> None:
        """Another process goes on from the signals that were saved, with another clock."""
        self.observed = Observed.resume(self.snapshot)
        self.now = 5.0

    def signal(self, name: str) -> Signal:
        return self.snapshot.signals.get(name, Signal())

    def verdict(self, name: str) -> Verdict:
        return self.snapshot.verdict(self.snapshot.topology.instances[name])

    def with_verdict(self, verdict: Verdict) -> set[str]:
        return {name for name in self.snapshot.topology.instances if self.verdict(name) is verdict}


FOUR = ("eu-0", "eu-1", "eu-2", "eu-3")


def test_a_beat_tells_a_load() -> None:
    world = World(FOUR)
    world.told("eu-0", 0.42)
    assert world.signal("eu-0") == Signal(0.4)
    for wrong in (float("nan"), -1.0):
        with pytest.raises(Invalid, match="not within"):
            world.told("eu-0", wrong)
    assert world.signal("eu-0") == Signal(0.4)
    world.told("eu-0")
    assert world.signal("eu-0").load == 0.4, "a beat without a load leaves the load"


def test_a_load_moves_the_share_fades_and_is_forgotten() -> None:
    world = World(FOUR)
    for name in FOUR:
        world.told(name, 0.95 if name == "eu-0" else 0.5)
    world.passes(2)
    loaded = world.signal("eu-0").share
    assert loaded < 0.5
    shares = []
    for _ in range(65):
        world.passes(1)
        shares.append(world.signal("eu-0").share)
    assert max(shares[:5]) <= loaded
    assert shares[8:] == sorted(shares[8:]), "from the tenth second on it only rises"
    assert 0.5 < shares[40] < 1
    assert world.signal("eu-0") == Signal()
    assert world.observed.shares.learnt == {}


def test_the_last_who_told_a_load_stops_the_spilling() -> None:
    """One that never told a load spills with its Pop, and stops with it."""
    world = World(("eu-0", "eu-1", "us-0"))
    for _ in range(60):
        world.told("eu-0", 1.0)
        world.passes(1)
    assert world.signal("eu-1").kept < 1
    world.passes(65)
    assert {world.signal(name).kept for name in ("eu-0", "eu-1", "us-0")} == {1.0}


def test_newcomers_start_slowly_and_get_all() -> None:
    world = World(FOUR, slow_s=20)
    world.commits(Change.put(world.instance("eu-9")), Change.put(Presence("eu-9")))
    assert world.signal("eu-9").share == 0.1
    world.passes(10)
    assert 0.4 <= world.signal("eu-9").share <= 0.6
    world.passes(11)
    assert world.signal("eu-9").share == 1, "though nobody told a load"
    assert {world.signal(name).share for name in FOUR} == {1.0}


@pytest.mark.parametrize("there", [(), ("us-1", "us-2")])
def test_who_has_no_peers_in_its_pop_starts_at_once(there: tuple[str, ...]) -> None:
    """Its clients could go nowhere else, and a whole fleet that starts changes nothing for it."""
    world = World(there, slow_s=20)
    world.commits(
        *(Change.put(each) for name in FOUR for each in (world.instance(name), Presence(name)))
    )
    assert not world.observed.shares.ready_since
    assert not world.snapshot.signals
    world.commits(Change.put(world.instance("eu-9")), Change.put(Presence("eu-9")))
    assert world.observed.shares.ready_since.keys() == {"eu-9"}


def test_one_that_is_up_again_starts_slowly() -> None:
    world = World(FOUR, CHECK, slow_s=20)
    world.probed("eu-0", False, False)
    assert world.verdict("eu-0") is Verdict.DOWN
    world.passes(1)
    world.probed("eu-0", True)
    assert world.verdict("eu-0") is Verdict.UP
    assert world.signal("eu-0").share == 0.1
    world.passes(22)
    assert world.signal("eu-0").share == 1


def test_a_new_instance_with_a_check_waits_for_a_probe() -> None:
    world = World(FOUR, CHECK)
    world.commits(Change.put(world.instance("eu-9")), Change.put(Presence("eu-9")))
    assert world.verdict("eu-9") is Verdict.RECOVERING
    world.probed("eu-9", True)
    assert world.verdict("eu-9") is Verdict.UP


def test_not_more_than_half_go_within_a_minute() -> None:
    world = World(FOUR)
    world.loses(*FOUR)
    assert world.with_verdict(Verdict.DOWN) == {"eu-0", "eu-1"}
    assert world.with_verdict(Verdict.FAILING) == {"eu-2", "eu-3"}
    assert world.signal("eu-2").held
    world.passes(59)
    assert world.with_verdict(Verdict.FAILING) == {"eu-2", "eu-3"}
    world.passes(2)
    assert world.with_verdict(Verdict.DOWN) == set(FOUR)
    world.gets("eu-3")
    assert world.verdict("eu-3") is Verdict.UP
    assert not world.signal("eu-3").held


def test_probes_and_leases_share_one_budget() -> None:
    world = World(FOUR, CHECK)
    world.probed("eu-3", False, False)
    world.loses("eu-0", "eu-1")
    assert world.with_verdict(Verdict.DOWN) == {"eu-0", "eu-3"}
    assert world.with_verdict(Verdict.FAILING) == {"eu-1"}
    world.probed("eu-3", True)
    world.loses()
    world.passes(1)
    assert world.with_verdict(Verdict.DOWN) == {"eu-0", "eu-1"}


def test_an_operators_word_knows_no_budget() -> None:
    world = World(FOUR)
    world.commits(Change.put(Override("eu-*", Force.DOWN)))
    assert world.with_verdict(Verdict.FORCED_DOWN) == set(FOUR)


def test_after_the_store_was_away_a_loss_is_not_believed_at_once() -> None:
    world = World(FOUR)
    world.observed.store_away(world.now)
    world.passes(10)
    world.loses("eu-0")
    assert world.verdict("eu-0") is Verdict.FAILING
    world.passes(29)
    assert world.verdict("eu-0") is Verdict.FAILING
    world.passes(2)
    assert world.verdict("eu-0") is Verdict.DOWN
    world.loses("eu-1")
    assert world.verdict("eu-1") is Verdict.DOWN, "the store is back for long"


def test_after_a_load_of_the_whole_store_a_loss_is_not_believed_at_once() -> None:
    world = World(FOUR)
    before = world.snapshot
    world.snapshot = before.advance([Change(Kind.PRESENCE, "eu-0", None)], 9)
    world.observed.reloaded(before, world.snapshot, world.now)
    world.swap()
    assert world.verdict("eu-0") is Verdict.FAILING
    world.passes(31)
    assert world.verdict("eu-0") is Verdict.DOWN


def test_a_restart_goes_on_where_it_was() -> None:
    world = World(FOUR, CHECK)
    world.probed("eu-3", False, False)
    for _ in range(240):
        for name in FOUR[:3]:
            world.told(name, 0.8 if name == "eu-0" else 0.4)
        world.passes(1)
    saved = {name: world.signal(name) for name in FOUR}
    assert saved["eu-0"].share < 0.6
    world.restarts()
    for _ in range(20):
        world.passes(1)
        for name in FOUR:
            assert world.signal(name).share == pytest.approx(saved[name].share, abs=0.11)
            assert world.verdict(name) is (Verdict.DOWN if name == "eu-3" else Verdict.UP)
    # The first probe of the new process decides alone.
    world.probed("eu-3", True)
    assert world.verdict("eu-3") is Verdict.UP


def test_after_a_restart_who_tells_no_more_is_forgotten() -> None:
    world = World(FOUR)
    for name in FOUR:
        world.told(name, 1.0 if name == "eu-0" else 0.4)
    world.passes(3)
    world.restarts()
    world.passes(70)
    assert {world.signal(name) for name in FOUR} == {Signal()}


def test_a_newcomer_is_not_held_down_by_a_restart() -> None:
    world = World(FOUR, slow_s=20)
    world.commits(Change.put(world.instance("eu-9")), Change.put(Presence("eu-9")))
    world.restarts()
    world.passes(20)
    assert world.signal("eu-9").share == 1


def test_a_lame_duck_drains_and_says_so_itself() -> None:
    world = World(FOUR, CHECK)
    world.told("eu-0", 0.3, lame_duck=True)
    assert world.verdict("eu-0") is Verdict.DRAINING
    world.probed("eu-0", False, False)
    assert world.verdict("eu-0") is Verdict.DOWN
    world.probed("eu-0", True)
    assert world.verdict("eu-0") is Verdict.DRAINING
    world.told("eu-0", 0.3)
    assert world.verdict("eu-0") is Verdict.UP


def test_one_that_keeps_going_down_stays_down() -> None:
    world = World(FOUR, CHECK)
    for _ in range(2):
        world.probed("eu-0", False, False)
        world.passes(2)
        world.probed("eu-0", True)
    assert world.verdict("eu-0") is Verdict.RECOVERING, "damped after the second time"
    waited_s = 0
    while world.verdict("eu-0") is Verdict.RECOVERING and waited_s < 300:
        world.passes(2)
        world.probed("eu-0", True)
        waited_s += 2
    assert world.verdict("eu-0") is Verdict.UP
    assert waited_s > 10


def test_what_is_gone_is_forgotten() -> None:
    world = World(FOUR, CHECK)
    world.told("eu-0", 0.5)
    world.probed("eu-0", True)
    world.passes(1)
    gone = (Change(Kind.PRESENCE, "eu-0", None), Change(Kind.INSTANCES, "eu-0", None))
    world.commits(*gone)
    world.passes(1)
    observed, shares = world.observed, world.observed.shares
    for held in (observed.told, observed.votes.own, shares.learnt, shares.ready_since):
        assert "eu-0" not in held
    assert "eu-0" not in observed.losses.gone["api"]


def test_who_leaves_in_good_order_uses_no_budget() -> None:
    world = World(FOUR)
    left = [
        Change(kind, f"eu-{n}", None) for n in (0, 1) for kind in (Kind.INSTANCES, Kind.PRESENCE)
    ]
    world.commits(*left, Change(Kind.PRESENCE, "eu-2", None))
    assert world.verdict("eu-2") is Verdict.DOWN


def test_a_service_that_is_gone_does_not_end_the_ticks() -> None:
    world = World(FOUR)
    world.told("eu-0", 0.5)
    world.commits(Change(Kind.SERVICES, "api", None))
    world.passes(3)
    assert "api" not in world.snapshot.views
