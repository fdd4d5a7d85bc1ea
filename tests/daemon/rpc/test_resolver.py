"""SafeToStop, Top and Explain over gRPC."""

import asyncio
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from meshd.core.model import Check, Force
from meshd.core.outcomes import Outcome, Reporter
from meshd.core.topology import Change, Kind
from meshd.core.verdict import Probed
from meshd.daemon.drain import MARGIN_S
from meshd.daemon.observed import Observed
from meshd.daemon.reports import Reports
from meshd.daemon.rpc.top import MOST_INSTANCES, Top
from meshd.daemon.state import State
from meshd.daemon.told import Told
from meshd.v1 import resolver_pb2 as pb
from tests import samples
from tests.daemon.rpc.core import DOCUMENT, Core, code_of, core, until


async def safe(made: Core, name: str) -> dict[str, Any]:
    reply = await made.resolver.SafeToStop(pb.SafeToStopRequest(instance=name), timeout=5)
    return {each.instance: each for each in reply.instances}


async def top(made: Core, **asked: Any) -> Any:
    call = made.resolver.Top(pb.TopRequest(**asked), timeout=5)
    reply = await call.read()
    assert asked.get("every_s") or await call.read() is not reply
    call.cancel()
    return reply


def lines(reply: Any) -> dict[str, Any]:
    return {each.instance: each for service in reply.services for each in service.instances}


async def test_safe_to_stop(tmp_path: Path) -> None:
    async with core(tmp_path) as made:
        (before,) = (await safe(made, "api-eu-1")).values()
        assert (before.verdict, before.is_answered, before.min_ttl_s) == ("up", True, 2)
        assert before.safe_in_s == pytest.approx(40 + MARGIN_S, abs=1)
        await made.force("api-eu-*", Force.DRAIN, is_forced=True)
        found = await safe(made, "api-eu-*")
        assert found.keys() == {"api-eu-1", "api-eu-2"}
        for each in found.values():
            assert (each.verdict, each.is_answered) == ("draining", False)
            assert 0 < each.safe_in_s <= 40 + MARGIN_S
        first = found["api-eu-1"].safe_in_s
        await asyncio.sleep(0.2)
        assert (await safe(made, "api-eu-1"))["api-eu-1"].safe_in_s < first
        for name in ("nobody", "nobody-*", "", "NOT A NAME"):
            code, details = await code_of(safe(made, name))
            assert (code, "no instance is called" in details) == ("NOT_FOUND", True)


async def test_top_tells_what_was_told(tmp_path: Path) -> None:
    async with core(tmp_path) as made:
        made.pump.beat("api-eu-1", Told(in_flight=7), 0.9)
        made.pump.probe("api-us-1", False, Check("tcp", fall=1))
        await until("both are swapped in", lambda: len(made.state.snapshot.signals) >= 2)
        reply = await top(made)
        assert [service.service for service in reply.services] == ["api", "old"]
        assert (reply.note, reply.revision) == ("", made.state.snapshot.topology.revision)
        found = lines(reply)
        assert found.keys() == made.state.snapshot.topology.instances.keys()
        loaded, down = found["api-eu-1"], found["api-us-1"]
        assert (loaded.load, loaded.in_flight) == (0.9, 7)
        assert 0 <= loaded.load_age_s < 5
        assert not found["api-eu-2"].HasField("load_age_s")
        assert (down.verdict, down.share) == ("down", 0)
        assert "1 probe failed" in down.reason
        # Half of its Pop is gone: what is left takes 1.4 times its part, the rest spills.
        assert found["api-us-2"].share == pytest.approx(0.7, abs=0.15)
        assert loaded.share + found["api-eu-2"].share == pytest.approx(1.0)
        ttls = {pop.pop: (pop.ttl_min_s, pop.ttl_max_s) for pop in reply.services[0].pops}
        assert ttls["eu"][0] < 40
        assert ttls["us"][1] == 40


async def test_that_probes_and_clients_disagree_is_told(tmp_path: Path) -> None:
    async with core(tmp_path) as made:
        made.pump.observed.votes.own["api-eu-1"] = Probed()
        for who in ("a", "b", "c"):
            outcome = Outcome(20, connect_errors=15, latency={39: 5})
            snapshot, reporter = made.state.snapshot, Reporter("10.1.0.9", who)
            made.pump.reports.note(snapshot, reporter, "api-eu-1", outcome, time.monotonic())
        await until("it is known", lambda: "api-eu-1" in made.pump.reports.folded)
        (line,) = [each for name, each in lines(await top(made)).items() if name == "api-eu-1"]
        assert line.clients.disagreement == "probes pass, clients fail"
        assert "they disagree: probes pass, clients fail" in line.reason
        assert line.clients.connect_errors == pytest.approx(0.75)
        assert line.clients.p99_ms == pytest.approx(0.94, abs=0.1)
        ((pop, seen),) = [(each.pop, each) for each in line.clients.pops]
        assert (pop, seen.reporters) == ("eu", 3)
        assert seen.p99_ms == line.clients.p99_ms


async def test_top_goes_on_and_sees_changes(tmp_path: Path) -> None:
    async with core(tmp_path) as made:
        call = made.resolver.Top(pb.TopRequest(service="api", every_s=0.2), timeout=20)
        assert lines(await call.read())["api-eu-1"].verdict == "up"
        await made.force("api-eu-1", Force.DRAIN)
        async with asyncio.timeout(10):
            while lines(await call.read())["api-eu-1"].verdict != "draining":
                pass
        call.cancel()


async def test_what_did_not_change_is_not_worked_out_again(tmp_path: Path) -> None:
    async with core(tmp_path) as made:
        shown = Top(made.state, made.pump.observed, made.pump.reports)
        await shown.reply("")
        before = {name: spreads for name, (_, spreads) in shown._known.items()}
        await shown.reply("")
        await made.force("old-1", Force.UP)
        await shown.reply("")
        after = {name: spreads for name, (_, spreads) in shown._known.items()}
        assert after["api"] is before["api"]
        assert after["old"] is not before["old"]


async def test_top_is_bounded() -> None:
    many = [replace(samples.instance("us", 1), name=f"many-{n}") for n in range(MOST_INSTANCES)]
    snapshot = samples.snapshot().advance(list(map(Change.put, many)), 8)
    shown = Top(State(snapshot, 0), Observed(), Reports(Observed()))
    reply = await shown.reply("")
    assert len(lines(reply)) == MOST_INSTANCES
    assert reply.note == f"{MOST_INSTANCES} of {MOST_INSTANCES + 32} instances: ask for one service"
    assert lines(await shown.reply("old")).keys() == {"old-1"}
    gone = snapshot.advance([Change(Kind.SERVICES, "api", None)], 9)
    shown._state.replace(gone, 0)
    assert (await shown.reply("")).note == ""
    assert "api" not in shown._known


async def test_wrong_questions_of_top(tmp_path: Path) -> None:
    async with core(tmp_path) as made:
        code, _ = await code_of(made.resolver.Top(pb.TopRequest(service="none")).read())
        assert code == "NOT_FOUND"
        for every_s in (0.1, 61.0, -1.0, float("nan")):
            call = made.resolver.Top(pb.TopRequest(every_s=every_s))
            assert (await code_of(call.read()))[0] == "INVALID_ARGUMENT"


async def test_explain_says_why_and_what_each_allows(tmp_path: Path) -> None:
    async with core(tmp_path) as made:
        made.pump.beat("api-eu-1", Told(), 0.9)
        made.pump.probe("api-us-1", False, Check("tcp", fall=1))
        late = "  api-us-3: {service: api, version: 1.2.0, pop: us, address: 10.2.0.3}\n"
        await made.apply(DOCUMENT + late)
        await until("both are swapped in", lambda: len(made.state.snapshot.signals) >= 2)
        request = pb.ExplainRequest(name="api.mesh.internal", client="10.1.0.7")
        reply = await made.resolver.Explain(request, timeout=5)
        found = {each.instance: each for each in reply.instances}
        assert found["api-eu-1"].ttl_s == reply.ttl_s < found["api-eu-2"].ttl_s == 40
        assert (reply.ttl_load_s, reply.HasField("ttl_verdict_s")) == (reply.ttl_s, False)
        assert found["api-us-1"].ttl_s == 0
        assert "1 probe failed" in found["api-us-1"].reason
        assert "slow start" in found["api-us-3"].reason
        assert found["api-us-2"].reason == ""
