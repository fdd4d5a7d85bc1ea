"""Writes through several cores of one store: none is lost, none passes another, all end in time."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from meshd.v1 import (
    registry_pb2_grpc,
    resolver_pb2,
    resolver_pb2_grpc,
    topology_pb2,
)
from tests.daemon.cores import DOCUMENT, code_of, until
from tests.daemon.sharing import core
from tests.daemon.stores import FaultyStore


def answers(most: int) -> str:
    return DOCUMENT.replace("max_answers: 4", f"max_answers: {most}")


async def test_a_core_that_lags_looks_again_before_it_refuses(tmp_path: Path) -> None:
    """Its watch stands still; the commit that came first is loaded, and both are written."""
    store = FaultyStore()
    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(core(tmp_path, store, "one"))
        await one.apply()
        way = store.way()
        two = await stack.enter_async_context(core(tmp_path, way, "two"))
        await until("it watches", lambda: two.pump.following._watching is not None)
        way.lost = {2}
        await one.apply(answers(3))
        assert two.most() == 4
        done = await two.apply("pops: {eu: {}, us: {}, sa: {}}")
        assert done.revision == 3
        await until("both have both", lambda: one.state.guard == two.state.guard == 3)
        assert two.most() == one.most() == 3
        assert "sa" in one.state.snapshot.topology.pops


async def test_a_core_that_lags_knows_that_there_is_something_to_write(tmp_path: Path) -> None:
    """As it sees things the document is there already; another core changed it meanwhile."""
    store = FaultyStore()
    async with core(tmp_path, store, "one") as one:
        await one.apply()
        way = store.way()
        async with core(tmp_path, way, "two") as two:
            await until("it watches", lambda: two.pump.following._watching is not None)
            way.lost = {2}
            await one.apply(answers(3))
            done = await two.apply(answers(4))
            assert (done.revision, len(done.plan.edits)) == (3, 1)
            await until("it is as was asked", lambda: one.most() == two.most() == 4)


async def test_of_two_plans_from_one_state_one_passes(tmp_path: Path) -> None:
    store = FaultyStore()
    async with core(tmp_path, store, "one") as one:
        await one.apply()
        async with core(tmp_path, store, "two") as two:
            plans = [answers(2), answers(3)]
            calls = [
                each.apply(plan, revision=1) for each, plan in zip((one, two), plans, strict=True)
            ]
            done = await asyncio.gather(*calls, return_exceptions=True)
            (lost,) = [each for each in done if isinstance(each, grpc.aio.AioRpcError)]
            assert lost.code() is grpc.StatusCode.ABORTED
            assert "try again" in lost.details() or "plan again" in lost.details()
            won = 2 if done.index(lost) == 1 else 3
            await until("both have the same", lambda: one.most() == two.most() == won)


async def test_a_hundred_writes_through_two_cores_at_once(tmp_path: Path) -> None:
    """Those of one core wait for each other; those of the other one are tried again."""
    store = FaultyStore()
    async with core(tmp_path, store, "one") as one:
        await one.apply()
        async with core(tmp_path, store, "two") as two:

            async def write(number: int) -> bool:
                edit = topology_pb2.Edit(kind="pops", name=f"p{number}")
                edit.record.pop.name = f"p{number}"
                request = topology_pb2.CommitRequest(edits=[edit], author="test")
                try:
                    await (one, two)[number % 2].topology.Commit(request, timeout=60)
                except grpc.aio.AioRpcError as error:
                    assert error.code() is grpc.StatusCode.ABORTED, error
                    return False
                return True

            done = await asyncio.gather(*map(write, range(100)))
            written = {f"p{number}" for number, passed in enumerate(done) if passed}
            held = {name for name in one.state.snapshot.topology.pops if name.startswith("p")}
            assert held == written
            assert len(written) > 90


async def test_a_plan_made_by_a_core_that_is_ahead(tmp_path: Path) -> None:
    store = FaultyStore()
    async with core(tmp_path, store, "one") as one:
        await one.apply()
        way = store.way()
        async with core(tmp_path, way, "two") as two:
            await until("it watches", lambda: two.pump.following._watching is not None)
            way.lost = {2}
            await one.apply(answers(3))
            planned = await one.topology.Plan(topology_pb2.PlanRequest(document=answers(2)))
            assert (planned.revision, two.most()) == (2, 4)
            assert (await two.apply(answers(2), revision=2)).revision == 3
            code, details = await code_of(two.apply(answers(2), revision=99))
            assert (code, "behind 99 of the plan" in details) == ("UNAVAILABLE", True)


async def test_a_follower_from_a_core_that_is_ahead(tmp_path: Path) -> None:
    """It is served as soon as this core has seen what the follower has."""
    store = FaultyStore()
    async with core(tmp_path, store, "one") as one:
        await one.apply()
        await until("it watches", lambda: one.pump.following._watching is not None)
        store.skip(1)
        store.lost = {2}
        request = topology_pb2.FollowRequest(node="x", store_id=store.store_id, revision=2)
        call = one.topology.Follow(request)
        async with asyncio.timeout(10):
            beat = (await call.read()).beat
            assert beat.revision == 2
            assert 0 <= beat.store_age_s < 5
            assert (await call.read()).WhichOneof("event") == "changes"
        call.cancel()


async def test_beats_tell_how_long_the_store_is_away_whatever_else_comes(tmp_path: Path) -> None:
    store = FaultyStore()
    async with core(tmp_path, store) as one:
        await one.apply()
        await until("reached", lambda: one.pump.reach.reached_at is not None)
        call = one.topology.Follow(topology_pb2.FollowRequest(node="x"))

        async def stir() -> None:
            while True:
                one.state.advance((), 1, {})
                await asyncio.sleep(0.01)

        stirring = asyncio.create_task(stir())
        ages: list[float] = []
        with store.away():
            async with asyncio.timeout(20):
                while len(ages) < 4:
                    event = await call.read()
                    if event.WhichOneof("event") == "beat":
                        ages.append(event.beat.store_age_s)
        stirring.cancel()
        call.cancel()
        assert ages == sorted(ages)
        assert ages[-1] > 1.5


async def test_writes_end_in_time_when_the_store_hangs(tmp_path: Path) -> None:
    store = FaultyStore()
    async with core(tmp_path, store) as one:
        await one.apply()
        store.committing.clear()
        loop = asyncio.get_running_loop()
        began = loop.time()
        code, details = await code_of(one.apply(answers(3)))
        assert (code, "did not answer" in details) == ("UNAVAILABLE", True)
        # One second is the bound here; the rest is for a busy machine.
        assert loop.time() - began < 5


async def test_what_the_watch_does_not_bring_back_is_loaded(tmp_path: Path) -> None:
    store = FaultyStore()
    async with core(tmp_path, store) as one:
        await one.apply()
        store.lost = {2}
        assert (await one.apply(answers(3))).revision == 2
        assert (one.most(), one.pump.missed) == (3, 0)


async def test_what_is_written_but_not_seen_is_told_as_such(tmp_path: Path) -> None:
    store = FaultyStore()
    async with core(tmp_path, store) as one:
        await one.apply()
        store.heard.clear()
        one.pump.following.relist_s = None
        code, details = await code_of(one.apply(answers(3)))
        assert code == "UNAVAILABLE"
        assert "it is written (revision 2)" in details
        store.heard.set()
        await until("seen", lambda: one.most() == 3)


async def test_with_nothing_to_answer_from_a_core_says_so(tmp_path: Path) -> None:
    store = FaultyStore()
    async with core(tmp_path, store) as filled:
        await filled.apply()
    with store.away():
        async with core(tmp_path, store, is_empty=True) as one:
            await until("it is known to be away", lambda: one.pump.reach.is_away)
            resolver = resolver_pb2_grpc.ResolverStub(one.channel)
            ask = resolver_pb2.ResolveRequest(name="api.mesh.internal", client="10.1.0.7")
            follow = one.topology.Follow(topology_pb2.FollowRequest(node="x"))
            register = registry_pb2_grpc.RegistryStub(one.channel).Register()
            health = health_pb2_grpc.HealthStub(one.channel)
            for call in (resolver.Resolve(ask), one.apply(), follow.read(), register.read()):
                code, details = await code_of(call)
                assert (code, "the store is away" in details) == ("UNAVAILABLE", True), details
            found = await health.Check(health_pb2.HealthCheckRequest(service=""))
            assert found.status == health_pb2.HealthCheckResponse.NOT_SERVING
            store._is_there.set()
            async with asyncio.timeout(10):
                await one.state.loaded()
            assert (await resolver.Resolve(ask)).status == "found"
            async with asyncio.timeout(10):
                while found.status != health_pb2.HealthCheckResponse.SERVING:
                    await asyncio.sleep(0.05)
                    found = await health.Check(health_pb2.HealthCheckRequest(service=""))
