"""Overrides over gRPC: patterns, what needs force, and those that go away by themselves."""

import time
from pathlib import Path
from typing import Any

import pytest

from meshd.core.model import Force
from meshd.daemon.store.base import AuditEntry
from meshd.v1 import topology_pb2
from tests.daemon.rpc.core import Core, code_of, core, until


async def overrides(made: Core) -> dict[str, float]:
    """Override -> in how many seconds it goes away, as far as told; 0: not told."""
    request = topology_pb2.GetRequest(kinds=["overrides"])
    pages = [page async for page in made.topology.Get(request, timeout=5)]
    return {
        record.override.instance: page.expires_in_s.get(record.override.instance, 0.0)
        for page in pages
        for record in page.records
    }


async def newest(made: Core) -> AuditEntry:
    return (await made.store.history(1))[0]


async def test_a_pattern_is_about_those_to_come_too(tmp_path: Path) -> None:
    async with core(tmp_path) as made:
        await made.force("api-eu-*", Force.DOWN, is_forced=True)
        assert made.verdict("api-eu-2") == "forced down"
        assert made.verdict("api-us-1") == "up"
        await made.force("api-eu-2", Force.UP)
        assert made.verdict("api-eu-2") == "forced up"
        await made.force("api-eu-*", None)
        assert (made.verdict("api-eu-1"), made.verdict("api-eu-2")) == ("up", "forced up")


async def test_what_needs_force(tmp_path: Path) -> None:
    async with core(tmp_path) as made:
        for name, said in (("nobody-*", "no instance matches"), ("old-1", "no ready instance")):
            code, details = await code_of(made.force(name, Force.DRAIN))
            assert (code, said in details) == ("FAILED_PRECONDITION", True)
        assert await overrides(made) == {}
        await made.force("old-1", Force.DRAIN, is_forced=True)
        assert list(await overrides(made)) == ["old-1"]


async def test_an_override_goes_away_by_itself_and_the_audit_says_so(tmp_path: Path) -> None:
    async with core(tmp_path) as made:
        await made.force("api-eu-*", Force.DRAIN, expires_s=1.0, is_forced=True)
        assert made.verdict("api-eu-1") == "draining"
        left_s = (await overrides(made))["api-eu-*"]
        assert 0 < left_s <= 1.0
        await until("it expired", lambda: made.verdict("api-eu-1") == "up")
        assert await overrides(made) == {}
        entry = await newest(made)
        assert (entry.who, "expired" in entry.what) == ("lease", True)
        assert [edit.key for edit in entry.edits] == ["overrides/api-eu-*"]


async def test_the_last_word_decides_how_long_it_holds(tmp_path: Path) -> None:
    """An override that is put again is under its new lease, or under none."""
    async with core(tmp_path) as made:
        await made.force("api-eu-1", Force.DRAIN, expires_s=1.0)
        await made.force("api-eu-1", Force.DRAIN)
        await made.force("api-us-1", Force.DRAIN, expires_s=1.0)
        await made.force("api-us-1", Force.DRAIN, expires_s=60.0)
        await made.force("api-us-2", Force.DOWN, expires_s=1.0)
        await until("the short one expired", lambda: made.verdict("api-us-2") == "up")
        began = time.monotonic()
        await until("a lease more would have", lambda: time.monotonic() - began > 0.7)
        found = await overrides(made)
        assert found.keys() == {"api-eu-1", "api-us-1"}
        assert found["api-eu-1"] == 0
        assert 50 < found["api-us-1"] <= 60


async def test_leases_of_what_is_not_there_any_more_end(tmp_path: Path) -> None:
    async with core(tmp_path) as made:
        await made.force("api-eu-1", Force.DRAIN, expires_s=60.0)
        assert "alive=1" in repr(made.store)
        await made.force("api-eu-1", None)
        assert "alive=0" in repr(made.store)
        code, _ = await code_of(made.force("old-1", Force.DRAIN, expires_s=60.0))
        assert code == "FAILED_PRECONDITION"
        assert "alive=0" in repr(made.store)


@pytest.mark.parametrize("expires_s", [-1.0, 0.5, 86_401.0, float("nan"), float("inf")])
async def test_wrong_times(tmp_path: Path, expires_s: float) -> None:
    async with core(tmp_path) as made:
        code, details = await code_of(made.force("api-eu-1", Force.UP, expires_s=expires_s))
        assert (code, "1..86400" in details) == ("INVALID_ARGUMENT", True)
        assert await overrides(made) == {}


async def test_only_overrides_expire_and_all_faults_are_told(tmp_path: Path) -> None:
    async with core(tmp_path) as made:
        request = topology_pb2.GetRequest(kinds=["pops"], name="eu")
        page: Any = await made.topology.Get(request).read()
        edits = [
            topology_pb2.Edit(kind="pops", name="eu", record=page.records[0], expires_s=5),
            topology_pb2.Edit(kind="instances", name="api-eu-1", expires_s=5),
            topology_pb2.Edit(kind="overrides", name="api-eu-1", expires_s=5),
        ]
        code, details = await code_of(
            made.topology.Commit(topology_pb2.CommitRequest(edits=edits), timeout=5)
        )
        assert code == "INVALID_ARGUMENT"
        assert len(details.splitlines()) == 3


async def test_a_store_that_is_away_refuses(tmp_path: Path) -> None:
    async with core(tmp_path) as made:
        with made.store.away():
            code, _ = await code_of(made.force("api-eu-1", Force.DRAIN, expires_s=5.0))
            assert code == "UNAVAILABLE"
        assert made.verdict("api-eu-1") == "up"
