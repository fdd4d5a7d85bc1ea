"""Rollouts that are moved: by one core, by several that disagree, by hand, by what clients say."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from meshd.core.model import Service
from meshd.core.names import to_wire
from meshd.core.release import Phase, Rollout
from meshd.core.resolve import Client, resolve
from meshd.core.selector import LATEST, Exact, Version
from meshd.daemon import rollouts
from meshd.daemon.state import State
from meshd.v1 import records_pb2, reporter_pb2, reporter_pb2_grpc, rollout_pb2, topology_pb2
from tests.daemon.cores import Core, code_of, core, until
from tests.daemon.several import Member, Several, several

CLIENTS = [Client.parse(f"10.{n // 256}.{n % 256}.9") for n in range(2000)]


def document(*, versions: Sequence[str] = ("1.2.0", "1.3.0"), more: str = "") -> str:
    instances = "".join(
        f"  i{n}: {{service: api, version: {version}, pop: eu, address: 10.1.0.{n + 1}}}\n"
        for n, version in enumerate(versions)
    )
    return f"""
zones: {{mesh.internal: {{ns: [ns1.example.org], contact: a@mesh.internal}}}}
pops: {{eu: {{}}}}
ranges: {{0.0.0.0/0: eu}}
services:
  api:
    name: api.mesh.internal
    ports: {{http: 80/tcp}}
    {more}
instances:
{instances}"""


def course(
    *percents: float, hold_s: float = 0.2, gates: Sequence[str] = ("none",), **more: Any
) -> records_pb2.Course:
    steps = [records_pb2.Step(percent=percent, hold_s=hold_s) for percent in percents]
    return records_pb2.Course(steps=steps, gates=gates, **more)


def asked(*percents: float, to: str = "1.3.0", id: str = "r", **more: Any) -> Any:  # noqa: A002
    return rollout_pb2.StartRequest(
        service="api", to=to, id=id, author="test", course=course(*percents, **more)
    )


async def start(made: Core, request: Any) -> Any:
    return await made.rollouts.Start(request, timeout=10)


async def move(made: Core, action: str, **more: Any) -> Any:
    request = rollout_pb2.MoveRequest(action=action, author="test", **{"id": "r", **more})
    return (await made.rollouts.Move(request, timeout=10)).rollout


def found(made: Core, name: str = "r") -> Rollout:
    return made.state.snapshot.topology.rollouts[name]


def service(made: Core) -> Service:
    return made.state.snapshot.topology.services["api"]


def share(state: State) -> float:
    """The part of clients that are answered 1.3.0 first, in percent."""
    name = to_wire("api.mesh.internal.")
    count = 0
    for client in CLIENTS:
        choice = resolve(state.snapshot, name, client).choice
        assert choice is not None, "it is answered"
        assert choice.chosen, "never empty"
        count += choice.chosen[0].member.instance.version == Version("1.3.0")
    return 100 * count / len(CLIENTS)


async def audit(made: Core) -> list[str]:
    """What was written of rollouts, the oldest first, but for what was only noted."""
    request = topology_pb2.HistoryRequest(limit=1000)
    history = await made.topology.History(request, timeout=10)
    return [
        entry.what
        for entry in reversed(history.entries)
        if any(edit.kind == "rollouts" for edit in entry.edits) and not entry.what.endswith("noted")
    ]


STEPS = ["rollout r step 2: 5 %", "rollout r step 3: 50 %", "rollout r step 4: 100 %"]
DONE = "rollout r done: done: all gates hold"


@asynccontextmanager
async def serving(path: Path, **more: Any) -> AsyncIterator[Core]:
    async with core(path) as made:
        await made.apply(document(**more))
        yield made


async def test_it_goes_by_itself_each_step_once(tmp_path: Path) -> None:
    async with serving(tmp_path, more="version: 1.2.0") as made:
        assert share(made.state) == 0
        began = time.monotonic()
        told = await start(made, asked(1, 5, 50, 100))
        assert (told.is_new, told.rollout.phase, told.rollout.order) == (True, "running", 1)
        await until("it is done", lambda: found(made).phase is Phase.DONE)
        assert time.monotonic() - began >= 4 * 0.2
        assert await audit(made) == ["rollout api begun", *STEPS, DONE]
        # The pin would bring them back to 1.2.0.
        assert service(made).selector == Exact(Version("1.3.0"))
        assert share(made.state) == 100


@pytest.mark.parametrize(
    ("selector", "after"), [("latest", LATEST), ('">=1.2"', Exact(Version("1.3.0")))]
)
async def test_done_brings_it_to_all(tmp_path: Path, selector: str, after: Any) -> None:
    """A floor stands for the old version too: some clients would go back."""
    async with serving(tmp_path, more=f"version: {selector}") as made:
        await start(made, asked(50, 100))
        await until("it is done", lambda: found(made).phase is Phase.DONE)
        assert service(made).selector == after
        assert share(made.state) == 100


async def test_it_stands_still_while_it_is_paused(tmp_path: Path) -> None:
    async with serving(tmp_path) as made:
        await start(made, asked(10, 100, hold_s=3))
        await asyncio.sleep(1)
        paused = await move(made, "pause", reason="lunch")
        assert (paused.phase, paused.reason) == ("paused", "paused: lunch")
        assert 0.9 <= paused.held_s < 3
        at = share(made.state)
        await asyncio.sleep(4)
        assert found(made).held_s == paused.held_s
        assert (found(made).step, share(made.state)) == (0, at)
        resumed = time.monotonic()
        await move(made, "resume")
        await until("it goes on", lambda: found(made).step == 1)
        # What it stood before counts, and nothing of the pause.
        assert 3 - paused.held_s - 0.1 <= time.monotonic() - resumed < 3.9


async def test_no_clock_of_the_wall_matters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wall, days = time.time, [0.0]
    monkeypatch.setattr(time, "time", lambda: wall() + 86_400 * days[0])
    async with serving(tmp_path) as made:
        await start(made, asked(10, 50, 100, hold_s=2))
        days[0] = 3.0
        await asyncio.sleep(1)
        assert found(made).step == 0
        days[0] = -9.0
        await until("a step", lambda: found(made).step == 1)
        await until("it is done", lambda: found(made).phase is Phase.DONE)


async def test_moves_by_hand(tmp_path: Path) -> None:
    async with serving(tmp_path) as made:
        await start(made, asked(1, 50, 100, hold_s=600))
        assert (await move(made, "promote")).step == 1
        assert 48 <= share(made.state) <= 52
        code, details = await code_of(move(made, "resume"))
        assert (code, "running" in details) == ("FAILED_PRECONDITION", True)
        assert (await code_of(move(made, "jump")))[0] == "INVALID_ARGUMENT"
        assert (await code_of(move(made, "pause", id="other")))[0] == "NOT_FOUND"
        back = await move(made, "rollback", id="", service="api", reason="it is slow")
        assert (back.phase, "it is slow" in back.reason) == ("rolled-back", True)
        assert share(made.state) == 0
        assert (await code_of(move(made, "finish")))[0] == "FAILED_PRECONDITION"
        await start(made, asked(1, 100, id="again", hold_s=600))
        assert (await move(made, "finish", id="again")).phase == "done"
        assert share(made.state) == 100


async def test_starting_is_idempotent_and_lists_all_that_is_wrong(tmp_path: Path) -> None:
    async with serving(tmp_path) as made:
        wrong = asked(1, 100, to="one", id="R!", gates=["fast", "success>=2%", "success>=0%"])
        wrong.scope.pops.append("mars")
        wrong.course.steps.add(percent=120, hold_s=-1)
        code, details = await code_of(start(made, wrong))
        assert code == "INVALID_ARGUMENT"
        said = ("to: 'one'", "'R!'", "'fast'", "a share is above 0", "at most 100", "'mars'")
        assert [word for word in said if word not in details] == []
        assert (await code_of(start(made, rollout_pb2.StartRequest(service="x"))))[0] == "NOT_FOUND"
        first = await start(made, asked(1, 100, hold_s=600))
        again = await start(made, asked(1, 100, hold_s=600))
        assert (again.is_new, again.rollout, again.revision) == (
            False, first.rollout, first.revision,
        )  # fmt: skip
        assert (await code_of(start(made, asked(2, 100))))[0] == "ABORTED"
        code, details = await code_of(start(made, asked(1, 100, id="other")))
        assert (code, "rollout r of api" in details) == ("FAILED_PRECONDITION", True)
        listed = await made.rollouts.List(rollout_pb2.ListRequest(service="api"))
        assert [each.name for each in listed.rollouts] == ["r"]
        planned = await made.rollouts.Preview(asked(1, 100, hold_s=600))
        assert [step.percent for step in planned.steps] == [1, 100]


async def test_a_split_service_has_none(tmp_path: Path) -> None:
    split = 'version: "1.2.0:90 1.3.0:10"\n    on_new_version: canary'
    async with serving(tmp_path, more=split) as made:
        assert (await code_of(start(made, asked(1, 100))))[0] == "FAILED_PRECONDITION"


async def test_watched_from_begin_to_end(tmp_path: Path) -> None:
    async with serving(tmp_path) as made:
        await start(made, asked(5, 50, 100, hold_s=1.5))
        seen = [
            (said.rollout.phase, said.rollout.step)
            async for said in made.rollouts.Watch(rollout_pb2.WatchRequest(id="r"), timeout=30)
        ]
        assert list(dict.fromkeys(seen)) == [
            ("running", 0), ("running", 1), ("running", 2), ("done", 2),
        ]  # fmt: skip
        gone = made.rollouts.Watch(rollout_pb2.WatchRequest(id="gone"))
        assert (await code_of(gone.read()))[0] == "NOT_FOUND"


class Voice:
    """A reporter on a core."""

    def __init__(self, made: Core, name: str) -> None:
        self.name = name
        self.call: Any = reporter_pb2_grpc.ReporterStub(made.channel).Report()

    async def says(self, **failures: int) -> None:
        outcomes = [
            reporter_pb2.Outcomes(instance=name, attempts=100, failures=count, latency={40: 50})
            for name, count in failures.items()
        ]
        await self.call.write(
            reporter_pb2.ReportRequest(reporter=self.name, window_s=2.0, outcomes=outcomes)
        )
        async with asyncio.timeout(10):
            await self.call.read()


async def test_what_clients_say_rolls_it_back(tmp_path: Path) -> None:
    gates = ["success>=99%"]
    async with serving(tmp_path) as made:
        voice = Voice(made, "a")
        await start(made, asked(5, 100, hold_s=600, gates=gates, min_outcomes=150, min_reporters=1))
        assert share(made.state) > 0
        await until("it is listened to", lambda: made.pump.reports.testimony.is_of(_new(made)))
        await voice.says(i0=0, i1=5)
        await asyncio.sleep(1.5)
        assert found(made).phase is Phase.RUNNING, "too few to say"
        await asyncio.sleep(0.6)
        await voice.says(i0=0, i1=6)
        await until("it is rolled back", lambda: found(made).phase is Phase.ROLLED_BACK)
        reason = found(made).reason
        assert all(word in reason for word in ("at 5 %", "success>=99%", "200 outcomes", "1 rep"))
        assert share(made.state) == 0
        assert (await audit(made))[-1] == f"rollout r rolled-back: {reason}"


async def test_good_outcomes_of_this_step_are_needed(tmp_path: Path) -> None:
    async with serving(tmp_path) as made:
        voice, gates = Voice(made, "a"), ["success>=99%"]
        await start(
            made, asked(5, 50, 100, gates=gates, min_outcomes=100, min_reporters=1, hold_s=0.1)
        )
        await until("it is listened to", lambda: made.pump.reports.testimony.is_of(_new(made)))
        await voice.says(i1=0)
        await until("one step", lambda: found(made).step == 1)
        await asyncio.sleep(2.5)
        assert found(made).step == 1, "what was said before is not of this step"
        await voice.says(i1=0)
        await until("the next", lambda: found(made).step == 2)


def _new(made: Core) -> Any:
    return made.state.snapshot.topology.instances["i1"]


POLICY = "on_new_version: {}\n    rollout: {{steps: [10, 100], every: 300ms, gates: []}}"


@pytest.mark.parametrize("policy", ["canary", "hold"])
async def test_a_new_version_waits_for_its_rollout(tmp_path: Path, policy: str) -> None:
    more = POLICY.format(policy)
    async with serving(tmp_path, versions=["1.2.0"], more=more) as made:
        await until("a baseline", lambda: bool(made.state.snapshot.topology.rollouts))
        (baseline,) = made.state.snapshot.topology.rollouts.values()
        assert (baseline.to.text, baseline.phase) == ("1.2.0", Phase.DONE)
        shares: list[float] = []
        stop = asyncio.Event()

        async def watch() -> None:
            while not stop.is_set():
                shares.append(share(made.state))
                await made.state.moved()

        watching = asyncio.create_task(watch())
        await made.apply(document(more=more))
        await until("it is seen", lambda: len(made.state.snapshot.topology.rollouts) == 2)
        newest = max(made.state.snapshot.topology.rollouts.values(), key=lambda each: each.order)
        assert newest.to.text == "1.3.0"
        if policy == "hold":
            await asyncio.sleep(2)
            assert found(made, newest.name).phase is Phase.HELD
            assert set(shares) == {0.0}
            await start(made, asked(10, 100))
            await until("it is done", lambda: found(made).phase is Phase.DONE)
        else:
            await until("it is done", lambda: found(made, newest.name).phase is Phase.DONE)
        stop.set()
        watching.cancel()
        # Nobody had it before the first step, and then no more than its share.
        assert shares[0] == 0
        assert all(each <= 12 or each == 100 for each in shares), shares


async def running(cores: Several, *percents: float, **more: Any) -> Member:
    """A rollout is begun; the core that moves it."""
    first = cores.running[0]
    await first.apply(document(more="version: 1.2.0"))
    await start(first, asked(*percents, **more))
    return cores.decider("api")


async def test_cores_that_all_believe_to_decide_make_no_step_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # They look so often that they come at the same moment.
    monkeypatch.setattr(rollouts, "_TICK_S", 0.02)
    async with several(tmp_path) as cores:
        for pair in list(cores.wires):
            cores.wires[pair].cut()
        await until(
            "each is alone",
            lambda: all(each.pump.observed.duties.able == (each.name,) for each in cores),
        )
        percents = [*range(5, 105, 5)]
        await running(cores, *percents, hold_s=0.1)
        await until("it is done", lambda: all(_is_done(each) for each in cores))
        wanted = [f"rollout r step {n}: {5 * n} %" for n in range(2, 21)]
        assert await audit(cores.running[0]) == ["rollout api begun", *wanted, DONE]


async def test_cores_that_all_believe_to_decide_begin_one_for_a_new_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollouts, "_TICK_S", 0.02)
    more = POLICY.format("canary")
    async with several(tmp_path) as cores:
        for wire in cores.wires.values():
            wire.cut()
        await until(
            "each is alone",
            lambda: all(each.pump.observed.duties.able == (each.name,) for each in cores),
        )
        first = cores.running[0]
        await first.apply(document(versions=["1.2.0"], more=more))
        await until("a baseline", lambda: len(first.state.snapshot.topology.rollouts) == 1)
        await first.apply(document(more=more))
        await until("they end", lambda: all(_are_done(each, 2) for each in cores))
        begun = {each.to.text: each for each in _rollouts(first)}
        assert {to: each.order for to, each in begun.items()} == {"1.2.0": 1, "1.3.0": 2}


def _rollouts(made: Core) -> Sequence[Rollout]:
    return [*made.state.snapshot.topology.rollouts.values()]


def _are_done(made: Core, count: int) -> bool:
    found = _rollouts(made)
    return len(found) == count and all(each.phase is Phase.DONE for each in found)


def _is_done(made: Core) -> bool:
    rollout = made.state.snapshot.topology.rollouts.get("r")
    return rollout is not None and rollout.phase is Phase.DONE


@pytest.mark.parametrize("on_missing", ["wait", "fail"])
async def test_it_goes_on_elsewhere_when_its_core_dies(tmp_path: Path, on_missing: str) -> None:
    gates = ["success>=99%"]
    async with several(tmp_path) as cores:
        victim = await running(
            cores, 10, 100, hold_s=5, gates=gates, min_outcomes=100, min_reporters=1,
            on_gate_missing=on_missing,
        )  # fmt: skip
        await asyncio.sleep(3)
        await victim.kill()
        await until("the others share its duties", lambda: cores.is_settled)
        heir = cores.decider("api")
        await until("it is listened to", lambda: heir.pump.reports.testimony.is_of(_new(heir)))
        await asyncio.sleep(2.5)
        # The time of the step is over, and nobody has told the heir anything.
        assert (found(heir).phase, found(heir).step) == (Phase.RUNNING, 0)
        await Voice(heir, "a").says(i1=0)
        await until("it goes on", lambda: found(heir).step == 1)
        (name,) = [what for what in await audit(heir) if " step " in what]
        assert name == "rollout r step 2: 100 %"


async def test_a_move_by_hand_goes_to_any_core(tmp_path: Path) -> None:
    async with several(tmp_path) as cores:
        decider = await running(cores, 10, 50, 100, hold_s=600)
        other = next(each for each in cores if each is not decider)
        await until("it is seen", lambda: "r" in other.state.snapshot.topology.rollouts)
        await asyncio.sleep(1)
        paused = await move(other, "pause")
        # It counted too, though it moves nothing.
        assert 0.5 < paused.held_s < 10
        await until("all know", lambda: all(found(e).phase is Phase.PAUSED for e in cores))
        await asyncio.gather(*(_promoted(each) for each in cores))
        await until("all know it", lambda: all(found(e).step == 2 for e in cores))
        steps = [what for what in await audit(other) if " step " in what]
        assert len(steps) == len(set(steps)) <= 2


async def _promoted(made: Core) -> None:
    """Three at once; who comes last finds nothing left to promote to, or that it is done."""
    try:
        await move(made, "promote")
    except grpc.aio.AioRpcError as error:
        assert error.code().name in ("FAILED_PRECONDITION", "ABORTED"), error.details()


async def test_nothing_moves_on_what_is_not_swapped_in(tmp_path: Path) -> None:
    async with serving(tmp_path) as made:
        await start(made, asked(1, 100, hold_s=600))
        key, pump = "rollouts/r", made.pump
        revision = pump.revision_of(key)
        assert revision == made.state.snapshot.topology.revision
        async with pump._swapping:
            moving = asyncio.create_task(move(made, "pause"))
            await until("it is noted", lambda: pump._revisions[key] > revision)
            assert pump.revision_of(key) is None
            assert found(made).phase is Phase.RUNNING
        await moving
        assert pump.revision_of(key) == made.state.snapshot.topology.revision
