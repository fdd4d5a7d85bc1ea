"""What loads make of shares: a table to read, and what holds for any loads."""

from collections.abc import Mapping
from ipaddress import IPv4Address
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshd.core.balance import START_SHARE, Learnt, rebalanced, resumed
from meshd.core.model import Instance, NameServer, Pop, Port, Record, Service, Zone
from meshd.core.selector import Version
from meshd.core.signals import Signal
from meshd.core.snapshot import ServiceView, Snapshot
from meshd.core.topology import Topology
from meshd.core.verdict import Verdict

Signals = Mapping[str, Signal]


def view_of(signals: Signals, slow_start_s: float = 10) -> ServiceView:
    """A service with an instance for each signal; names begin with their Pop."""
    pops = sorted({name[:2] for name in signals})
    records: list[Record] = [
        Zone("mesh.internal.", (NameServer("ns.example."),), "h@example"),
        *(Pop(pop) for pop in pops),
        Service("api", "api.mesh.internal.", (Port("http", 80),), slow_start_s=slow_start_s),
    ]
    for number, name in enumerate(signals):
        address = IPv4Address(0x0A000001 + number)
        records.append(Instance(name, "api", Version("1.0"), name[:2], (address,)))
    return Snapshot.build(Topology.load("x", 1, records), signals).views["api"]


def loaded(*loads: float, pop: str = "eu") -> dict[str, Signal]:
    return {f"{pop}-{n}": Signal(load) for n, load in enumerate(loads)}


class Play:
    """Seconds that pass while loads stay as they are."""

    def __init__(self, signals: Signals, slow_start_s: float = 10) -> None:
        self.signals = dict(signals)
        self.learnt: dict[str, Learnt] = {}
        self.slow_start_s = slow_start_s
        self.swaps = 0

    def passes(
        self, seconds: int, counts: float = 1.0, ages: Mapping[str, float] | None = None
    ) -> "Play":
        for second in range(seconds):
            view = view_of(self.signals, self.slow_start_s)
            told = dict.fromkeys(self.signals, counts)
            now = {name: age + second for name, age in (ages or {}).items()}
            known, changed = rebalanced(view, self.learnt, told, 1.0, now)
            self.learnt.update(known)
            self.signals.update(changed)
            self.swaps += bool(changed)
        return self

    @property
    def shares(self) -> list[float]:
        return [self.signals[name].share for name in sorted(self.signals)]

    def kept(self, pop: str) -> float:
        return min(s.kept for name, s in self.signals.items() if name.startswith(pop))


@pytest.mark.parametrize(
    ("loads", "at_once", "after_5_min"),
    [
        ((0.5, 0.5, 0.5, 0.5), (1, 1, 1, 1), (1, 1, 1, 1)),
        # Within two steps of the median nothing happens.
        ((0.6, 0.5, 0.5, 0.4), (1, 1, 1, 1), (1, 1, 1, 1)),
        # Headroom 5 % against 50 %: a tenth of their share, after some TTLs.
        ((0.95, 0.5, 0.5, 0.5), (0.4, 1, 1, 1), (0.15, 1, 1, 1)),
        ((0.95, 0.4, 0.5, 0.6), (0.45, 1.05, 1, 1), (0.25, 1.15, 1, 1)),
        ((0.75, 0.5, 0.5, 0.5), (0.8, 1, 1, 1), (0.65, 1, 1, 1)),
        # Who is idle gets more, but not more than twice a fair share.
        ((0, 0.5, 0.5, 0.5), (1.25, 1, 1, 1), (1.5, 1, 1, 1)),
        ((0, 0.9, 0.9, 0.9), (1.55, 1, 1, 1), (2, 1, 1, 1)),
        # All are full: nobody is better off elsewhere.
        ((1, 1, 1, 1), (1, 1, 1, 1), (1, 1, 1, 1)),
        ((0.95,), (1,), (1,)),
    ],
)
def test_shares(
    loads: tuple[float, ...], at_once: tuple[float, ...], after_5_min: tuple[float, ...]
) -> None:
    play = Play(loaded(*loads)).passes(1)
    assert play.shares == pytest.approx(at_once, abs=0.051)
    assert play.passes(299).shares == pytest.approx(after_5_min, abs=0.051)


@pytest.mark.parametrize(
    ("home", "away", "after_1_min", "after_10_min"),
    [
        (0.6, 0.2, 1.0, 1.0),
        (0.85, 0.2, 1.0, 1.0),
        # Above the limit, more the longer it lasts.
        (1.0, 0.2, 0.85, 0.2),
        # The others are as full: to go far gains nothing.
        (1.0, 0.9, 1.0, 1.0),
        (1.0, 1.0, 1.0, 1.0),
    ],
)
def test_a_full_pop_spills(
    home: float, away: float, after_1_min: float, after_10_min: float
) -> None:
    play = Play(loaded(home, home) | loaded(away, away, pop="us")).passes(60)
    assert play.kept("eu") == pytest.approx(after_1_min, abs=0.051)
    assert play.passes(540).kept("eu") == pytest.approx(after_10_min, abs=0.051)
    assert play.kept("us") == 1


def test_clients_come_home_slowly_when_load_falls() -> None:
    play = Play(loaded(1, 1) | loaded(0.2, 0.2, pop="us")).passes(120)
    gone = play.kept("eu")
    assert gone < 0.9
    play.signals |= {n: Signal(0.4, kept=gone) for n in ("eu-0", "eu-1")}
    assert gone < play.passes(60).kept("eu") + 0.05 < gone + 0.15
    assert play.passes(1800).kept("eu") == 1


def test_clients_come_home_when_nobody_else_has_room() -> None:
    play = Play(loaded(1, 1) | loaded(0.2, 0.2, pop="us")).passes(240)
    assert play.kept("eu") < 0.8
    play.signals |= {n: Signal(1.0) for n in ("us-0", "us-1")}
    assert play.passes(1800).kept("eu") == 1


def test_a_pop_without_another_keeps_all() -> None:
    assert Play(loaded(1, 1)).passes(600).kept("eu") == 1
    down = {"us-0": Signal(verdict=Verdict.DOWN)}
    assert Play(loaded(1, 1) | down).passes(600).kept("eu") == 1


def test_what_is_told_no_more_fades() -> None:
    """Its influence goes from 1 to 0; without any, the share is the fair one."""
    fresh = Play(loaded(0.95, 0.5, 0.5)).passes(120)
    shares = [fresh.shares[0]]
    for counts in (0.75, 0.5, 0.25, 0.0):
        shares.append(fresh.passes(5, counts).shares[0])
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert max(b - a for a, b in pairwise(shares)) < 0.45
    view = view_of({"eu-0": Signal(0.95, share=0.2, kept=0.5), "eu-1": Signal()})
    _, changed = rebalanced(view, {}, {}, 1.0)
    assert changed == {"eu-0": Signal(0.95)}


@pytest.mark.parametrize("tells", [True, False])
def test_a_newcomer_starts_slowly(tells: bool) -> None:
    """In at most ten steps, whether it tells a load or not."""
    signals = loaded(0.5, 0.5, 0.5) | {"eu-9": Signal(share=START_SHARE)}
    told = dict.fromkeys(signals, 1.0) if tells else {}
    shares = [START_SHARE]
    for second in range(61):
        ages = {"eu-9": float(second)} if second < 60 else {}
        _, changed = rebalanced(view_of(signals, slow_start_s=60), {}, told, 1.0, ages)
        signals |= changed
        shares.append(signals["eu-9"].share)
    assert shares == sorted(shares)
    assert 8 <= len(set(shares)) <= 11
    assert shares[31] == pytest.approx(0.55, abs=0.051)
    assert shares[-1] >= 1
    assert all(signals[f"eu-{n}"].share == 1 for n in range(3))


def test_a_newcomer_that_is_overwhelmed_gets_less() -> None:
    fine = Play(loaded(0.5, 0.5, 0.1), 60).passes(1, ages={"eu-2": 54}).shares[2]
    weak = Play(loaded(0.5, 0.5, 1.0), 60).passes(1, ages={"eu-2": 54}).shares[2]
    assert fine == pytest.approx(0.9, abs=0.051)
    assert weak == pytest.approx(0.3, abs=0.051)


def test_newcomers_are_no_measure_of_the_others() -> None:
    signals = loaded(0.5, 0.5) | {f"eu-{n}": Signal(0.05, share=0.1) for n in (5, 6, 7)}
    ages = {f"eu-{n}": 1.0 for n in (5, 6, 7)}
    assert Play(signals, slow_start_s=60).passes(10, ages=ages).shares[:2] == [1, 1]


def test_those_held_back_or_down_are_no_measure_of_the_others() -> None:
    held = {f"eu-{n}": Signal(1.0, Verdict.DOWN, held=True) for n in (5, 6, 7)}
    down = {f"eu-{n}": Signal(1.0, Verdict.DOWN) for n in (5, 6, 7)}
    for gone in (held, down):
        assert Play(loaded(0.5, 0.5) | gone).passes(60).shares[:2] == [1, 1]


def test_that_few_call_what_fails_is_no_headroom() -> None:
    """It has little to do because its calls fail: it gets no more for that."""
    failing = loaded(0.5, 0.5, 0.5) | {"eu-9": Signal(0.05, success=0.3)}
    assert Play(failing).passes(300).shares == [1, 1, 1, 1]
    busy = loaded(0.5, 0.5, 0.5) | {"eu-9": Signal(1.0, success=0.3)}
    assert Play(busy).passes(1).shares[3] < 0.5
    # Nor is it, or one that is ejected, a measure of the others.
    for success in (0.3, 0.0):
        many = {f"eu-{n}": Signal(0.05, success=success) for n in (5, 6, 7)}
        assert Play(loaded(0.5, 0.5) | many).passes(60).shares[:2] == [1, 1]


SOME = [n / 20 for n in range(21)]
loads = st.lists(st.sampled_from(SOME), min_size=1, max_size=6)


@settings(deadline=None)
@given(loads, loads, st.integers(1, 60))
def test_shares_stay_within_bounds(here: list[float], there: list[float], jump_s: int) -> None:
    signals: dict[str, Signal] = loaded(*here) | loaded(*there, pop="us")
    learnt: dict[str, Learnt] = {}
    for _ in range(5):
        told = dict.fromkeys(signals, 1.0)
        known, changed = rebalanced(view_of(signals), learnt, told, jump_s)
        learnt |= known
        signals |= changed
    assert all(0.05 <= signal.share <= 2 for signal in signals.values())
    assert all(0.05 <= signal.kept <= 1 for signal in signals.values())
    assert {name: signal.load for name, signal in signals.items()} == {
        name: signal.load for name, signal in (loaded(*here) | loaded(*there, pop="us")).items()
    }


@settings(deadline=None)
@given(loads, st.integers(1, 120))
def test_more_load_never_has_a_greater_share(told: list[float], seconds: int) -> None:
    play = Play(loaded(*told)).passes(min(seconds, 10))
    by_load = sorted(zip(told, play.shares, strict=True))
    for (less, share), (more, smaller) in pairwise(by_load):
        assert smaller <= share if more > less else smaller == share


@settings(deadline=None)
@given(st.permutations(list(enumerate((0.95, 0.2, 0.5, 0.5, 0.7)))))
def test_the_order_of_what_was_told_does_not_matter(order: list[tuple[int, float]]) -> None:
    signals = {f"eu-{n}": Signal(load) for n, load in order}
    assert Play(signals).passes(3).shares == Play(dict(sorted(signals.items()))).passes(3).shares


@settings(deadline=None)
@given(loads, st.floats(-3, 3))
def test_one_who_lies_gets_at_most_twice_a_fair_share(others: list[float], drift: float) -> None:
    signals = loaded(0.0, *others)
    told = dict.fromkeys(signals, 1.0)
    _, changed = rebalanced(view_of(signals), {"eu-0": Learnt(drift)}, told, 1.0)
    liar, *shares = [changed.get(name, signal).share for name, signal in signals.items()]
    assert liar <= 2 * sorted(shares)[len(shares) // 2] + 0.05


@settings(deadline=None)
@given(loads, st.integers(5, 120))
def test_a_restart_changes_nothing(told: list[float], seconds: int) -> None:
    """What is worked out from saved signals leads to the shares that were saved."""
    signals = loaded(*told) | loaded(0.3, 0.3, pop="us")
    play = Play(signals).passes(10)
    for name in play.learnt:
        play.learnt[name] = Learnt(play.learnt[name].drift * seconds / 10, play.learnt[name].kept)
    play.passes(1)
    again = Play(play.signals)
    again.learnt = resumed(view_of(play.signals))
    before = again.shares
    after = again.passes(1).shares
    for load, was, becomes in zip([*told, 0.3, 0.3], before, after, strict=True):
        assert becomes == pytest.approx(was, abs=0.0501) or load < sorted(told)[len(told) // 2]
    assert again.kept("eu") == pytest.approx(play.kept("eu"), abs=0.0501)


def test_a_restart_does_not_hold_newcomers_down() -> None:
    """A low share with a low load, or where nobody tells any, was no weakness."""
    signals = loaded(0.5, 0.5, 0.5) | {"eu-9": Signal(0.05, share=START_SHARE)}
    assert resumed(view_of(signals))["eu-9"].drift == 0
    silent = {"eu-0": Signal(), "eu-1": Signal(share=START_SHARE)}
    assert resumed(view_of(silent))["eu-1"].drift == 0
    weak = {"eu-0": Signal(0.5), "eu-1": Signal(0.5, share=0.5)}
    assert resumed(view_of(weak))["eu-1"].drift == pytest.approx(-0.693, abs=0.01)
