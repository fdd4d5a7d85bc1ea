"""Reports of clients: calls folded a second on one core, and what DNS clients notice of a flood."""

import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from tests.bench.measure import Row
from tests.bench.peers import cpu_s
from tests.bench.registration_bench import Asker, document, p99_ms
from tests.servers.processes import Meshd
from tests.servers.reporters import Reporters

REPORTERS = 500
INSTANCES = [f"s{service}-{number}" for service in range(20) for number in range(1, 5)]
TARGET_CALLS_S = 200_000
# Till all have their streams and everybody's first batch is in.
_SETTLES_S = 4.0
_ROUNDS = 3


def asked(port: int, seconds: float) -> list[Asker]:
    """What a client saw, in rounds: one that the machine disturbs is not the median."""
    found = []
    for _ in range(_ROUNDS):
        asker = Asker(port)
        asker.start()
        time.sleep(seconds)
        found.append(asker.finish())
    return found


def flooded(meshd: Meshd, seconds: float) -> tuple[float, float, list[Asker]]:
    """Calls told of a second, the same for a CPU second of the core, and what a client saw."""
    reporters = Reporters(meshd.grpc, REPORTERS, INSTANCES)
    try:
        reporters.start()
        time.sleep(_SETTLES_S)
        used, began, before = cpu_s(meshd.core_pid), time.monotonic(), _told(meshd)
        during = asked(meshd.dns_port, seconds)
        calls, passed = _told(meshd) - before, time.monotonic() - began
        used = cpu_s(meshd.core_pid) - used
        said = reporters.finish()
    finally:
        reporters.stop()
    if not calls or said["ignored"]:
        raise RuntimeError(f"{said['ignored']} outcomes ignored, {said['calls']} calls told")
    return calls / passed, calls / used, during


def _told(meshd: Meshd) -> float:
    with urllib.request.urlopen(f"http://{meshd.http}/metrics", timeout=10) as reply:
        lines = reply.read().decode().splitlines()
    (found,) = [line for line in lines if line.startswith("meshd_outcomes_total ")]
    return float(found.split()[1])


def _p99_ms(askers: Sequence[Asker]) -> float:
    return median(p99_ms(asker.took_s) for asker in askers)


def report_rows(seconds: float, folder: Path) -> list[Row]:
    """Five hundred reporters beside one who asks; the machine is asked before and after too."""
    meshd = Meshd(folder, 1)
    try:
        meshd.start_ready()
        meshd.apply(document(), timeout_s=60)
        quiet = asked(meshd.dns_port, seconds)
        rate, on_one_core, during = flooded(meshd, seconds)
        quiet += asked(meshd.dns_port, seconds)
    finally:
        meshd.stop()
    wrong = [each for asker in (*quiet, *during) for each in asker.wrong]
    if wrong:
        raise RuntimeError(f"{len(wrong)} answers failed: {sorted(set(wrong))[:3]}")
    folded, slower = on_one_core / TARGET_CALLS_S, _p99_ms(during) / _p99_ms(quiet)
    told = f"{on_one_core / 1000:.0f} k calls a CPU second, {rate / 1000:.0f} k/s told"
    detail = f"{_p99_ms(quiet):.2f} ms, {_p99_ms(during):.2f} ms in the flood, 0 answers failed"
    return [
        Row("calls folded : 200 k/s on a core", folded, ">= 1", folded >= 1, told),
        Row("DNS p99, reports : without", slower, "<= 2", slower <= 2, detail),
    ]
