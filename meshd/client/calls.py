"""Calls under way: the one mutable cell around what `choose` decides on, and who is told of it."""

import random
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Protocol

from meshd.client import choose
from meshd.client.choose import Ending, State, Strategy
from meshd.client.endpoint import Endpoint, Outcome


class Notes(Protocol):
    """Who wants to know of calls: `began`, then `note`, or `ended` if there is nothing to tell."""

    def began(self, endpoint: Endpoint) -> None:
        """A call begins."""

    def note(self, endpoint: Endpoint, outcome: Outcome, latency_s: float) -> None:
        """A call has ended so."""

    def ended(self, endpoint: Endpoint) -> None:
        """A call was given up."""


class Call:
    """One call to one endpoint: ended once, with what came of it."""

    __slots__ = ("_began_at", "_calls", "_latency_s", "endpoint")

    def __init__(self, calls: "Calls", endpoint: Endpoint, now: float) -> None:
        self.endpoint = endpoint
        self._calls: Calls | None = calls
        self._began_at = now
        self._latency_s: float | None = None

    def replied(self) -> None:
        """The reply begins: what follows counts as in flight, but not as latency."""
        if self._calls is not None:
            self._latency_s = self._calls.now() - self._began_at

    def end(self, outcome: Outcome) -> None:
        """It went so; said twice, the first counts."""
        calls, self._calls = self._calls, None
        if calls is not None:
            took_s = calls.now() - self._began_at
            latency_s = took_s if self._latency_s is None else self._latency_s
            calls.end(self.endpoint, Ending(outcome, latency_s, self._began_at))

    def abandon(self) -> None:
        """Nothing is known of how it went: the caller gave it up."""
        calls, self._calls = self._calls, None
        if calls is not None:
            calls.abandon(self.endpoint)


@contextmanager
def settled(call: Call) -> Iterator[Endpoint]:
    """Ends a call by how the block ends; one that is cancelled tells nothing."""
    try:
        yield call.endpoint
        call.end(Outcome.OK)
    except TimeoutError:
        call.end(Outcome.TIMEOUT)
        raise
    except ConnectionRefusedError:
        call.end(Outcome.CONNECT_ERROR)
        raise
    except Exception:
        call.end(Outcome.FAILURE)
        raise
    finally:
        call.abandon()


class Calls:
    """Chooses endpoints for calls and learns from how they end. For any thread."""

    def __init__(
        self,
        endpoints: Iterable[Endpoint] = (),
        *,
        strategy: Strategy = Strategy.PREFERENCE,
        notes: Notes | None = None,
        on_trouble: Callable[[], None] = lambda: None,
    ) -> None:
        # Who is told of calls, and who is called when one found no connection.
        self.notes = notes
        self.on_trouble = on_trouble
        self.now = time.monotonic
        self._strategy = strategy
        self._state = choose.listed(State(), endpoints)
        self._lock = Lock()

    def __repr__(self) -> str:
        now, state = self.now(), self._state
        closed = sum(state.track(each).closed_until > now for each in state.endpoints)
        busy = sum(track.in_flight for track in state.tracks.values())
        return f"<Calls {len(state.endpoints)} endpoints, {closed} closed, {busy} in flight>"

    @property
    def state(self) -> State:
        """What is known now."""
        return self._state

    def replace(self, endpoints: Iterable[Endpoint]) -> None:
        """Choose from these from now on."""
        with self._lock:
            self._state = choose.listed(self._state, endpoints)

    def begin(self, tried: Collection[str] = (), strategy: Strategy | None = None) -> Call | None:
        """A call to whom it is best made, not to one of `tried`; None if nobody else is left."""
        now, draw = self.now(), random.random()
        with self._lock:
            endpoint = choose.choose(self._state, now, draw, strategy or self._strategy, tried)
            if endpoint is None:
                return None
            self._state = choose.began(self._state, endpoint, now)
        if self.notes is not None:
            self.notes.began(endpoint)
        return Call(self, endpoint, now)

    def end(self, endpoint: Endpoint, ending: Ending) -> None:
        """A call has ended; said by Call."""
        with self._lock:
            self._state = choose.ended(self._state, endpoint, ending, self.now())
        if ending.outcome is Outcome.CONNECT_ERROR:
            self.on_trouble()
        if self.notes is not None:
            self.notes.note(endpoint, ending.outcome, ending.latency_s)

    def abandon(self, endpoint: Endpoint) -> None:
        """A call was given up; said by Call."""
        with self._lock:
            self._state = choose.abandoned(self._state, endpoint)
        if self.notes is not None:
            self.notes.ended(endpoint)
