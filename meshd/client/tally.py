"""What calls came to since the last batch, by instance: bounded, merged, put into messages."""

import threading
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from meshd.client.endpoint import Endpoint, Outcome
from meshd.core.histogram import bucket_of
from meshd.v1 import reporter_pb2 as pb

# An instance by its name, else address, port and service. Tier and weight change while calls run.
Key = str | tuple[str, int, str]
_REPLIED = Outcome.FAILURE
# Fewer calls than so many for each that went wrong are trouble.
_TROUBLE = 6
# Well within the last bucket; of what is endless there is no logarithm.
_LONGEST_S = 4000.0


class Tally:
    """The calls to one endpoint."""

    __slots__ = ("counts", "in_flight", "latency")

    def __init__(self, in_flight: int = 0) -> None:
        self.in_flight = in_flight
        # By Outcome.
        self.counts = [0, 0, 0, 0]
        self.latency: dict[int, int] = {}

    def add(self, other: "Tally") -> None:
        """Add those of a later window."""
        self.in_flight = other.in_flight
        self.counts = [mine + more for mine, more in zip(self.counts, other.counts, strict=True)]
        self.latency = Counter(self.latency) + Counter(other.latency)


class Tallies:
    """One window; calls are noted from any thread. Of too many endpoints the oldest goes."""

    def __init__(self, most: int) -> None:
        self.most = most
        # Endpoints that had to go.
        self.forgotten = 0
        self._tallies: dict[Key, Tally] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._tallies)

    def began(self, endpoint: Endpoint) -> None:
        """A call begins."""
        with self._lock:
            self._of(endpoint).in_flight += 1

    def note(self, endpoint: Endpoint, outcome: Outcome, latency_s: float) -> None:
        """A call has ended so; the latency counts if there was a reply."""
        bucket = bucket_of(min(latency_s, _LONGEST_S) * 1e6)
        with self._lock:
            tally = self._of(endpoint)
            tally.counts[outcome] += 1
            if tally.in_flight:
                tally.in_flight -= 1
            if outcome <= _REPLIED:
                tally.latency[bucket] = tally.latency.get(bucket, 0) + 1

    def ended(self, endpoint: Endpoint) -> None:
        """A call was given up, and tells nothing."""
        with self._lock:
            tally = self._of(endpoint)
            if tally.in_flight:
                tally.in_flight -= 1

    @property
    def has_trouble(self) -> bool:
        """True if at some endpoint a fifth of the calls or more went wrong."""
        with self._lock:
            every = [tally.counts for tally in self._tallies.values()]
        return any(sum(counts) < _TROUBLE * (sum(counts) - counts[Outcome.OK]) for counts in every)

    def take(self) -> dict[Key, Tally]:
        """The window, and begin the next: only what is in flight goes on."""
        with self._lock:
            taken = self._tallies
            self._tallies = {
                key: Tally(tally.in_flight) for key, tally in taken.items() if tally.in_flight
            }
        return taken

    def _of(self, endpoint: Endpoint) -> Tally:
        key = endpoint.instance or (endpoint.address, endpoint.port, endpoint.service)
        tally = self._tallies.get(key)
        if tally is None:
            if len(self._tallies) >= self.most:
                del self._tallies[next(iter(self._tallies))]
                self.forgotten += 1
            tally = self._tallies[key] = Tally()
        return tally


def merged(windows: Iterable[Mapping[Key, Tally]]) -> dict[Key, Tally]:
    """Windows that follow each other, as one."""
    found: dict[Key, Tally] = {}
    for window in windows:
        for key, tally in window.items():
            found.setdefault(key, Tally()).add(tally)
    return found


def outcomes_of(window: Mapping[Key, Tally]) -> list[pb.Outcomes]:
    """A window as it is sent."""
    return [
        pb.Outcomes(
            **_name_of(key),
            attempts=sum(tally.counts),
            connect_errors=tally.counts[Outcome.CONNECT_ERROR],
            timeouts=tally.counts[Outcome.TIMEOUT],
            failures=tally.counts[Outcome.FAILURE],
            in_flight=tally.in_flight,
            latency=tally.latency,
        )
        for key, tally in window.items()
    ]


def _name_of(key: Key) -> dict[str, Any]:
    if isinstance(key, str):
        return {"instance": key}
    address, port, service = key
    return {"address": address, "port": port, "service": service}
