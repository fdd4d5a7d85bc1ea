"""Answerers tell the core that they follow which revision they answer from."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from meshd.answerer import confirm
from meshd.answerer.follow import Follower
from meshd.answerer.state import State
from meshd.core.model import Force
from meshd.daemon.rpc.topology import Topology
from meshd.v1.topology_pb2 import ConfirmRequest
from tests.daemon.cores import Core, core, until


@asynccontextmanager
async def following(address: str, node: str = "dns/0") -> AsyncIterator[State]:
    state = State()
    task = asyncio.create_task(Follower(state, [address], node, None).run())
    try:
        yield state
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def revision(made: Core) -> int:
    return made.state.snapshot.topology.revision


async def test_what_is_answered_from_is_told(tmp_path: Path) -> None:
    async with core(tmp_path) as made:
        await made.apply()
        async with following(made.address), following(made.address, "dns/1"):
            wanted = {"dns/0": 1, "dns/1": 1}
            await until("both told", lambda: made.state.confirmed == wanted)
            await made.force("api-eu-1", Force.DRAIN)
            wanted = {"dns/0": 2, "dns/1": 2}
            await until("both told of the change", lambda: made.state.confirmed == wanted)
            assert made.state.follower_names == ["dns/0", "dns/1"]
        await until("nobody follows", lambda: made.state.followers == 0)
        assert (made.state.confirmed, made.state.follower_names) == ({}, [])


async def test_of_many_revisions_the_last_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[int] = []
    before = Topology.Confirm

    async def noted(self: Topology, request: ConfirmRequest, context: object) -> object:
        told.append(request.revision)
        return await before(self, request, context)

    monkeypatch.setattr(Topology, "Confirm", noted)
    monkeypatch.setattr(confirm, "_GAP_S", 0.4)
    async with core(tmp_path) as made:
        await made.apply()
        async with following(made.address) as state:
            await until("the first is told", lambda: bool(told))
            for _ in range(20):
                await made.force("api-eu-1", Force.UP)
                await made.force("api-eu-1", None)
            last = revision(made)
            await until("the last is told", lambda: made.state.confirmed == {"dns/0": last})
            assert state.snapshot is not None
            assert len(told) < 20
            assert told == sorted(set(told))


async def test_it_is_told_again_after_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(confirm, "_GAP_S", 0.1)
    failures = 3
    before = Topology.Confirm

    async def fails_first(self: Topology, request: ConfirmRequest, context: object) -> object:
        nonlocal failures
        if failures:
            failures -= 1
            raise RuntimeError("not now")
        return await before(self, request, context)

    monkeypatch.setattr(Topology, "Confirm", fails_first)
    async with core(tmp_path) as made:
        await made.apply()
        async with following(made.address):
            await until("it is told", lambda: made.state.confirmed == {"dns/0": 1})
        assert failures == 0


async def test_others_and_other_stores_confirm_nothing(tmp_path: Path) -> None:
    async with core(tmp_path) as made:
        await made.apply()
        store_id = made.state.snapshot.topology.store_id
        for node, store in (("stranger", store_id), ("dns/0", "another")):
            feed = made.state.follow("dns/0")
            request = ConfirmRequest(node=node, store_id=store, revision=1)
            await made.topology.Confirm(request, timeout=5)
            assert made.state.confirmed == {}
            made.state.unfollow(feed)
            made.state.unfollow(feed)
        assert made.state.follower_names == []


async def test_what_was_told_of_the_store_before_does_not_count(tmp_path: Path) -> None:
    async with core(tmp_path) as made:
        await made.apply()
        async with following(made.address):
            await until("it is told", lambda: made.state.confirmed == {"dns/0": 1})
            made.state.replace(made.state.snapshot, made.state.guard)
            assert made.state.confirmed == {}
            # It begins anew, and says so again.
            await until("it is told again", lambda: made.state.confirmed == {"dns/0": 1})
