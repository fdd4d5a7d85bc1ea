"""Calls: how each ends, who is told, and that any thread may make them."""

import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest

from meshd.client.calls import Calls, settled
from meshd.client.choose import Strategy
from meshd.client.endpoint import Endpoint, Outcome

A = Endpoint("a", "10.0.0.1", 80, "api.mesh.internal")
B = Endpoint("b", "10.0.0.2", 80, "api.mesh.internal")


class Notebook:
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, ...]] = []
        self.latencies_s: list[float] = []

    def began(self, endpoint: Endpoint) -> None:
        self.lines.append(("began", endpoint.key))

    def note(self, endpoint: Endpoint, outcome: Outcome, latency_s: float) -> None:
        self.lines.append((outcome.name, endpoint.key))
        self.latencies_s.append(latency_s)

    def ended(self, endpoint: Endpoint) -> None:
        self.lines.append(("ended", endpoint.key))


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (None, "OK"),
        (TimeoutError(), "TIMEOUT"),
        (ConnectionRefusedError(), "CONNECT_ERROR"),
        (ConnectionResetError(), "FAILURE"),
        (EOFError(), "FAILURE"),
        (ValueError(), "FAILURE"),
        (asyncio.CancelledError(), "ended"),
        (GeneratorExit(), "ended"),
    ],
)
def test_how_the_block_ends_is_how_the_call_went(error: BaseException | None, told: str) -> None:
    troubles: list[None] = []
    notebook = Notebook()
    calls = Calls([A], notes=notebook, on_trouble=lambda: troubles.append(None))
    call = calls.begin()
    assert call is not None
    out: AbstractContextManager[Any] = nullcontext()
    if error is not None:
        out = pytest.raises(type(error))
    with out, settled(call) as endpoint:
        assert endpoint == A
        assert calls.state.track(A).in_flight == 1
        if error is not None:
            raise error
    assert notebook.lines == [("began", "a"), (told, "a")]
    assert len(troubles) == (told == "CONNECT_ERROR")
    assert repr(calls).endswith("0 in flight>")
    call.end(Outcome.FAILURE)
    assert len(notebook.lines) == 2, "the first word counts"


def test_latency_ends_where_the_reply_begins() -> None:
    notebook, clock = Notebook(), iter([1.0, 3.0, 10.0, 10.0])
    calls = Calls([A], notes=notebook)
    calls.now = lambda: next(clock)
    call = calls.begin()
    assert call is not None
    call.replied()
    call.end(Outcome.OK)
    assert notebook.latencies_s == [2.0]


def test_who_was_tried_is_not_tried_again() -> None:
    calls = Calls([A, B])
    first = calls.begin()
    assert first is not None
    second = calls.begin([first.endpoint.key])
    assert second is not None
    assert {first.endpoint, second.endpoint} == {A, B}
    assert calls.begin(["a", "b"]) is None
    calls.replace([])
    assert calls.begin() is None


def test_from_many_threads() -> None:
    calls = Calls([A, B], strategy=Strategy.ROUND_ROBIN)

    def work(_: int) -> None:
        for number in range(200):
            call = calls.begin()
            assert call is not None
            call.end(Outcome.OK) if number % 2 else call.abandon()

    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(work, range(8)))
    finally:
        sys.setswitchinterval(interval_s)
    state = calls.state
    assert [state.track(each).in_flight for each in (A, B)] == [0, 0]
    assert [state.track(each).served for each in (A, B)] == [800.0, 800.0]
