"""The order of probes in virtual time: due times, the gap of an address, and what has gone."""

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from meshd.daemon.probes.schedule import Schedule


@dataclass(eq=False)
class Thing:
    name: str
    address: str
    is_gone: bool = False


def taken(schedule: Schedule[Thing], until: float, step: float = 0.01) -> list[tuple[float, str]]:
    """What is given out, and when, by someone who looks each `step` seconds."""
    seen = []
    for tick in range(round(until / step) + 1):
        now = tick * step
        while (thing := schedule.pop(now)) is not None:
            seen.append((now, thing.name))
    return seen


def test_in_the_order_of_their_times() -> None:
    schedule: Schedule[Thing] = Schedule()
    for name, at in (("b", 0.2), ("a", 0.1), ("c", 0.2)):
        schedule.add(Thing(name, name), at)
    assert schedule.next_at() == 0.1
    assert taken(schedule, 1.0) == [(0.1, "a"), (0.2, "b"), (0.2, "c")]
    assert schedule.next_at() is None


def test_one_address_waits_and_others_do_not() -> None:
    schedule: Schedule[Thing] = Schedule(gap_s=1 / 16)
    for number in range(4):
        schedule.add(Thing(f"x{number}", "x"), 0.0)
    schedule.add(Thing("y", "y"), 0.0)
    seen = taken(schedule, 1.0, step=1 / 64)
    assert [name for _, name in seen] == ["x0", "y", "x1", "x2", "x3"]
    assert [at * 16 for at, _ in seen] == [0, 0, 1, 2, 3]


def test_ten_thousand_on_one_address_are_no_flood() -> None:
    schedule: Schedule[Thing] = Schedule()
    things = [Thing(str(number), "x") for number in range(10_000)]
    for thing in things:
        schedule.add(thing, 0.0)
    seen = []
    for tick in range(1000):
        now = tick * 0.01
        # Whoever looks may be busy for a while: what was missed is not made up for.
        if 300 < tick < 500:
            continue
        while (found := schedule.pop(now)) is not None:
            seen.append(now)
            schedule.add(found, now + 2.0)
    for began in seen:
        assert sum(began <= at < began + 0.999 for at in seen) <= 20
    assert len(seen) > 100


def test_what_has_gone_is_not_given_out_and_not_kept() -> None:
    schedule: Schedule[Thing] = Schedule()
    things = [Thing(str(number), str(number % 7)) for number in range(5000)]
    for thing in things:
        schedule.add(thing, 3600.0)
    for thing in things[1:]:
        thing.is_gone = True
        schedule.note_gone()
    assert len(schedule._heap) < 4000
    assert schedule.pop(3600.0) is things[0]
    assert schedule.pop(9000.0) is None


@given(
    st.lists(st.tuples(st.sampled_from("xyz"), st.integers(0, 100)), max_size=60),
    st.sets(st.integers(0, 59)),
)
def test_everybody_comes_once_in_time_and_apart(
    wanted: list[tuple[str, int]], gone: set[int]
) -> None:
    """Against what a reader expects: each at its time, or right behind its address's others."""
    schedule: Schedule[Thing] = Schedule(gap_s=0.05)
    things = [Thing(str(i), address) for i, (address, _) in enumerate(wanted)]
    for thing, (_, hundredths) in zip(things, wanted, strict=True):
        schedule.add(thing, hundredths / 100)
    for index in gone & set(range(len(things))):
        things[index].is_gone = True
        schedule.note_gone()
    seen = taken(schedule, 10.0)
    live = [i for i in range(len(things)) if i not in gone]
    assert Counter(name for _, name in seen) == Counter(map(str, live))
    when = {int(name): at for at, name in seen}
    assert all(when[i] >= wanted[i][1] / 100 for i in live)
    for address in "xyz":
        times = sorted(when[i] for i in live if wanted[i][0] == address)
        assert all(later - at > 0.049 for at, later in pairwise(times))
        if times:
            # Nobody waits while the address is free.
            last_due = max(wanted[i][1] / 100 for i in live if wanted[i][0] == address)
            assert times[-1] <= last_due + 0.06 * len(times) + 0.01
