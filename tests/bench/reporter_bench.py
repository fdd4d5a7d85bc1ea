"""What a program pays for each call that it reports."""

from meshd.client.endpoint import Endpoint, Outcome
from meshd.client.report import Reporter
from tests.bench.core_bench import best_of
from tests.bench.measure import Row

_CALLS = 20_000


def reporter_rows() -> list[Row]:
    """`began` and `note` of one call among 50 instances, in us."""
    reporter = Reporter("127.0.0.1:1")
    made = [Endpoint(f"i{n}", f"10.0.0.{n}", 80, "s.b") for n in range(50)]
    calls = [(made[n % 50], Outcome(n % 97 == 0), 1e-5 * (n % 4096)) for n in range(_CALLS)]

    def work() -> None:
        for endpoint, outcome, latency_s in calls:
            reporter.began(endpoint)
            reporter.note(endpoint, outcome, latency_s)

    each = best_of(work) / _CALLS * 1e6
    return [Row("report of a call : 5 us", each / 5, "<= 1", each <= 5, f"{each * 1000:.0f} ns")]
