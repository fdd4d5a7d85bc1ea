"""The same registration for programs without asyncio: a thread with a loop of its own."""

import asyncio
import threading
from collections.abc import Coroutine, Sequence
from typing import Any, Self, TypeVar, Unpack

from meshd.client.announced import Announced, Figure
from meshd.client.registration import Registration, Standing

T = TypeVar("T")


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
        self._loop = asyncio.new_event_loop()
        # A daemon: a program that ends without leaving its context ends all the same.
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="meshd registration", daemon=True
        )
        self._inner = Registration(cores, load=load, in_flight=in_flight, must=must, **announced)

    def __repr__(self) -> str:
        return repr(self._inner)

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            self._wait(self._inner.__aenter__())
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            self._wait(self._inner.__aexit__(kind))
        finally:
            self._end()

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
        return self._wait(self._inner.drain(timeout_s))

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
