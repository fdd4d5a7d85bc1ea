"""Three cores over one store: what one measures all answer from, whoever dies or is cut off."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from ipaddress import ip_network
from itertools import pairwise
from pathlib import Path
from typing import Any

from dns.rdatatype import AAAA, HTTPS, SRV, TXT, A
from prometheus_client import CollectorRegistry

from meshd.core.guard import Guard
from meshd.core.model import Check, Force
from meshd.core.names import to_wire
from meshd.core.resolve import Client, resolve
from meshd.core.signals import Signal
from meshd.core.snapshot import Snapshot
from meshd.core.verdict import Verdict
from meshd.daemon.exchange_metrics import ExchangeCollector
from meshd.v1 import (
    cluster_pb2,
    cluster_pb2_grpc,
    reporter_pb2,
    reporter_pb2_grpc,
    resolver_pb2,
)
from meshd.wire import answers
from tests.daemon.cores import Process, code_of, until
from tests.daemon.several import Member, Several, several
from tests.tcp import TcpServer

SERVICES = tuple(f"s{n}" for n in range(6))
INSTANCES = tuple(f"{service}-{n}" for service in SERVICES for n in range(5))
CHECK = Check("tcp", rise=1, fall=2)


def document(more: str = "slow_start: 0s") -> str:
    services = "".join(
        f"  {name}: {{name: {name}.mesh.internal, ports: {{http: 80/tcp}}, {more}}}\n"
        for name in SERVICES
    )
    return f"""
zones: {{mesh.internal: {{ns: [{{ns1.mesh.internal: [127.0.0.1]}}], contact: a@mesh.internal}}}}
pops: {{eu: {{}}, us: {{}}}}
ranges: {{10.1.0.0/16: eu, 10.2.0.0/16: us}}
services:
{services}"""


CHECKED = document("slow_start: 0s, check: {tcp: '', rise: 1, fall: 2}")


@asynccontextmanager
async def peopled(path: Path, text: str) -> AsyncIterator[tuple[Several, dict[str, Process]]]:
    """Three cores, and a process for each instance on one of them."""
    async with several(path) as cores:
        await cores.cores["a"].apply(text)
        await until("all have it", lambda: cores.are_equal)
        processes: dict[str, Process] = {}
        for number, name in enumerate(INSTANCES):
            core = list(cores)[number % 3]
            at = f"10.{1 + int(name[1])}.0.{1 + int(name[-1])}"
            pop = "eu" if int(name[-1]) < 3 else "us"
            processes[name] = await core.register(
                name, service=name[:2], addresses=[at], pop=pop, lease_s=60.0
            )
        await until("all have them", lambda: cores.are_equal)
        yield cores, processes


def deciders(cores: Several) -> set[str]:
    return {cores.decider(service).name for service in SERVICES}


def probes(cores: Several, name: str, *passed: bool) -> None:
    """The cores that probe an instance find one thing."""
    for core in cores.running:
        if core.name in core.pump.observed.duties.probers(name):
            for each in passed:
                core.pump.probe(name, each, CHECK)


async def test_a_load_told_to_one_core_changes_all(tmp_path: Path) -> None:
    async with peopled(tmp_path, document()) as (cores, processes):
        assert len(deciders(cores)) > 1, "spread over the cores"
        for name in INSTANCES:
            await processes[name].beat(0.8 if name.endswith("0") else 0.4)
        await until(
            "the loads are everywhere",
            lambda: all(
                core.signals()[name].load == (0.8 if name.endswith("0") else 0.4)
                for core in cores
                for name in INSTANCES
            ),
        )
        await until(
            "all give the loaded ones less",
            lambda: all(core.signals()["s0-0"].share < 1 for core in cores),
        )
        await until("all hold the same", lambda: cores.are_equal)
        await processes["s0-0"].beat(0.8, lame_duck=True)
        await until(
            "it drains on all", lambda: {c.verdict("s0-0") for c in cores} == {Verdict.DRAINING}
        )


class Reporter:
    """A client that says how calls went, on a core."""

    def __init__(self, core: Member, name: str) -> None:
        self.name = name
        self.call: Any = reporter_pb2_grpc.ReporterStub(core.channel).Report()

    async def says(self, failing: str) -> None:
        outcomes = [
            reporter_pb2.Outcomes(instance=n, attempts=20, failures=20 if n == failing else 0)
            for n in INSTANCES
        ]
        await self.call.write(
            reporter_pb2.ReportRequest(reporter=self.name, window_s=2.0, outcomes=outcomes)
        )
        async with asyncio.timeout(10):
            await self.call.read()


def questions(number: int) -> Iterator[tuple[str, int, Client | None]]:
    chance = random.Random(number)
    for _ in range(number):
        service = chance.choice(SERVICES)
        below = ("", "", "_http._tcp.", "1-2.version.", "latest.version.", "eu.pop.", "us.pop.",
                 f"{service}-{chance.randrange(5)}.instance.", "no.")  # fmt: skip
        pop, x, y = chance.choice((1, 2, 9)), chance.randrange(256), chance.randrange(256)
        client = Client.parse(f"10.{pop}.{x}.{y}") if chance.random() < 0.95 else None
        kind = chance.choice((A, A, AAAA, SRV, TXT, HTTPS))
        yield f"{chance.choice(below)}{service}.mesh.internal.", int(kind), client


def answer(snapshot: Snapshot, name: str, kind: int, client: Client | None) -> str:
    found = resolve(snapshot, to_wire(name), client)
    whole, _ = answers.answer_template(snapshot, found, to_wire(name), kind)
    return answers.fill(whole, name, found.scope)


async def test_all_give_the_same_answers(tmp_path: Path) -> None:
    """10,000 questions, after loads, probes, reports and forced verdicts that moved about."""
    chance = random.Random(6)
    async with peopled(tmp_path, CHECKED) as (cores, processes):
        reporters = [Reporter(core, f"{core.name}{n}") for core in cores for n in range(2)]
        for name in INSTANCES:
            probes(cores, name, True)
        for step in range(30):
            for name in chance.sample(INSTANCES, 5):
                await processes[name].beat(round(chance.random(), 2))
                probes(cores, chance.choice(INSTANCES), chance.random() < 0.6)
            if step % 10 == 0:
                for reporter in reporters:
                    await reporter.says(failing="s1-1")
                core = chance.choice(list(cores))
                await core.force(chance.choice(INSTANCES), Force.DOWN, is_forced=True)
            await asyncio.sleep(0.1)
        await until("all hold the same", lambda: cores.are_equal)
        snapshots = [core.state.snapshot for core in cores]
        signals = snapshots[0].signals.values()
        assert len({signal.load for signal in signals}) > 5
        assert {signal.verdict for signal in signals} >= {Verdict.UP, Verdict.DOWN}
        assert any(signal.success < 1 for signal in signals)
        distinct = set()
        for question in questions(10_000):
            first, *others = (answer(snapshot, *question) for snapshot in snapshots)
            assert others == [first, first], question
            distinct.add(first)
        assert len(distinct) > 500


class Seen:
    """Every verdict and share that each core had of each instance, in order."""

    def __init__(self, cores: Several) -> None:
        self.cores = cores
        self.signals: dict[tuple[str, str], list[Signal]] = {}
        self._tasks = [asyncio.create_task(self._watch(core)) for core in cores]

    async def _watch(self, core: Member) -> None:
        while True:
            for name, signal in core.signals().items():
                seen = self.signals.setdefault((core.name, name), [])
                if not seen or seen[-1] != signal:
                    seen.append(signal)
            await core.state.moved()

    def verdicts(self, name: str) -> set[Verdict]:
        return {s.verdict for (_, n), seen in self.signals.items() if n == name for s in seen}

    def steps(self, name: str) -> float:
        """The greatest move of a share from one moment to the next."""
        return max(
            (
                abs(after.share - before.share)
                for (_, n), seen in self.signals.items()
                if n == name
                for before, after in pairwise(seen)
            ),
            default=0.0,
        )

    async def end(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@asynccontextmanager
async def watched(cores: Several) -> AsyncIterator[Seen]:
    seen = Seen(cores)
    try:
        yield seen
    finally:
        await seen.end()


async def keep_beating(processes: dict[str, Process]) -> None:
    """Loads and nothing else; who has lost its core says nothing any more."""
    while True:
        for name, process in processes.items():
            with contextlib.suppress(Exception):
                await process.beat(0.9 if name.endswith("0") else 0.4)
        await asyncio.sleep(0.5)


async def test_a_dead_decider_is_followed_by_another_without_a_jump(tmp_path: Path) -> None:
    async with peopled(tmp_path, CHECKED) as (cores, processes):
        for name in INSTANCES:
            probes(cores, name, *([False, False] if name.endswith("4") else [True]))
        await until(
            "the last of each is down",
            lambda: all(c.verdict(f"{s}-4") is Verdict.DOWN for c in cores for s in SERVICES),
        )
        victim = cores.decider("s0")
        mine = {n: p for n, p in processes.items() if p.core is not victim}
        beating = asyncio.create_task(keep_beating(mine))
        try:
            loaded = [name for name in mine if name.endswith("0")]
            await until(
                "shares follow loads",
                lambda: all(c.signals()[n].share < 0.9 for c in cores for n in loaded),
            )
            await asyncio.sleep(2)
            async with watched(cores) as seen:
                await victim.kill()
                await until("the others share its duties", lambda: cores.is_settled)
                assert cores.decider("s0").is_running
                await asyncio.sleep(3)
                await until("all hold the same", lambda: cores.are_equal)
        finally:
            beating.cancel()
            await asyncio.gather(beating, return_exceptions=True)
        for name in INSTANCES:
            down = name.endswith("4")
            assert seen.verdicts(name) == {Verdict.DOWN if down else Verdict.UP}, name
            assert seen.steps(name) <= 0.11, name
        # It decides, and does not just remember.
        probes(cores, "s0-1", False, False)
        await until(
            "one more is down", lambda: {c.verdict("s0-1") for c in cores.running} == {Verdict.DOWN}
        )


async def test_one_that_is_cut_off_goes_on_and_heals_without_flapping(tmp_path: Path) -> None:
    async with peopled(tmp_path, CHECKED) as (cores, processes):
        for name in INSTANCES:
            probes(cores, name, *([False, False] if name.endswith("4") else [True]))
        await until(
            "the last of each is down",
            lambda: (
                cores.are_equal
                and all(
                    (c.verdict(n) is Verdict.DOWN) == n.endswith("4")
                    for c in cores
                    for n in INSTANCES
                )
            ),
        )
        lonely = cores.decider("s0")
        others = [core for core in cores if core is not lonely]
        async with watched(cores) as seen:
            for wire in cores.between(lonely.name):
                wire.cut()
            names = {core.name for core in others}
            await until(
                "each side shares its duties",
                lambda: (
                    lonely.pump.observed.duties.able == (lonely.name,)
                    and all(set(core.pump.observed.duties.able) == names for core in others)
                ),
            )
            told = next(n for n, p in processes.items() if n[:2] == "s0" and p.core in others)
            await processes[told].beat(0.65)
            await until(
                "those that can hear it follow",
                lambda: {core.signals()[told].load for core in others} == {0.65},
            )
            assert lonely.signals()[told].load != 0.65
            for wire in cores.between(lonely.name):
                wire.heal()
            await until("all know of all", lambda: cores.is_settled)
            await until("all hold the same", lambda: cores.are_equal)
            assert lonely.signals()[told].load == 0.65
        for name in INSTANCES:
            down = name.endswith("4")
            assert seen.verdicts(name) == {Verdict.DOWN if down else Verdict.UP}, name


async def test_a_deaf_wire_is_as_good_as_cut(tmp_path: Path) -> None:
    async with peopled(tmp_path, document()) as (cores, _):
        for wire in cores.between("a"):
            wire.deafen()
        a, b = cores.cores["a"], cores.cores["b"]
        await until("b is without a", lambda: b.pump.observed.duties.able == ("b", "c"))
        await until("a is alone", lambda: a.pump.observed.duties.able == ("a",))
        for wire in cores.between("a"):
            wire.heal()
        await until("all know of all", lambda: cores.is_settled)


async def test_one_view_takes_nobody_out(tmp_path: Path) -> None:
    async with peopled(tmp_path, CHECKED) as (cores, _):
        for name in INSTANCES:
            probes(cores, name, True)
        await until("up", lambda: {c.verdict("s1-1") for c in cores} == {Verdict.UP})
        first, second = cores.cores["a"].pump.observed.duties.probers("s1-1")
        async with watched(cores) as seen:
            for _ in range(5):
                cores.cores[first].pump.probe("s1-1", False, CHECK)
                cores.cores[second].pump.probe("s1-1", True, CHECK)
                await asyncio.sleep(0.3)
        assert seen.verdicts("s1-1") == {Verdict.UP}
        # The one that sees it up dies: the other cannot take it out by itself even then.
        probes(cores, "s1-1", False, False)
        await until("down", lambda: {c.verdict("s1-1") for c in cores} == {Verdict.DOWN})


async def test_reports_go_to_who_decides(tmp_path: Path) -> None:
    async with peopled(tmp_path, document()) as (cores, _):
        reporters = [Reporter(core, f"{core.name}{n}") for core in cores for n in range(2)]
        for _ in range(3):
            for reporter in reporters:
                await reporter.says(failing="s2-2")
            await asyncio.sleep(1.1)
        await until(
            "ejected on all", lambda: {core.signals()["s2-2"].success for core in cores} == {0.0}
        )
        decider = cores.decider("s2")
        assert decider.pump.reports.folded["s2-2"].voices == 6
        for core in cores:
            assert core is decider or "s2-2" not in core.pump.reports.folded


async def test_nodes_tell_of_all(tmp_path: Path) -> None:
    async with peopled(tmp_path, CHECKED) as (cores, _):
        await asyncio.sleep(1)
        stub = cluster_pb2_grpc.ClusterStub(cores.cores["b"].channel)
        found = await stub.Nodes(cluster_pb2.NodesRequest(), timeout=5)
        assert [node.node.name for node in found.nodes if node.is_asked] == ["b"]
        assert {node.node.name for node in found.nodes} == {"a", "b", "c"}
        assert all(node.heard_age_s < 3 for node in found.nodes)
        assert sum(node.state.services for node in found.nodes) == len(SERVICES)
        assert {node.state.revision for node in found.nodes} == {
            cores.cores["a"].state.snapshot.topology.revision
        }
        code, why = await code_of(stub.AcceptStore(cluster_pb2.AcceptStoreRequest(), timeout=5))
        assert code == "FAILED_PRECONDITION"
        assert "nothing to accept" in why


async def test_any_core_explains_and_says_who_decides(tmp_path: Path) -> None:
    async with peopled(tmp_path, CHECKED) as (cores, processes):
        probes(cores, "s0-0", False, False)
        await processes["s0-1"].beat(0.7)
        await until(
            "all know it",
            lambda: all(
                core.signals()["s0-1"].load == 0.7 and core.verdict("s0-0") is Verdict.DOWN
                for core in cores
            ),
        )
        decider = cores.decider("s0")
        for core in cores:
            asked = resolver_pb2.ExplainRequest(name="s0.mesh.internal", client="10.1.0.7")
            found = await core.resolver.Explain(asked, timeout=5)
            notes = [note for note in found.notes if "decided by" in note]
            assert len(notes) == (core is not decider)
            assert all(f"core {decider.name}" in note for note in notes)
            async for shown in core.resolver.Top(resolver_pb2.TopRequest(service="s0"), timeout=5):
                assert ("decided by" in shown.note) == (core is not decider)
                by_name = {each.instance: each for each in shown.services[0].instances}
                assert by_name["s0-1"].load == 0.7
                assert by_name["s0-1"].load_age_s < 10
                assert by_name["s0-0"].verdict == "down"


async def test_metrics_of_the_exchange(tmp_path: Path) -> None:
    async with peopled(tmp_path, document()) as (cores, _):
        decided = 0.0
        for core in cores:
            registry = CollectorRegistry()
            registry.register(ExchangeCollector(core.exchange, core.pump.reports))
            assert registry.get_sample_value("meshd_members") == 3
            for direction in ("sent", "heard"):
                labels = {"direction": direction}
                assert registry.get_sample_value("meshd_exchange_messages_total", labels)
            other = "b" if core.name == "a" else "a"
            age_s = registry.get_sample_value("meshd_exchange_age_seconds", {"node": other})
            assert age_s is not None
            assert age_s < 3
            assert registry.get_sample_value("meshd_exchange_dropped_total") == 0
            decided += registry.get_sample_value("meshd_services_decided") or 0.0
        assert decided == len(SERVICES)


async def test_a_stranger_is_not_heard(tmp_path: Path) -> None:
    async with several(tmp_path, ("a", "b")) as cores:
        a = cores.cores["a"]
        stub = cluster_pb2_grpc.ClusterStub(a.channel)
        for hello in (
            cluster_pb2.ExchangeRequest(store_id="another", node=cores.cores["b"].members.own),
            cluster_pb2.ExchangeRequest(store_id=cores.store.store_id),
        ):
            call: Any = stub.Exchange()
            await call.write(hello)
            assert (await code_of(call.read()))[0] == "FAILED_PRECONDITION"
        call = stub.Exchange()
        await call.done_writing()
        assert (await code_of(call.read()))[0] == "INVALID_ARGUMENT"


async def no_talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A port that is open, and no more."""


async def test_two_of_them_probe_each_and_others_take_over(tmp_path: Path) -> None:
    """With real probes of a real listener: at no moment is anybody out."""
    listener = TcpServer(no_talk, "0.0.0.0")
    await listener.start()
    check = "check: {tcp: '', every: 1s, timeout: 1s, rise: 1, fall: 2}"
    text = document(check).replace("80/tcp", f"{listener.port}/tcp") + "instances:\n"
    text += "".join(
        f"  {name}: {{service: {name[:2]}, version: 1.0.0, pop: eu, "
        f"address: 127.0.{name[1]}.{1 + int(name[-1])}}}\n"
        for name in INSTANCES
    )
    guard = Guard((ip_network("127.0.0.0/8"),))
    try:
        async with several(tmp_path, guard=guard) as cores:
            await cores.cores["a"].apply(text)
            await until(
                "all are up",
                lambda: all(c.verdict(n) is Verdict.UP for c in cores for n in INSTANCES),
            )
            await until("two each", lambda: probed_by(cores) == dict.fromkeys(INSTANCES, 2))
            async with watched(cores) as seen:
                await cores.cores["c"].kill()
                await until("the others know", lambda: cores.is_settled)
                await until("two each", lambda: probed_by(cores) == dict.fromkeys(INSTANCES, 2))
                await asyncio.sleep(2)
            assert {v for name in INSTANCES for v in seen.verdicts(name)} == {Verdict.UP}
            await listener.end()
            await until(
                "no more than the budget is out",
                lambda: (
                    sum(c.verdict(n) is Verdict.DOWN for c in cores.running for n in INSTANCES)
                    == 2 * 3 * len(SERVICES)
                ),
            )
    finally:
        await listener.end()


def probed_by(cores: Several) -> dict[str, int]:
    return {
        name: sum(name in core.prober.targets.by_name for core in cores.running)
        for name in INSTANCES
    }
