"""The gRPC services of a core in this process, over the memory store and over a real socket."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from meshd.core.errors import Conflict
from meshd.core.names import to_wire
from meshd.core.resolve import Client, resolve
from meshd.core.snapshot import Snapshot
from meshd.daemon.commits import Commits
from meshd.daemon.pump import snapshot_of
from meshd.daemon.rpc.topology import Topology
from meshd.daemon.store.base import Author, Put
from meshd.v1 import (
    resolver_pb2,
    topology_pb2,
)
from meshd.wire.document import plan_text
from meshd.wire.follow import SnapshotReader
from tests.daemon.cores import DOCUMENT, Core, code_of, core, until


async def test_apply_and_get(tmp_path: Path) -> None:
    async with core(tmp_path) as made:
        done = await made.apply()
        assert (done.revision, len(done.plan.edits)) == (1, 14)
        assert made.state.snapshot.topology.revision == 1
        pages = [page async for page in made.topology.Get(topology_pb2.GetRequest())]
        assert sum(len(page.records) for page in pages) == 14
        assert {page.revision for page in pages} == {1}
        again = await made.apply()
        assert (again.revision, len(again.plan.edits)) == (1, 0)


async def test_refusals_have_their_own_codes(tmp_path: Path) -> None:
    async with core(tmp_path) as made:
        await made.apply()
        code, details = await code_of(
            made.apply(DOCUMENT.replace("8080", "0").replace("us, a", "mars, a"))
        )
        assert code == "INVALID_ARGUMENT"
        assert len(details.splitlines()) == 3
        code, details = await code_of(made.apply("instances: {}"))
        assert code == "FAILED_PRECONDITION"
        assert "force" in details
        code, details = await code_of(made.apply("pops: [", force=True))
        assert code == "INVALID_ARGUMENT"
        get = made.topology.Get(topology_pb2.GetRequest(kinds=["pops"], name="mars"))
        assert (await code_of(get.read()))[0] == "NOT_FOUND"
        get = made.topology.Get(topology_pb2.GetRequest(kinds=["things"]))
        assert (await code_of(get.read()))[0] == "INVALID_ARGUMENT"
        with made.store.away():
            code, _ = await code_of(made.apply("pops: {eu: {}, us: {}, sa: {}}"))
            assert code == "UNAVAILABLE"
        assert made.state.snapshot.topology.revision == 1


async def test_a_plan_does_not_outlive_a_change(tmp_path: Path) -> None:
    async with core(tmp_path) as made:
        await made.apply()
        planned = await made.topology.Plan(topology_pb2.PlanRequest(document=DOCUMENT + "\n"))
        await made.apply(DOCUMENT.replace("max_answers: 4", "max_answers: 3"))
        code, details = await code_of(made.apply(DOCUMENT, revision=planned.revision))
        assert code == "ABORTED"
        assert "plan again" in details


async def test_edits_are_planned_as_documents_are(tmp_path: Path) -> None:
    async with core(tmp_path) as made:
        await made.apply()
        gone = topology_pb2.Edit(kind="instances", name="api-eu-2")
        planned = await made.topology.Plan(topology_pb2.PlanRequest(edits=[gone]))
        assert [(edit.action, edit.name) for edit in planned.edits] == [("delete", "api-eu-2")]
        assert {move.service for move in planned.moves} == {"api"}
        assert made.state.snapshot.topology.revision == planned.revision == 1
        presence = topology_pb2.Edit(kind="presence", name="api-eu-2")
        request = topology_pb2.PlanRequest(edits=[presence])
        assert (await code_of(made.topology.Plan(request)))[0] == "INVALID_ARGUMENT"
        await made.apply(DOCUMENT.replace("max_answers: 4", "max_answers: 3"))
        late = topology_pb2.CommitRequest(edits=[gone], revision=planned.revision)
        code, details = await code_of(made.topology.Commit(late))
        assert (code, "plan again" in details) == ("ABORTED", True)
        late.revision = 2
        assert (await made.topology.Commit(late)).revision == 3


async def test_two_commits_from_one_state_do_not_both_pass(tmp_path: Path) -> None:
    """The guard is compared in the store: whoever planned from the older state must look again."""
    async with core(tmp_path) as made:
        await made.apply()
        guard = made.state.guard
        late = plan_text(made.state.snapshot, DOCUMENT.replace("max_answers: 4", "max_answers: 2"))
        await made.apply(DOCUMENT.replace("max_answers: 4", "max_answers: 3"))
        service = Topology(
            made.store, made.state, made.pump, Commits(made.store, made.state, made.pump)
        )
        with pytest.raises(Conflict):
            await service._write(late, Author("late", "test"), guard, force=False)
        assert made.state.snapshot.topology.services["api"].max_answers == 3
        assert made.state.guard > guard


async def test_history_shows_before_and_after(tmp_path: Path) -> None:
    async with core(tmp_path) as made:
        await made.apply()
        await made.apply(DOCUMENT.replace("max_answers: 4", "max_answers: 3"))
        found = await made.topology.History(topology_pb2.HistoryRequest(limit=1))
        (entry,) = found.entries
        assert (entry.revision, entry.who, entry.what) == (2, "test", "apply")
        (edit,) = entry.edits
        assert edit.before.service.max_answers == 4
        assert edit.after.service.max_answers == 3


async def followed(made: Core, **held: Any) -> Any:
    return made.topology.Follow(topology_pb2.FollowRequest(node="test", **held))


async def read_until(call: Any, reader: SnapshotReader, revision: int) -> Snapshot:
    async with asyncio.timeout(5):
        while True:
            snapshot = reader.feed(await call.read())
            if snapshot is not None and snapshot.topology.revision >= revision:
                return snapshot


async def test_followers_arrive_at_the_same_answers(tmp_path: Path) -> None:
    async with core(tmp_path) as made:
        early = await followed(made)
        reader = SnapshotReader()
        await read_until(early, reader, 0)
        await made.apply()
        await made.apply(DOCUMENT.replace("capacity: 2", "capacity: 3"))
        late = await followed(made)
        name = to_wire("api.mesh.internal.")
        for snapshot in (
            await read_until(early, reader, 2),
            await read_until(late, SnapshotReader(), 2),
        ):
            for third in range(20):
                client = Client(4, 0x0A010000 | third << 8, 24)
                mine, theirs = (resolve(s, name, client) for s in (made.state.snapshot, snapshot))
                assert repr(mine.choice and mine.choice.ranked) == repr(
                    theirs.choice and theirs.choice.ranked
                )
        early.cancel()
        late.cancel()
        await until("nobody follows", lambda: made.state.followers == 0)


async def test_a_follower_that_was_away_gets_what_it_missed(tmp_path: Path) -> None:
    async with core(tmp_path) as made:
        await made.apply()
        call = await followed(made)
        held = await read_until(call, SnapshotReader(), 1)
        call.cancel()
        await made.apply(DOCUMENT.replace("capacity: 2", "capacity: 3"))
        here = made.state.snapshot.topology.store_id
        back = await followed(made, store_id=here, revision=1)
        assert (await back.read()).WhichOneof("event") == "beat"
        event = await back.read()
        assert event.WhichOneof("event") == "changes"
        snapshot = SnapshotReader(held).feed(event)
        assert snapshot is not None
        assert snapshot.topology.instances["api-eu-1"].capacity == 3
        stranger = await followed(made, store_id="another", revision=1)
        assert (await stranger.read()).WhichOneof("event") == "beat"
        assert (await stranger.read()).WhichOneof("event") == "begin"
        future = await followed(made, store_id=here, revision=99)
        assert (await future.read()).WhichOneof("event") == "beat"
        assert (await future.read()).WhichOneof("event") == "begin"
        for call in (back, stranger, future):
            call.cancel()


async def test_beats_come_when_nothing_else_does(tmp_path: Path) -> None:
    async with core(tmp_path) as made:
        call = await followed(made)
        async with asyncio.timeout(5):
            while (await call.read()).WhichOneof("event") != "beat":
                pass
        call.cancel()


async def test_a_slow_follower_is_sent_away(tmp_path: Path) -> None:
    async with core(tmp_path) as made:
        feed = made.state.follow()
        for number in range(5000):
            made.state.advance((), number, {})
        assert feed.overrun
        assert feed.queue.qsize() == 4000
        made.state.unfollow(feed)


async def test_the_store_away_is_a_state(tmp_path: Path) -> None:
    async with core(tmp_path) as made:
        await made.apply()
        with made.store.away():
            request = resolver_pb2.ResolveRequest(name="api.mesh.internal", client="10.1.0.7")
            assert (await made.resolver.Resolve(request)).status == "found"
            assert (await code_of(made.register()))[0] == "UNAVAILABLE"
        await made.register()


async def test_garbage_in_the_store_is_left_out(tmp_path: Path) -> None:
    async with core(tmp_path) as made:
        await made.apply()
        author = Author("somebody", "mischief")
        await made.store.commit([Put("services/bad", b"\xff\xff"), Put("other/x", b"?")], author)
        await made.store.commit([Put("pops/eu", b"")], author)
        await until("it was seen", lambda: made.state.snapshot.topology.revision == 3)
        assert made.pump.ignored == 2
        assert "bad" not in made.state.snapshot.topology.services
        assert "eu" in made.state.snapshot.topology.pops
        loaded, _ = snapshot_of(await made.store.load())
        assert "api" in loaded.topology.services


async def test_health_and_reflection(tmp_path: Path) -> None:
    async with core(tmp_path) as made:
        health = health_pb2_grpc.HealthStub(made.channel)
        for name in ("", "meshd.v1.Topology", "meshd.v1.Resolver", "meshd.v1.Registry"):
            reply = await health.Check(health_pb2.HealthCheckRequest(service=name))
            assert reply.status == health_pb2.HealthCheckResponse.SERVING
        reflection: Any = reflection_pb2_grpc.ServerReflectionStub(made.channel)
        call = reflection.ServerReflectionInfo()
        await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
        reply = await call.read()
        names = {each.name for each in reply.list_services_response.service}
        assert {"meshd.v1.Topology", "meshd.v1.Resolver", "meshd.v1.Registry"} <= names
        call.cancel()


async def test_messages_are_bounded(tmp_path: Path) -> None:
    async with core(tmp_path) as made:
        request = topology_pb2.PlanRequest(document="#" * (17 << 20))
        assert (await code_of(made.topology.Plan(request)))[0] == "RESOURCE_EXHAUSTED"


async def test_resolve_over_grpc(tmp_path: Path) -> None:
    async with core(tmp_path) as made:
        await made.apply()
        ask = resolver_pb2.ResolveRequest
        found = await made.resolver.Resolve(ask(name="API.mesh.internal", client="10.1.0.7"))
        assert [e.tier for e in found.endpoints] == sorted(e.tier for e in found.endpoints)
        assert {e.port for e in found.endpoints} == {8080, 8081}
        pinned = await made.resolver.Resolve(ask(name="1-3.version.api.mesh.internal"))
        assert {e.version for e in pinned.endpoints} == {"1.3.0"}
        none = await made.resolver.Resolve(ask(name="none.mesh.internal"))
        assert none.status == "no such name"
        for wrong in (ask(name="-"), ask(name=""), ask(name="a.b", client="somewhere")):
            assert (await code_of(made.resolver.Resolve(wrong)))[0] == "INVALID_ARGUMENT"
