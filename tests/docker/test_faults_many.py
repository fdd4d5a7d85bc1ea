"""Many writes while the leader dies: each once, or not at all. Many questions: answered alike."""

import asyncio
import random
import socket
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import count

import dns.edns
import dns.message
import grpc
import pytest

from meshd.v1 import topology_pb2 as pb
from meshd.v1 import topology_pb2_grpc
from tests.docker.history import Outcome, audit_faults
from tests.docker.nodes import CORES, Nodes
from tests.docker.probe import Writer, edit_of, outcome_of, settle
from tests.docker.promises import Promises
from tests.docker.rows import wait_healthy
from tests.servers.processes import wait_until

pytestmark = [pytest.mark.docker, pytest.mark.faults, pytest.mark.timeout(900)]

_WRITES = 500
# Of all that plan on one state one passes; the others try again until so long after the start.
_TRY_S = 20.0
# So many are acknowledged when the leader is killed.
_MIDDLE = 50
_QUESTIONS = 10_000
_AGAIN = 10


@dataclass(frozen=True, slots=True)
class Attempt:
    """One write of many: what the audit says of it, the address that it wrote, what came of it."""

    what: str
    instance: str
    address: str
    outcome: Outcome


class Crowd:
    """Writes that are all under way at once, each of an instance of its own."""

    def __init__(self, nodes: Nodes, run: str) -> None:
        self.attempts: list[Attempt] = []
        self.acknowledged = 0
        self.is_in_the_middle = asyncio.Event()
        self._nodes = nodes
        self.run = run
        self._draw = random.Random(run)

    async def write(self) -> None:
        """All of them; those that lose to another one are tried again, as other writes."""
        channels = [grpc.aio.insecure_channel(where) for where in self._nodes.cores.values()]
        stubs = [topology_pb2_grpc.TopologyStub(channel) for channel in channels]
        try:
            await asyncio.gather(*(self._write(number, stubs) for number in range(_WRITES)))
        finally:
            for channel in channels:
                await channel.close()

    async def _write(self, number: int, stubs: list[topology_pb2_grpc.TopologyStub]) -> None:
        give_up = time.monotonic() + _TRY_S
        for attempt in count():
            name = f"{self.run}-{number}"
            address = f"10.{40 + attempt % 100}.{number // 250}.{1 + number % 250}"
            what = f"{name} attempt {attempt}"
            outcome = await self._commit(self._draw.choice(stubs), name, address, what)
            self.attempts.append(Attempt(what, name, address, outcome))
            if outcome is Outcome.ACKNOWLEDGED:
                self.acknowledged += 1
                if self.acknowledged == _MIDDLE:
                    self.is_in_the_middle.set()
            if outcome is not Outcome.REFUSED or time.monotonic() > give_up:
                return
            await asyncio.sleep(self._draw.uniform(0, 3))

    async def _commit(
        self, stub: topology_pb2_grpc.TopologyStub, name: str, address: str, what: str
    ) -> Outcome:
        request = pb.CommitRequest(
            edits=[edit_of("bulk", name, address)], author="crowd", what=what, force=True
        )
        try:
            await stub.Commit(request, timeout=10)
        except grpc.aio.AioRpcError as error:
            return outcome_of(error)
        return Outcome.ACKNOWLEDGED


def _audit(nodes: Nodes, core: str, prefix: str) -> list[str]:
    """What the audit says was done, of what begins so."""
    found: list[str] = []
    before = 0
    with nodes.channel(core) as channel:
        stub = topology_pb2_grpc.TopologyStub(channel)
        while True:
            reply = stub.History(pb.HistoryRequest(limit=1000, before=before), timeout=10)
            if not reply.entries:
                return found
            found += [each.what for each in reply.entries if each.what.startswith(prefix)]
            before = min(each.revision for each in reply.entries)


def _held(nodes: Nodes, core: str) -> dict[str, str]:
    """Instance -> its first address, as a core has it."""
    with nodes.channel(core) as channel:
        stub = topology_pb2_grpc.TopologyStub(channel)
        pages = list(stub.Get(pb.GetRequest(kinds=["instances"]), timeout=10))
    records = [record.instance for page in pages for record in page.records]
    return {each.name: each.addresses[0] for each in records}


def test_the_leader_is_killed_in_the_middle_of_500_writes(
    nodes: Nodes, writer: Writer, promises: Promises
) -> None:
    crowd = Crowd(nodes, f"crowd{time.monotonic_ns() % 10**9}")

    async def run() -> None:
        writing = asyncio.create_task(crowd.write())
        await asyncio.wait_for(crowd.is_in_the_middle.wait(), 60)
        leader = await asyncio.to_thread(nodes.leader)
        nodes.kill(leader)
        await writing
        nodes.start(leader)

    asyncio.run(run())
    wait_healthy(nodes)
    outcomes = {each.what: each.outcome for each in crowd.attempts}
    assert len(outcomes) == len(crowd.attempts)
    assert audit_faults(outcomes, _audit(nodes, "core1", crowd.run)) == []
    assert crowd.acknowledged > 2 * _MIDDLE
    written = {e.instance: e.address for e in crowd.attempts if e.outcome is Outcome.ACKNOWLEDGED}
    never = {e.address for e in crowd.attempts if e.outcome is Outcome.REFUSED}
    for core in CORES:
        wait_until(f"{core} has them", partial(_has, nodes, core, written), 20)
        assert not never & set(_held(nodes, core).values())
    counts = Counter(outcomes.values())
    promises.kept(
        "etcd: the leader is killed amid 500 writes", "each is there once, or refused and not",
        f"{counts[Outcome.ACKNOWLEDGED]} acknowledged, {counts[Outcome.REFUSED]} refused, "
        f"{counts[Outcome.UNKNOWN]} unknown",
    )  # fmt: skip


def _has(nodes: Nodes, core: str, written: dict[str, str]) -> bool:
    return written.items() <= _held(nodes, core).items()


def _questions(draw: random.Random) -> list[bytes]:
    """Random questions of random clients, about all that there is and some that is not."""
    names = ["many", "api", "wave-0", "wave-1", "1-2.version.many", "latest.version.many",
             "eu.pop.many", "us.pop.many", "many-3.instance.many", "_http._tcp.many",
             "_http._tcp.api", "nothing"]  # fmt: skip
    made = []
    for _ in range(_QUESTIONS):
        kind = draw.choice(["A", "A", "AAAA", "SRV", "TXT", "HTTPS", "SOA"])
        first = draw.choice(["10.1", "10.2", "10.3", "192.0"])
        subnet = f"{first}.{draw.randrange(256)}.{draw.randrange(256)}"
        option = dns.edns.ECSOption(subnet, draw.choice([16, 20, 24, 32]))
        query = dns.message.make_query(
            f"{draw.choice(names)}.mesh.internal", kind, use_edns=0, payload=4096, options=[option]
        )
        query.id = draw.randrange(1 << 16)
        made.append(query.to_wire())
    return made


def _replies(sockets: list[socket.socket], question: bytes) -> set[bytes]:
    for each in sockets:
        each.send(question)
    return {each.recv(4096) for each in sockets}


def test_three_cores_answer_alike(nodes: Nodes, writer: Writer, promises: Promises) -> None:
    settle(nodes, writer)
    wait_until(
        "all are at one revision",
        lambda: len({nodes.state(core).revision for core in CORES}) == 1,
    )
    draw = random.Random(6)
    sizes: Counter[int] = Counter()
    again = 0
    with ExitStack() as stack:
        sockets = []
        for core in CORES:
            made = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            made.settimeout(5)
            made.connect((nodes.addresses(core)[0], 5300))
            sockets.append(made)
        for question in _questions(draw):
            replies = _replies(sockets, question)
            # A signal that is on its way to two of them, a slow start's next step for one.
            for _ in range(_AGAIN):
                if len(replies) == 1:
                    break
                again += 1
                time.sleep(0.2)
                replies = _replies(sockets, question)
            texts = [str(dns.message.from_wire(each)) for each in replies]
            assert len(replies) == 1, "\n".join(texts)
            sizes[len(replies.pop())] += 1
    assert again < _QUESTIONS // 100
    assert len(sizes) > 20, "the questions were not all of one kind"
    promises.kept(
        "three cores at one revision", "equal to the byte",
        f"{_QUESTIONS} random questions, three equal replies to each, {again} asked again",
    )  # fmt: skip
