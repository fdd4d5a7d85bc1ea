"""What an answerer takes from a core, and what it refuses: older states, and emptiness."""

import asyncio
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from meshd.answerer.disk import SnapshotFile
from meshd.answerer.follow import Follower, refuse_regress
from meshd.answerer.state import State
from meshd.core.errors import Refused
from meshd.core.snapshot import Snapshot
from meshd.core.topology import Topology
from tests import samples


def at(revision: int, store_id: str = "sample") -> Snapshot:
    return Snapshot.build(replace(samples.topology(), revision=revision, store_id=store_id))


def test_anything_is_better_than_nothing() -> None:
    refuse_regress(None, Snapshot.build(Topology("new", 0)))


def test_newer_states_and_other_stores_are_taken() -> None:
    refuse_regress(at(7), at(7))
    refuse_regress(at(7), at(8))
    refuse_regress(at(7), at(1, "another"))


def test_an_older_state_of_the_same_store_is_refused() -> None:
    with pytest.raises(Refused, match="behind 7"):
        refuse_regress(at(7), at(6))


def test_an_empty_new_store_does_not_empty_answers() -> None:
    with pytest.raises(Refused, match="empty store"):
        refuse_regress(at(7), Snapshot.build(Topology("another", 0)))


def test_emptied_by_people_it_is_empty() -> None:
    """The same store, later: somebody decided it, with force."""
    refuse_regress(at(7), Snapshot.build(Topology("sample", 8)))


async def test_a_core_that_is_not_there_changes_nothing(tmp_path: Path) -> None:
    state = State()
    state.swap(at(7))
    file = SnapshotFile(tmp_path / "snapshot")
    follower = Follower(state, [f"unix:{tmp_path}/none.sock"], "test", file)
    following = asyncio.create_task(follower.run())
    await asyncio.sleep(0.5)
    assert not following.done()
    assert state.snapshot is not None
    assert state.snapshot.topology.revision == 7
    assert follower.age_s is None
    following.cancel()


async def test_a_core_that_says_nothing_is_left(tmp_path: Path) -> None:
    """A hung core accepts connections and is silent."""
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(f"{tmp_path}/silent.sock")
        silent.listen()
        state = State()
        follower = Follower(state, [f"unix:{tmp_path}/silent.sock"], "test", None)
        following = asyncio.create_task(follower.run())
        await asyncio.sleep(0.5)
        assert not following.done()
        following.cancel()
