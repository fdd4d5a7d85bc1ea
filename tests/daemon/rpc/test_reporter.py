"""Reports over a real socket: what clients saw changes all answers, whoever lies or floods."""

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meshd.core.outcomes import Reporter
from meshd.daemon.rpc import reporter as module
from meshd.daemon.rpc.reporter import _host_of
from meshd.v1 import reporter_pb2 as pb
from meshd.v1 import reporter_pb2_grpc, resolver_pb2
from tests.daemon.rpc.core import Core, code_of, core, until

SERVICES = """
zones: {mesh.internal: {ns: [{ns1.mesh.internal: [127.0.0.1]}], contact: a@mesh.internal}}
pops: {eu: {}}
ranges: {10.1.0.0/16: eu}
services:
  api: {name: api.mesh.internal, ports: {http: 80/tcp}, max_answers: 3}
instances:
"""
NAMES = [f"api-{n}" for n in range(1, 5)]
DOCUMENT = SERVICES + "".join(
    f"  {name}: {{service: api, version: 1.2.0, pop: eu, address: 10.1.0.{n}}}\n"
    for n, name in enumerate(NAMES, start=1)
)


class Client:
    """A reporter that speaks by hand."""

    def __init__(self, made: Core, name: str) -> None:
        self.name = name
        self.call: Any = reporter_pb2_grpc.ReporterStub(made.channel).Report()

    async def send(self, *outcomes: pb.Outcomes, window_s: float = 2.0, **more: Any) -> Any:
        """One batch, and what is answered."""
        told = {"reporter": self.name, **more}
        await self.call.write(pb.ReportRequest(window_s=window_s, outcomes=outcomes, **told))
        async with asyncio.timeout(10):
            return await self.call.read()

    async def saw(self, failing: Mapping[str, float]) -> Any:
        """Report twenty calls to each instance."""
        calls = (pb.Outcomes(instance=n, attempts=20, failures=int(20 * failing.get(n, 0)))
                 for n in NAMES)  # fmt: skip
        return await self.send(*calls)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten batches where a core asks for two in this time: tests are short."""
    monkeypatch.setattr(module, "EVERY_S", 0.2)


async def reported(clients: Mapping[Client, Mapping[str, float]], seconds: float) -> None:
    """All report at their pace for some time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        await asyncio.gather(*(client.saw(failing) for client, failing in clients.items()))
        await asyncio.sleep(0.2)


async def explained(made: Core) -> dict[str, Any]:
    request = resolver_pb2.ExplainRequest(name="api.mesh.internal", client="10.1.0.7")
    reply = await made.resolver.Explain(request, timeout=5)
    return {line.instance: line for line in reply.instances}


def success(made: Core, name: str = "api-1") -> float:
    signal = made.state.snapshot.signals.get(name)
    return signal.success if signal else 1.0


async def resolved(made: Core, client: str) -> list[Any]:
    request = resolver_pb2.ResolveRequest(name="api.mesh.internal", client=client)
    return list((await made.resolver.Resolve(request, timeout=5)).endpoints)


async def test_what_three_saw_changes_the_answers_of_all(tmp_path: Path) -> None:
    async with core(tmp_path, DOCUMENT) as made:
        clients = {Client(made, f"r{n}"): {"api-1": 0.5} for n in range(3)}
        await reported(clients, 0.5)
        await until("it is ejected", lambda: success(made) == 0)
        for last in range(40):
            endpoints = await resolved(made, f"10.1.0.{last}")
            assert endpoints[-1].instance == "api-1"
            assert [each.in_set for each in endpoints] == [True, True, True, False]
        line = (await explained(made))["api-1"]
        assert (line.success, line.clients.reporters, line.excluded) == (0, 3, "")
        assert "ejected: clients see it fail; 5" in line.reason
        reply = await made.resolver.Top(resolver_pb2.TopRequest(), timeout=5).read()
        (service,) = reply.services
        tops = {each.instance: each for each in service.instances}
        assert (tops["api-1"].success, tops["api-1"].share) == (0, 0)
        assert tops["api-1"].clients.success == pytest.approx(0.52, abs=0.05)
        assert tops["api-2"].clients.success == 1
        assert not tops["api-2"].clients.HasField("p50_ms")


async def test_who_is_well_again_comes_back_gradually(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("meshd.core.ejection._BASE_S", 2.0)
    async with core(tmp_path, DOCUMENT) as made:
        clients: dict[Client, Mapping[str, float]] = {
            Client(made, f"r{n}"): {"api-1": 1.0} for n in range(3)
        }
        await reported(clients, 0.5)
        await until("it is ejected", lambda: success(made) == 0)
        seen = {0.0}
        began = time.monotonic()
        while success(made) < 0.2 and time.monotonic() - began < 30:
            await reported({each: {} for each in clients}, 0.1)
            seen.add(success(made))
        assert time.monotonic() - began > 4
        assert {0.0, 0.05, 0.1} <= seen
        assert (await explained(made))["api-1"].weight < 100


async def test_a_process_that_is_started_again_is_let_in(tmp_path: Path) -> None:
    async with core(tmp_path, DOCUMENT) as made:
        first = await made.register("api-9", lease_s=30)
        clients = [Client(made, f"r{n}") for n in range(3)]
        for client in clients:
            bad = pb.Outcomes(instance="api-9", attempts=20, connect_errors=20)
            await client.send(bad, pb.Outcomes(instance="api-1", attempts=20))
        await until("it is ejected", lambda: success(made, "api-9") == 0)
        began = time.monotonic()
        second = await made.register("api-9", lease_s=30)
        await until("the next is let in", lambda: success(made, "api-9") > 0)
        assert time.monotonic() - began < 8, "it did not wait for the end of the ejection"
        for process in (first, second):
            process.vanish()


async def test_two_of_eight_that_lie_change_nothing(tmp_path: Path) -> None:
    lies = {"api-2": 1.0, "api-3": 1.0, "api-4": 1.0}
    async with core(tmp_path, DOCUMENT) as made:
        clients: dict[Client, Mapping[str, float]] = {
            Client(made, f"r{n}"): lies if n < 2 else {"api-1": 1.0} for n in range(8)
        }
        await reported(clients, 2.5)
        await until("it is ejected", lambda: success(made) == 0)
        assert [success(made, name) for name in NAMES[1:]] == [1.0, 1.0, 1.0]
        folded = made.pump.reports.folded
        assert all(folded[name].voices == 8 for name in NAMES)


async def test_a_flood_is_counted_and_keeps_nobody_out(tmp_path: Path) -> None:
    async with core(tmp_path, DOCUMENT) as made:
        reports = made.pump.reports
        loud = Client(made, "loud")
        batch = [pb.Outcomes(instance=n, attempts=1, failures=1) for n in NAMES[1:]] * 100

        async def flood() -> None:
            while True:
                await loud.call.write(
                    pb.ReportRequest(reporter="loud", window_s=0.02, outcomes=batch)
                )

        async def heard() -> None:
            while await loud.call.read() is not grpc.aio.EOF:
                pass

        began = time.monotonic()
        work = [asyncio.create_task(flood()), asyncio.create_task(heard())]
        await until("the flood is under way", lambda: reports.ignored["early"] > 0)
        # Their pace is that of a busy machine: none of the honest is early.
        honest: dict[Client, Mapping[str, float]] = {
            Client(made, f"r{n}"): {"api-1": 1.0} for n in range(4)
        }
        for _ in range(6):
            replies = await asyncio.gather(*(each.saw(told) for each, told in honest.items()))
            assert [reply.ignored for reply in replies] == [0] * 4
            await asyncio.sleep(0.25)
        await until("the honest are heard", lambda: success(made) == 0)
        assert [success(made, name) for name in NAMES[1:]] == [1.0, 1.0, 1.0]
        assert reports.ignored["early"] >= 1000
        # One is read, and one left out, in a tenth of a second; the rest waits on its side.
        assert reports.batches <= 20 * (time.monotonic() - began) + 2 + 4 * 6
        assert reports.voices == 4 * 4 + 3
        assert reports.reporters == 5
        for each in work:
            each.cancel()
        await asyncio.gather(*work, return_exceptions=True)


async def test_names_that_are_made_up_take_no_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("meshd.daemon.reports.MOST_REPORTERS", 50)
    monkeypatch.setattr("meshd.daemon.reports.MOST_VOICES", 20)
    async with core(tmp_path, DOCUMENT) as made:
        for n in range(150):
            client = Client(made, f"made-up-{n}")
            await client.saw({})
            await client.call.done_writing()
        assert made.pump.reports.reporters == 50
        assert made.pump.reports.voices == 20 * len(NAMES)
        assert made.pump.reports.ignored["crowded"] == 130 * len(NAMES)


async def test_what_is_left_out_is_counted_by_why(tmp_path: Path) -> None:
    async with core(tmp_path, DOCUMENT) as made:
        good = pb.Outcomes(instance="api-1", attempts=4)
        reply = await Client(made, "a").send(
            good,
            pb.Outcomes(instance="api-1", attempts=1, failures=2),
            pb.Outcomes(instance="api-1", attempts=1, latency={500: 1}),
            pb.Outcomes(instance="nobody", attempts=1),
            pb.Outcomes(attempts=1),
            dropped=3,
        )
        assert (reply.every_s, reply.ignored) == (0.2, 4)
        assert (await Client(made, "b").send(good, window_s=float("nan"))).ignored == 1
        many = [pb.Outcomes(instance="api-2", attempts=1)] * 1005
        assert (await Client(made, "c").send(*many)).ignored == 5
        reports = made.pump.reports
        assert +reports.ignored == {"invalid": 2, "unknown": 2, "window": 1, "many": 5}
        assert (reports.batches, reports.calls, reports.dropped) == (3, 1004, 3)


async def test_instances_are_found_by_target_and_by_address(tmp_path: Path) -> None:
    named: dict[str, Any] = {"service": "api.mesh.internal", "attempts": 1}
    async with core(tmp_path, DOCUMENT) as made:
        told = [
            pb.Outcomes(instance="API-1.instance.api.mesh.internal.", attempts=1),
            pb.Outcomes(address="10.1.0.2", port=80, **named),
            pb.Outcomes(address="10.1.0.3", **named),
            pb.Outcomes(address="10.1.0.4", port=80, service="1-2.version.api.mesh.internal.",
                        attempts=1),
        ]  # fmt: skip
        assert (await Client(made, "a").send(*told)).ignored == 0
        assert made.pump.reports.voices == 4
        wrong = [
            pb.Outcomes(address="10.1.0.2", port=81, **named),
            pb.Outcomes(address="10.1.0.9", port=80, **named),
            pb.Outcomes(address="nowhere", port=80, **named),
            pb.Outcomes(address="10.1.0.2", port=80, service="mesh.internal", attempts=1),
            pb.Outcomes(address="10.1.0.2", port=80, service="api.example", attempts=1),
            pb.Outcomes(address="10.1.0.2", port=80, service="no name", attempts=1),
        ]
        assert (await Client(made, "b").send(*wrong)).ignored == len(wrong)
        # The index follows what changes: one address is two instances' now.
        shared = DOCUMENT.replace("address: 10.1.0.3", "address: 10.1.0.2")
        await made.apply(shared, force=True)
        both = pb.Outcomes(address="10.1.0.2", port=80, **named)
        assert (await Client(made, "c").send(both)).ignored == 1


async def test_a_stream_is_of_one_reporter_that_has_a_name(tmp_path: Path) -> None:
    async with core(tmp_path, DOCUMENT) as made:
        client = Client(made, "a")
        await client.saw({})
        code, details = await code_of(client.send(reporter="b"))
        assert (code, "one reporter" in details) == ("INVALID_ARGUMENT", True)
        code, details = await code_of(Client(made, "").saw({}))
        assert (code, "1..128" in details) == ("INVALID_ARGUMENT", True)


async def test_the_pace_slows_and_there_is_an_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with core(tmp_path, DOCUMENT) as made:
        made.server.reporter.batches_per_s = 4.0
        made.server.reporter.most_streams = 3
        clients = []
        for n in range(3):
            # Its stream begins when it is made.
            clients.append(Client(made, f"r{n}"))
            assert (await clients[-1].saw({})).every_s == (n + 1) / 4
        assert (await code_of(Client(made, "r4").saw({})))[0] == "RESOURCE_EXHAUSTED"
        await clients[0].call.done_writing()
        assert await clients[0].call.code() is grpc.StatusCode.OK
        monkeypatch.setattr(module, "_SILENCE_S", 0.2)
        silent = Client(made, "r4")
        await silent.saw({})
        assert (await code_of(silent.call.read()))[0] == "UNAVAILABLE"


async def test_who_dies_leaves_its_place(tmp_path: Path) -> None:
    async with core(tmp_path, DOCUMENT) as made:
        made.server.reporter.most_streams = 1
        for n in range(5):
            client = Client(made, f"r{n}")
            await client.saw({})
            client.call.cancel()
            await until("its stream ended", lambda: made.server.reporter.streams == 0)


@pytest.mark.parametrize(
    ("peer", "host"),
    [
        ("ipv4:10.1.0.9:4711", "10.1.0.9"),
        ("ipv6:%5B::1%5D:4711", "::"),
        ("ipv6:[2001:db8::7]:4711", "2001:db8::"),
        ("ipv6:%5Bfe80::1%25eth0%5D:1", "fe80::"),
        ("unix:", "unix:"),
        ("unix:/run/core.sock", "unix:/run/core.sock"),
    ],
)
def test_hosts(peer: str, host: str) -> None:
    assert _host_of(peer) == host


COUNT = st.integers(0, 2**32 - 1)
OUTCOMES = st.builds(
    pb.Outcomes,
    instance=st.sampled_from([*NAMES, "", "x", "\0"]),
    address=st.sampled_from(["", "10.1.0.1", "::", "%", "10.1.0.1\n"]),
    port=COUNT,
    service=st.text(max_size=20) | st.just("api.mesh.internal"),
    attempts=COUNT,
    connect_errors=COUNT | st.just(0),
    timeouts=COUNT | st.just(0),
    failures=COUNT | st.just(0),
    in_flight=COUNT,
    latency=st.dictionaries(COUNT, COUNT, max_size=4),
)


async def test_no_batch_ends_the_core_or_makes_a_weight_that_is_none(tmp_path: Path) -> None:
    async with core(tmp_path, DOCUMENT) as made:
        reporter, reports = made.server.reporter, made.pump.reports
        count = 0

        @settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
        @given(st.lists(OUTCOMES, max_size=8), st.floats(), st.integers(0, 2**64 - 1))
        def take(outcomes: list[pb.Outcomes], window_s: float, dropped: int) -> None:
            nonlocal count
            count += 1
            request = pb.ReportRequest(
                reporter="r", window_s=window_s, outcomes=outcomes, dropped=dropped
            )
            who = Reporter("h", f"r{count % 5}")
            ignored = reporter._take(who, request, False, float(count))
            assert 0 <= ignored <= len(outcomes)
            reports.tick(made.state.snapshot, float(count))
            pending, made.pump.observed.pending = made.pump.observed.pending, {}
            snapshot = made.state.snapshot.advance(signals=dict(pending))
            assert all(1 <= m.weight <= 2000 for m in snapshot.views["api"].members)

        # Beside the event loop's own ticks, which must not meet it.
        take()
        assert reports.dropped <= count * 10_000
        assert (await Client(made, "after").saw({})).ignored == 0
