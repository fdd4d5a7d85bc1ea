"""Steady questions through every way in, and steady writes through every core, all noted."""

import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from typing import Protocol, Self

import dns.exception
import dns.rcode
import grpc

from meshd.core.model import Instance, parse_address
from meshd.core.selector import Version
from meshd.core.topology import Kind
from meshd.v1 import topology_pb2 as pb
from meshd.v1 import topology_pb2_grpc
from meshd.wire.messages import record_to_message
from tests.docker.history import Answer, Fault, Outcome, Report, Rules, Write, judge
from tests.servers.processes import wait_until
from tests.servers.queries import Asker, addresses

NAMES = ("wave-0", "wave-1", "wave-2")
# Two Pops, so that answers depend on who asks and no DNS server keeps them.
TEXT = """
zones:
  mesh.internal: {ns: [{ns1.mesh.internal: [127.0.0.1]}], contact: hostmaster@mesh.internal}
pops:
  eu: {fallback: [us]}
  us: {}
ranges:
  0.0.0.0/0: eu
  192.0.2.0/24: us
  10.1.0.0/16: {pop: eu, services: ["many@{1.2: 90, 1.3: 10}"]}
  10.1.128.0/20: {pop: us, services: [many@1.3]}
  10.2.0.0/16: us
services:
  api: {name: api.mesh.internal, ports: {http: 8080/tcp}, check: {http: /, every: 1s}}
"""
SERVICES_TEXT = """
  bulk: {name: bulk.mesh.internal, ports: {http: 80/tcp}}
  many: {name: many.mesh.internal, ports: {http: 80/tcp}, version: 1.2.*}
"""
SERVICES_TEXT += "".join(
    f"  {name}: {{name: {name}.mesh.internal, ports: {{http: 80/tcp}}}}\n" for name in NAMES
)
INSTANCES_TEXT = "instances:\n" + "".join(
    f"  {name}-us: {{service: {name}, version: 1.0.0, pop: us, address: 10.19.0.1}}\n"
    for name in NAMES
)
INSTANCES_TEXT += "".join(
    f"  many-{n}: {{service: many, version: 1.{2 + n % 3 // 2}.{n}, capacity: {1 + n % 4}, "
    f"pop: {('us', 'eu')[n % 2]}, address: [10.17.0.{n + 1}, '2001:db8::{n + 1}']}}\n"
    for n in range(24)
)
_QUESTIONS_S = 20.0
_QUESTION_S = 2.0
_WRITE_EVERY_S = 0.3
# A core says within two seconds that it cannot write.
_WRITE_S = 3.0
# Questions that must be right after all had to be well again.
_REST_S = 1.5
_ATTEMPTS = 20
_CHANNEL = (("grpc.enable_retries", 0), ("grpc.max_reconnect_backoff_ms", 500))
_NOT_WRITTEN = frozenset(
    {
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    }
)
# How UNAVAILABLE tells that nothing was written; what says none of this may be there, or come.
_REFUSALS = ("nothing is written", "nothing was written", "takes no writes", "failed to connect")


@dataclass(frozen=True, slots=True)
class Way:
    """A way in: a DNS server where it listens; `host` is the one whose answerers it asks."""

    name: str
    host: str
    server: str
    port: int
    tcp: bool = False

    def ask(self, name: str, timeout_s: float = _QUESTION_S) -> Answer:
        """Ask for the addresses of a service; a connection that fails is a question lost."""
        asker = Asker("127.0.0.1" if self.server.startswith("127.") else "0.0.0.0")
        asked = time.monotonic()
        try:
            reply = asker.ask(
                self.port,
                f"{name}.mesh.internal",
                server=self.server,
                tcp=self.tcp,
                timeout_s=timeout_s,
            )
        except (dns.exception.DNSException, OSError, EOFError):
            return Answer(self.name, name, asked, time.monotonic(), "timeout")
        found = tuple(addresses(reply))
        ttl_s = reply.answer[0].ttl if reply.answer else 0
        rcode = dns.rcode.to_text(reply.rcode())
        return Answer(self.name, name, asked, time.monotonic(), rcode, found, ttl_s)


class Reached(Protocol):
    """What is asked and written to: ways in, and where the gRPC of each core is."""

    @property
    def ways(self) -> Sequence[Way]:
        """All ways in."""

    @property
    def single(self) -> frozenset[str]:
        """Those behind which is one process."""

    @property
    def cores(self) -> Mapping[str, str]:
        """Core -> where its gRPC is."""

    @property
    def steady(self) -> Mapping[str, frozenset[str]]:
        """Names whose sets nobody changes: what registered itself."""


def outcome_of(error: grpc.RpcError) -> Outcome:
    """What an error says of a write."""
    text = error.details() or ""
    if text.startswith("it is written"):
        return Outcome.ACKNOWLEDGED
    is_refused = error.code() in _NOT_WRITTEN or any(each in text for each in _REFUSALS)
    return Outcome.REFUSED if is_refused else Outcome.UNKNOWN


class Writer:
    """Writes sets, each with addresses that were never written before."""

    def __init__(self, cores: Mapping[str, str]) -> None:
        self.writes: list[Write] = []
        self.refusals: list[str] = []
        self._number = 0
        self._lock = threading.Lock()
        self._channels = {
            core: grpc.insecure_channel(where, options=_CHANNEL) for core, where in cores.items()
        }

    def close(self) -> None:
        """Close the connections."""
        for channel in self._channels.values():
            channel.close()

    def write(self, core: str, name: str, timeout_s: float = _WRITE_S) -> Write:
        """Give a name a new set, in one commit through a core."""
        with self._lock:
            self._number += 1
            number = self._number
        fresh = addresses_of(number)
        edits = [edit_of(name, f"{name}-{place}", at) for place, at in enumerate(fresh)]
        request = pb.CommitRequest(edits=edits, author="writer", what=what_of(number), force=True)
        began = time.monotonic()
        outcome = Outcome.ACKNOWLEDGED
        try:
            self._stub(core).Commit(request, timeout=timeout_s)
        except grpc.RpcError as error:
            outcome = outcome_of(error)
            self.refusals.append(f"{core}: {error.code().name}: {error.details()}")
        written = Write(name, frozenset(fresh), began, time.monotonic(), outcome)
        self.writes.append(written)
        return written

    def fill(self, core: str, prefix: str, count: int) -> None:
        """Write many instances that nobody asks for."""
        edits = [
            edit_of("bulk", f"{prefix}-{number}", f"10.18.0.{1 + number % 250}")
            for number in range(count)
        ]
        request = pb.CommitRequest(edits=edits, author="writer", what=prefix, force=True)
        told = []
        for _ in range(_ATTEMPTS):
            try:
                self._stub(core).Commit(request, timeout=10)
            except grpc.RpcError as error:
                # The other writes come at the same moment.
                if error.code() is not grpc.StatusCode.ABORTED:
                    raise
                told.append(f"{time.monotonic():.3f} {error.details()}")
            else:
                return
        raise TimeoutError(f"{prefix} could not be written: {told}")

    def _stub(self, core: str) -> topology_pb2_grpc.TopologyStub:
        return topology_pb2_grpc.TopologyStub(self._channels[core])


def edit_of(service: str, name: str, address: str) -> pb.Edit:
    """The edit that puts an instance."""
    made = Instance(name, service, Version("1.0.0"), "eu", (parse_address(address),))
    return pb.Edit(kind=Kind.INSTANCES, name=name, record=record_to_message(made))


def addresses_of(number: int) -> list[str]:
    """The set of a write: addresses that no other one has."""
    high, low = divmod(number, 250)
    return [f"10.{20 + place}.{high}.{low + 1}" for place in range(2)]


def what_of(number: int) -> str:
    """What the audit says of a write."""
    return f"set {number}"


class Load:
    """Questions and writes from entering to leaving, and the verdict on them.

    Entered once every way answers what was written last: no row begins in the trouble of another.
    """

    def __init__(self, reached: Reached, writer: Writer, seed: int = 1) -> None:
        self._reached = reached
        self._writer = writer
        self._draw = random.Random(seed)
        self._answers: list[list[Answer]] = []
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._settled: list[Write] = []
        self._since = 0
        self._faults: list[Fault] = []
        # Cores that are written to.
        self.cores = list(reached.cores)

    @property
    def writes(self) -> list[Write]:
        """The writes of this load, and what was there when it began."""
        return [*self._settled, *self._writer.writes[self._since :]]

    def __enter__(self) -> Self:
        self._settled = settle(self._reached, self._writer)
        self._since = len(self._writer.writes)
        work: list[Callable[[], None]] = [self._write]
        for way in self._reached.ways:
            answers: list[Answer] = []
            self._answers.append(answers)
            work.append(partial(self._ask, way, answers))
        self._threads = [threading.Thread(target=each) for each in work]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(10)

    def _ask(self, way: Way, answers: list[Answer]) -> None:
        names = (*NAMES, *self._reached.steady)
        due = time.monotonic()
        while not self._stop.is_set():
            answers.append(way.ask(names[len(answers) % len(names)]))
            # What was late is not made up for in a burst.
            due = max(due + 1 / _QUESTIONS_S, time.monotonic())
            self._stop.wait(due - time.monotonic())

    def _write(self) -> None:
        while not self._stop.wait(_WRITE_EVERY_S):
            core = self._draw.choice(self.cores)
            self._writer.write(core, self._draw.choice(NAMES))

    def go_on(self, seconds: float) -> None:
        """Let it run."""
        self._stop.wait(seconds)

    @contextmanager
    def broken(
        self,
        stale_s: float = 0.0,
        *,
        settle_s: float = 3.0,
        stale: Iterable[str] | None = None,
        fails: Iterable[str] = (),
    ) -> Iterator[None]:
        """What is broken in the block is healed by its end; then all comes to rest.

        Ways in `stale` (all unless given) may lag until then, those in `fails` fail.
        """
        began = time.monotonic()
        yield
        healed = time.monotonic()
        ways = frozenset(way.name for way in self._reached.ways) if stale is None else stale
        self._faults.append(
            Fault(began, healed, settle_s, stale_s, frozenset(ways), frozenset(fails))
        )
        self.go_on(settle_s + _REST_S)

    def report(self) -> Report:
        """The verdict; asked for after leaving."""
        answers = [answer for each in self._answers for answer in each]
        rules = Rules(single=self._reached.single)
        never = float("-inf")
        steady = [
            Write(name, found, never, never, Outcome.ACKNOWLEDGED)
            for name, found in self._reached.steady.items()
        ]
        return judge([*self.writes, *steady], answers, self._faults, rules)


def settle(reached: Reached, writer: Writer, timeout_s: float = 40.0) -> list[Write]:
    """Write each name anew and wait until every way answers that; what was written."""
    settled = [_written(reached, writer, name, timeout_s) for name in NAMES]
    expected = {written.name: written.addresses for written in settled} | dict(reached.steady)
    for way in reached.ways:
        for name in expected:

            def is_answered(way: Way = way, name: str = name) -> bool:
                return frozenset(way.ask(name).addresses) == expected[name]

            wait_until(f"{way.name} answers {sorted(expected[name])}", is_answered, timeout_s)
    return settled


def _written(reached: Reached, writer: Writer, name: str, timeout_s: float) -> Write:
    """One write that was acknowledged, by whichever core."""
    end = time.monotonic() + timeout_s
    for core in cycle(reached.cores):
        written = writer.write(core, name)
        if written.outcome is Outcome.ACKNOWLEDGED:
            return written
        if time.monotonic() > end:
            break
        time.sleep(0.1)
    raise TimeoutError(f"{name} could not be written: {writer.refusals[-3:]}")
