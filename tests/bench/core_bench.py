"""The core by itself: look-ups in small and large tables, ranking, and a topology of full size."""

import gc
import random
import resource
import time
from collections.abc import Callable
from ipaddress import IPv4Address
from statistics import median

from meshd.core.model import Instance, NameServer, Pop, Port, Prefix, Range, Record, Service, Zone
from meshd.core.ranges import NEUTRAL, RangeTable
from meshd.core.resolve import Spot, choose
from meshd.core.selector import Version
from meshd.core.signals import Signal
from meshd.core.snapshot import Snapshot
from meshd.core.topology import Change, Topology
from tests.bench.measure import Row

POPS = ("eu", "us", "ap")


def best_of(work: Callable[[], object], times: int = 5) -> float:
    """Seconds of the quickest of some runs."""
    found = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        found.append(time.perf_counter() - began)
    return min(found)


def look_up_us(count: int) -> float:
    """Microseconds a look-up, among so many ranges."""
    draw = random.Random(1)
    entries = [Range(Prefix(4, n << 12, 20 + n % 5), POPS[n % 3]) for n in range(count)]
    table = RangeTable.build(entries).v4
    asked = [draw.randrange(count << 12) for _ in range(20_000)]
    for address in asked:
        table.policy(address)
    return best_of(lambda: [table.policy(address) for address in asked]) / len(asked) * 1e6


def ranges_rows() -> list[Row]:
    """Is the cost of a look-up flat from a thousand to a million ranges?"""
    small, large = look_up_us(1000), look_up_us(1_000_000)
    detail = f"1 k: {small:.2f} us, 1 M: {large:.2f} us"
    return [Row("look-up, 1 M ranges : 2 us", large / 2, "<= 1", large <= 2, detail)]


def one_service(count: int) -> Snapshot:
    """A snapshot of one service with so many instances."""
    records: list[Record] = [Zone("b.", (NameServer("ns.x."),), "h@b"), Pop("eu")]
    records.append(Service("s", "s.b.", (Port("http", 80),)))
    records += [
        Instance(f"i{n}", "s", Version("1.0"), "eu", (IPv4Address(0x0A000000 + n),))
        for n in range(count)
    ]
    return Snapshot.build(Topology.load("x", 1, records))


def ask_us(snapshot: Snapshot, bucket: int) -> float:
    """Microseconds that ranking for a bucket takes."""
    began = time.perf_counter()
    choose(snapshot.views["s"], Spot(), NEUTRAL, bucket)
    return (time.perf_counter() - began) * 1e6


def rank_rows() -> list[Row]:
    """Rank one service with nothing remembered, and a large one after changes of a few."""
    small, large = one_service(50), one_service(500)
    each = min(median(ask_us(small, bucket) for bucket in range(200)) for _ in range(5))
    cold = median(ask_us(large, bucket) for bucket in range(100))
    draw = random.Random(1)
    found: dict[str, list[float]] = {"first": [], "next": []}
    for _ in range(100):
        shares = {f"i{draw.randrange(500)}": draw.randrange(1, 20) / 20 for _ in range(10)}
        large = large.advance(signals={name: Signal(share=s) for name, s in shares.items()})
        for bucket in range(10):
            found["next" if bucket else "first"].append(ask_us(large, bucket))
    first, further = median(found["first"]), median(found["next"])
    detail = f"cold {cold:.0f} us, first after a change {first:.0f} us, next {further:.0f} us"
    return [
        Row("rank 50 instances : 150 us", each / 150, "<= 1", each <= 150, f"{each:.0f} us"),
        Row("500, 10 changed : cold", further / cold, "<= 0.5", further <= cold / 2, detail),
    ]


def scale_rows() -> list[Row]:
    """10 k services, 100 k instances, 1 M ranges: time, memory, one change."""
    gc.disable()
    began = time.perf_counter()
    records: list[Record] = [Zone("b.", (NameServer("ns.x."),), "h@b"), *map(Pop, POPS)]
    records += [Service(f"s{n}", f"s{n}.b.", (Port("http", 80),)) for n in range(10_000)]
    records += [
        Instance(f"i{n}", f"s{n % 10_000}", Version("1.0"), POPS[n % 3], (IPv4Address(n + 1),))
        for n in range(100_000)
    ]
    records += [Range(Prefix(4, n << 12, 20 + n % 5), POPS[n % 3]) for n in range(1_000_000)]
    snapshot = Snapshot.build(Topology.load("x", 1, records))
    built = time.perf_counter() - began
    # As the processes do: what was loaded is not for the collector to walk again and again.
    gc.freeze()
    gc.enable()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20)
    worst = max(_change_s(snapshot, number) for number in range(20)) * 1000
    return [
        Row("build full size : 20 s", built / 20, "<= 1", built <= 20, f"{built:.1f} s"),
        Row("memory full size : 2 GiB", memory / 2, "<= 1", memory <= 2, f"{memory:.2f} GiB"),
        Row("one change : 50 ms", worst / 50, "<= 1", worst <= 50, f"worst of 20: {worst:.1f} ms"),
    ]


def _change_s(snapshot: Snapshot, number: int) -> float:
    changes: list[Change] = [
        Change.put(Range(Prefix(4, number << 24, 24), "us")),
        Change.put(Range(Prefix(4, 0, 0), POPS[number % 3])),
        Change.put(Instance(f"n{number}", f"s{number}", Version("1.1"), "eu", (IPv4Address(9),))),
    ]
    change = changes[number % 3]
    began = time.perf_counter()
    after = snapshot.advance([change], 2)
    after.topology.ranges.v4.policy(number << 24)
    return time.perf_counter() - began
