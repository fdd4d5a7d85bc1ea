"""The two threads of an embedded store, and the air they need beside a busy event loop."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")

# While a thread works, the loop lets go of the GIL this often and for so long. Its own releases
# between callbacks are so short that no other thread wakes up in them, yet they restart the
# 5 ms after which one could insist: measured, 200 ms for each time a thread wants the GIL.
_BREATH_EVERY_S = 0.002
_BREATH_S = 0.0001


class Threads:
    """One thread that writes and one that reads; belongs to the running event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._writer = ThreadPoolExecutor(1, "store-write")
        self._reader = ThreadPoolExecutor(1, "store-read")
        self._at_work = 0
        self._is_breathing = False

    def write(self, work: Callable[[], T]) -> asyncio.Future[T]:
        """Do work on the thread that writes, after all that it was given before."""
        return self._start(self._writer, work)

    def read(self, work: Callable[[], T]) -> asyncio.Future[T]:
        """Do work on the thread that reads, after all that it was given before."""
        return self._start(self._reader, work)

    def stop(self) -> None:
        """Let both threads end when their work is done."""
        self._writer.shutdown(wait=False)
        self._reader.shutdown(wait=False)

    def _start(self, thread: ThreadPoolExecutor, work: Callable[[], T]) -> asyncio.Future[T]:
        self._at_work += 1
        done = self._loop.run_in_executor(thread, work)
        done.add_done_callback(self._ended)
        self._breathe_later()
        return done

    def _ended(self, _: asyncio.Future[Any]) -> None:
        self._at_work -= 1

    def _breathe_later(self) -> None:
        if self._at_work and not self._is_breathing:
            self._is_breathing = True
            self._loop.call_later(_BREATH_EVERY_S, self._breathe)

    def _breathe(self) -> None:
        self._is_breathing = False
        if self._at_work:
            time.sleep(_BREATH_S)
            self._breathe_later()
