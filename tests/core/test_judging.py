"""Gates by evidence: cases that an operator can read, and what must hold for any evidence."""

import random
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.core.evidence import Evidence, Seen, Side, Whence
from meshd.core.gates import Gate
from meshd.core.histogram import bucket_of
from meshd.core.judging import Ruling, quantile_us, readings
from meshd.core.outcomes import Outcome
from meshd.core.release import Course

COURSE = Course(min_outcomes=100, min_reporters=2)
CASES = [
    line.strip().split(" | ")
    for line in (Path(__file__).parent / "cases/gates.txt").read_text().splitlines()
    if line.strip() and not line.startswith("#")
]


def course(*gates: str) -> Course:
    return replace(COURSE, gates=tuple(map(Gate.parse, gates)))


def hosts(attempts: float, failed: float, count: int, latency_ms: float = 10) -> Side:
    """So many hosts that saw the same."""
    bucket = bucket_of(latency_ms * 1000)
    part = Seen(attempts / max(1, count), failed / max(1, count), {bucket: attempts})
    return Side.of({Whence(f"10.0.0.{n}", "eu"): part for n in range(count)})


def side(text: str) -> Side:
    found = re.fullmatch(r"(\d+)/(\d+) of (\d+)", text)
    assert found, text
    return hosts(*map(int, found.groups()))


@pytest.mark.parametrize(("gate", "new", "old", "ruling"), CASES)
def test_cases(gate: str, new: str, old: str, ruling: str) -> None:
    (reading,) = readings(course(gate), Evidence(side(new), side(old)))
    assert reading.ruling == ruling, str(reading)


def test_it_says_what_it_saw() -> None:
    (reading,) = readings(course("success>=99.5%"), Evidence(hosts(400, 20, 2)))
    said = "success>=99.5%: fail, 95.00% succeed, 400 outcomes of 2 reporters"
    assert str(reading) == said
    (reading,) = readings(course("success>=99.5%"), Evidence(hosts(4, 4, 1)))
    said = "success>=99.5%: missing, 4 outcomes of 1 reporter; 100 of 2 are needed"
    assert str(reading) == said


@pytest.mark.parametrize(
    ("instances", "up", "ruling"), [(0, 0, "missing"), (4, 4, "pass"), (4, 3, "fail")]
)
def test_probes(instances: float, up: float, ruling: str) -> None:
    (reading,) = readings(course("probes>=90%"), Evidence(instances=instances, up=up))
    assert reading.ruling == ruling


def test_latency_by_itself() -> None:
    fast, slow = hosts(1000, 0, 4, 50), hosts(1000, 0, 4, 900)
    gate = course("p99<=300ms")
    assert readings(gate, Evidence(fast))[0].ruling is Ruling.PASS
    assert readings(gate, Evidence(slow))[0].ruling is Ruling.FAIL


def spread(seed: int, middle_ms: float, count: int = 4000) -> dict[int, float]:
    """Latencies as they are: most near the middle, and a long tail."""
    draw = random.Random(seed)
    found: dict[int, float] = {}
    for _ in range(count):
        bucket = bucket_of(1000 * middle_ms * draw.lognormvariate(0, 0.4))
        found[bucket] = found.get(bucket, 0) + 1
    return found


def by_pops(**pops: dict[int, float]) -> Side:
    seen = {
        Whence(f"10.0.{at}.{n}", pop): Seen(sum(found.values()), 0, found)
        for at, (pop, found) in enumerate(pops.items())
        for n in range(3)
    }
    return Side.of(seen)


@pytest.mark.parametrize(
    ("factor", "ruling"), [(0.8, "pass"), (1.0, "pass"), (1.1, "pass"), (1.4, "fail"), (3, "fail")]
)
def test_latency_against_the_old_version(factor: float, ruling: str) -> None:
    for seed in range(20):
        old, new = by_pops(eu=spread(seed, 20)), by_pops(eu=spread(seed + 100, 20 * factor, 1000))
        (reading,) = readings(course("p95<=1.2x"), Evidence(new, old))
        assert reading.ruling == ruling, str(reading)


def test_it_is_compared_at_the_same_places() -> None:
    """The old one is mostly in the near Pop, the new one in the far: neither is slower."""
    old = by_pops(near=spread(1, 5, 9000), far=spread(2, 80, 1000))
    new = by_pops(near=spread(3, 5, 500), far=spread(4, 80, 5000))
    gate = course("p90<=1.2x")
    assert readings(gate, Evidence(new, old))[0].ruling is Ruling.PASS
    slower = by_pops(near=spread(3, 5, 500), far=spread(4, 160, 5000))
    assert readings(gate, Evidence(slower, old))[0].ruling is Ruling.FAIL


def test_nobody_is_left_to_compare_with() -> None:
    new = by_pops(eu=spread(1, 20))
    elsewhere = by_pops(us=spread(2, 20))
    for old in (Side(), elsewhere):
        (reading,) = readings(course("p95<=1.2x"), Evidence(new, old))
        assert reading.ruling is Ruling.MISSING
        (reading,) = readings(course("p95<=1.2x"), Evidence(new, old), is_last=True)
        assert reading.ruling is Ruling.PASS


def test_one_host_does_not_decide() -> None:
    """It fails all its calls, a hundred times as many as the others make together."""
    good = {Whence(f"10.0.0.{n}", "eu"): Seen(100, 0) for n in range(20)}
    bad = {Whence("10.0.1.1", "eu"): Seen(200_000, 200_000)}
    seen = Side.of({**good, **bad})
    assert seen.hosts == 21
    assert seen.failed / seen.attempts == pytest.approx(1 / 3)


calls = st.tuples(st.integers(0, 5000), st.floats(0, 1))
some_hosts = st.lists(calls, max_size=12)


@given(some_hosts)
def test_no_host_counts_for_more_than_a_third(found: list[tuple[int, float]]) -> None:
    seen = {
        Whence(str(n), "eu"): Seen(attempts, attempts * part)
        for n, (attempts, part) in enumerate(found)
    }
    whole = Side.of(seen)
    heard = [attempts for attempts, _ in found if attempts]
    assert whole.hosts == len(heard)
    assert whole.attempts <= sum(heard) + 1e-6
    for n in range(len(found)) if len(heard) >= 3 else ():
        # One that fails all its calls shows how much it counts for.
        only = {k: Seen(v.attempts, v.attempts * (k.host == str(n))) for k, v in seen.items()}
        assert Side.of(only).failed <= whole.attempts / 3 + 1e-6
    assert 0 <= whole.failed <= whole.attempts + 1e-6


@given(some_hosts, some_hosts, st.randoms())
def test_the_order_of_reports_does_not_matter(
    new: list[tuple[int, float]], old: list[tuple[int, float]], chance: random.Random
) -> None:
    def made(found: list[tuple[int, float]]) -> Side:
        items = [
            (Whence(str(n), "eu"), Seen(attempts, float(int(attempts * part)), {40 + n: attempts}))
            for n, (attempts, part) in enumerate(found)
        ]
        chance.shuffle(items)
        return Side.of(dict(items))

    gates = course("success>=99%", "p99<=1.5x", "p50<=10ms")
    first = readings(gates, Evidence(made(new), made(old)))
    second = readings(gates, Evidence(made(new), made(old)))
    assert [each.ruling for each in first] == [each.ruling for each in second]


def test_a_good_version_is_hardly_ever_rolled_back() -> None:
    """One in a thousand fails, the gate is at one in a hundred; judged anew with each ten calls."""
    draw = random.Random(7)
    gate = course("success>=99%")
    failed_runs = 0
    for _ in range(200):
        attempts = failed = 0
        for _ in range(100):
            attempts += 10
            failed += sum(draw.random() < 0.001 for _ in range(10))
            ruling = readings(gate, Evidence(hosts(attempts, failed, 3)))[0].ruling
            if ruling is Ruling.FAIL:
                failed_runs += 1
                break
    assert failed_runs <= 1


def test_a_bad_version_is_found_soon() -> None:
    """Five in a hundred fail: found out within a thousand calls, half of the time within 200."""
    draw = random.Random(7)
    gate = course("success>=99%")
    needed = []
    for _ in range(200):
        attempts = failed = 0
        while attempts < 5000:
            attempts += 10
            failed += sum(draw.random() < 0.05 for _ in range(10))
            if readings(gate, Evidence(hosts(attempts, failed, 3)))[0].ruling is Ruling.FAIL:
                break
        needed.append(attempts)
    assert max(needed) <= 1000
    assert sorted(needed)[100] <= 200


def test_outcomes_add_up() -> None:
    seen = Seen().plus(Outcome(10, 1, 1, 1, {40: 7})).plus(Outcome(5, latency={40: 2, 41: 3}))
    assert seen == Seen(15, 3, {40: 9, 41: 3})


@pytest.mark.parametrize(("share", "low", "high"), [(0.5, 19, 21), (0.99, 45, 58)])
def test_quantiles_lie_where_they_should(share: float, low: float, high: float) -> None:
    found = quantile_us(spread(1, 20, 50_000), share) / 1000
    assert low < found < high
