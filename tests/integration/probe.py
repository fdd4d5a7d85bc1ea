"""Steady questions while something is broken, and what came back."""

import threading
import time
from collections import Counter

import dns.exception
import dns.rcode

from tests.servers.processes import wait_until
from tests.servers.queries import Asker, addresses

ASKER = Asker("127.0.1.9")


class Probe:
    """Asks at a steady rate from threads, and counts what comes back."""

    def __init__(
        self, port: int, rate: float, name: str = "api.mesh.internal", threads: int = 4
    ) -> None:
        self.counts: Counter[str] = Counter()
        self.sets: Counter[tuple[str, ...]] = Counter()
        self._port = port
        self._name = name
        self._pause_s = threads / rate
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._run) for _ in range(threads)]

    def _run(self) -> None:
        due = time.monotonic()
        while not self._stop.is_set():
            try:
                reply = ASKER.ask(self._port, self._name, timeout_s=2)
                outcome = dns.rcode.to_text(reply.rcode())
                got = tuple(addresses(reply))
            except dns.exception.Timeout:
                outcome, got = "timeout", ()
            with self._lock:
                self.counts[outcome] += 1
                self.sets[got] += 1
            due += self._pause_s
            self._stop.wait(max(0.0, due - time.monotonic()))

    def __enter__(self) -> "Probe":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(10)

    def enough(self, count: int) -> None:
        """Wait until so many more were asked."""
        goal = sum(self.counts.values()) + count
        wait_until(f"{count} more queries", lambda: sum(self.counts.values()) >= goal, 60)
