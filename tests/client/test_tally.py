"""What is gathered of calls: counted once, whatever thread it came from, and bounded."""

import math
import sys
import threading
from collections import Counter
from collections.abc import Iterator

import pytest

from meshd.client.endpoint import Endpoint, Outcome
from meshd.client.tally import Tallies, merged, outcomes_of
from meshd.core.histogram import BUCKETS


def endpoint(instance: str = "api-1", address: str = "10.0.0.1", tier: int = 0) -> Endpoint:
    return Endpoint(instance, address, 80, "api.mesh.internal", tier)


@pytest.mark.parametrize(
    ("latency_s", "bucket"),
    [
        (0.0, 0),
        (0.001, 39),
        (1.0, 79),
        (1e9, BUCKETS - 1),
        (math.inf, BUCKETS - 1),
        (math.nan, 0),
        (-1.0, 0),
    ],
)
def test_any_latency_has_a_bucket(latency_s: float, bucket: int) -> None:
    tallies = Tallies(10)
    tallies.note(endpoint(), Outcome.OK, latency_s)
    (sent,) = outcomes_of(tallies.take())
    assert dict(sent.latency) == {bucket: 1}


def test_a_window_as_it_is_sent() -> None:
    tallies = Tallies(10)
    for outcome in (Outcome.OK, Outcome.OK, Outcome.FAILURE, Outcome.TIMEOUT):
        tallies.began(endpoint())
        tallies.note(endpoint(), outcome, 0.001)
    tallies.note(endpoint(), Outcome.CONNECT_ERROR, 0.001)
    tallies.began(endpoint())
    (sent,) = outcomes_of(tallies.take())
    assert (sent.instance, sent.address, sent.port, sent.service) == ("api-1", "", 0, "")
    assert (sent.attempts, sent.failures, sent.timeouts, sent.connect_errors) == (5, 1, 1, 1)
    assert sent.in_flight == 1
    assert dict(sent.latency) == {39: 3}, "of what was replied to"


def test_one_without_a_name_is_its_address() -> None:
    tallies = Tallies(10)
    tallies.note(endpoint(""), Outcome.OK, 0.001)
    (sent,) = outcomes_of(tallies.take())
    assert (sent.instance, sent.address, sent.port) == ("", "10.0.0.1", 80)
    assert sent.service == "api.mesh.internal"


def test_an_instance_is_one_whatever_its_address_and_weight() -> None:
    tallies = Tallies(10)
    tallies.note(endpoint(), Outcome.OK, 0.001)
    tallies.note(endpoint(address="2001:db8::1", tier=2), Outcome.OK, 0.001)
    (sent,) = outcomes_of(tallies.take())
    assert sent.attempts == 2


def test_what_is_in_flight_goes_on_in_the_next_window() -> None:
    tallies = Tallies(10)
    tallies.began(endpoint())
    tallies.began(endpoint())
    tallies.ended(endpoint())
    assert [sent.in_flight for sent in outcomes_of(tallies.take())] == [1]
    assert [(sent.in_flight, sent.attempts) for sent in outcomes_of(tallies.take())] == [(1, 0)]
    tallies.note(endpoint(), Outcome.OK, 0.1)
    assert [(sent.in_flight, sent.attempts) for sent in outcomes_of(tallies.take())] == [(0, 1)]
    assert len(tallies) == 0


def test_more_ends_than_beginnings_is_none_in_flight() -> None:
    tallies = Tallies(10)
    tallies.note(endpoint(), Outcome.OK, 0.1)
    tallies.ended(endpoint())
    assert [sent.in_flight for sent in outcomes_of(tallies.take())] == [0]


@pytest.mark.parametrize(
    ("good", "bad", "is_trouble"), [(0, 0, False), (5, 1, False), (4, 1, True), (0, 1, True)]
)
def test_a_fifth_that_fails_is_trouble(good: int, bad: int, is_trouble: bool) -> None:
    tallies = Tallies(10)
    tallies.began(endpoint())
    for _ in range(good):
        tallies.note(endpoint(), Outcome.OK, 0.001)
    for _ in range(bad):
        tallies.note(endpoint(), Outcome.CONNECT_ERROR, 0.001)
    for _ in range(100):
        tallies.note(endpoint("api-2"), Outcome.OK, 0.001)
    assert tallies.has_trouble == is_trouble


def test_of_too_many_the_oldest_goes() -> None:
    tallies = Tallies(3)
    for number in range(5):
        tallies.note(endpoint(f"api-{number}"), Outcome.OK, 0.001)
    assert tallies.forgotten == 2
    assert [sent.instance for sent in outcomes_of(tallies.take())] == ["api-2", "api-3", "api-4"]


def test_windows_merge_to_what_one_would_have_been() -> None:
    apart, whole = Tallies(10), Tallies(10)
    windows = []
    for number, outcome in enumerate(list(Outcome) * 3):
        for tallies in (apart, whole):
            tallies.began(endpoint("api-2"))
            tallies.note(endpoint(), outcome, 0.001 * number)
        windows.append(apart.take())
    found = {sent.instance: sent for sent in outcomes_of(merged(windows))}
    assert found == {sent.instance: sent for sent in outcomes_of(whole.take())}


@pytest.fixture
def _busy_switching() -> Iterator[None]:
    """Threads change often: what is not locked is seen."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("_busy_switching")
def test_no_call_is_lost_between_threads() -> None:
    tallies = Tallies(10)
    seen: Counter[str] = Counter()

    def call() -> None:
        for _ in range(5000):
            tallies.began(endpoint())
            tallies.note(endpoint(), Outcome.OK, 0.001)

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        seen.update({sent.instance: sent.attempts for sent in outcomes_of(tallies.take())})
    for thread in threads:
        thread.join()
    last = outcomes_of(tallies.take())
    seen.update({sent.instance: sent.attempts for sent in last})
    assert seen == {"api-1": 20_000}
    assert all(sent.in_flight == 0 for sent in last)
