"""The same for programs without asyncio: plain contexts, each with a loop in a thread."""

from collections.abc import Coroutine, Sequence
from typing import Any, Self, Unpack

from meshd.client.announced import Announced, Figure
from meshd.client.endpoint import Endpoint, Outcome
from meshd.client.loop_thread import LoopThread
from meshd.client.registration import Registration, Standing
from meshd.client.report import Reporter


class BlockingRegistration:
    """As Registration, as a plain context manager; `load` and `in_flight` may be set anywhere."""

    def __init__(
        self,
        cores: str | Sequence[str],
        *,
        load: Figure = None,
        in_flight: Figure = None,
        must: bool = False,
        **announced: Unpack[Announced],
    ) -> None:
        self._thread = LoopThread("meshd registration")
        self._inner = Registration(cores, load=load, in_flight=in_flight, must=must, **announced)

    def __repr__(self) -> str:
        return repr(self._inner)

    def __enter__(self) -> Self:
        _enter(self._thread, self._inner.__aenter__())
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        _leave(self._thread, self._inner.__aexit__(kind))

    @property
    def state(self) -> Standing:
        """Where it stands."""
        return self._inner.state

    @property
    def load(self) -> Figure:
        """The load, 0..1 of the capacity, or what is called for it."""
        return self._inner.load

    @load.setter
    def load(self, load: Figure) -> None:
        self._inner.load = load

    @property
    def in_flight(self) -> Figure:
        """Requests being served, or what is called for them."""
        return self._inner.in_flight

    @in_flight.setter
    def in_flight(self, in_flight: Figure) -> None:
        self._inner.in_flight = in_flight

    def drain(self, timeout_s: float = 60.0) -> bool:
        """Ask for no new clients and wait until none can come, as Registration.drain."""
        return self._thread.wait(self._inner.drain(timeout_s))


class BlockingReporter:
    """As Reporter, as a plain context manager; calls are noted from any thread."""

    def __init__(self, cores: str | Sequence[str], *, every_s: float = 2.0) -> None:
        self._thread = LoopThread("meshd reports")
        self._inner = Reporter(cores, every_s=every_s)

    def __repr__(self) -> str:
        return repr(self._inner)

    def __enter__(self) -> Self:
        _enter(self._thread, self._inner.__aenter__())
        return self

    def __exit__(self, *_: object) -> None:
        _leave(self._thread, self._inner.__aexit__())

    def began(self, endpoint: Endpoint) -> None:
        """A call begins."""
        self._inner.began(endpoint)

    def note(self, endpoint: Endpoint, outcome: Outcome, latency_s: float) -> None:
        """A call has ended."""
        self._inner.note(endpoint, outcome, latency_s)

    def ended(self, endpoint: Endpoint) -> None:
        """A call was given up, and tells nothing."""
        self._inner.ended(endpoint)


def _enter(thread: LoopThread, work: Coroutine[Any, Any, object]) -> None:
    """Start, and run what a context begins with; the thread ends if that fails."""
    thread.start()
    try:
        thread.wait(work)
    except BaseException:
        thread.stop()
        raise


def _leave(thread: LoopThread, work: Coroutine[Any, Any, object]) -> None:
    """Run what a context ends with; the thread ends, whatever comes of it."""
    try:
        thread.wait(work)
    finally:
        thread.stop()
