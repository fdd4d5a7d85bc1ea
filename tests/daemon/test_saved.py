"""The state on disk: what was known comes back, what is damaged is not believed."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from meshd.core.model import Range
from meshd.core.ranges import RangeTable
from meshd.core.signals import Signal
from meshd.core.snapshot import Snapshot
from meshd.core.topology import Topology
from meshd.core.verdict import Verdict
from meshd.daemon import saved
from meshd.daemon.saved import Saved, read_saved, write_saved
from meshd.daemon.state import State
from tests import samples

SIGNALS = {
    "api-eu-1": Signal(0.95, Verdict.FAILING, share=0.4, kept=0.9),
    "api-eu-2": Signal(0.0, Verdict.DOWN, held=True),
}
NONE = RangeTable.build(())
SNAPSHOT = samples.snapshot().advance(signals=SIGNALS)


def parts(topology: Topology) -> tuple[Topology, list[Range]]:
    """What can be compared: a table of Ranges is equal to itself alone."""
    return replace(topology, ranges=NONE), list(topology.ranges)


def read(path: Path) -> Saved:
    found = read_saved(path)
    assert found is not None
    return found


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "state"
    assert read_saved(path) is None
    write_saved(path, SNAPSHOT, topology=True)
    found = read(path).snapshot()
    assert parts(found.topology) == parts(SNAPSHOT.topology)
    assert found.signals == SNAPSHOT.signals
    assert (found.topology.store_id, found.topology.revision) == ("sample", 7)


def test_signals_alone(tmp_path: Path) -> None:
    path = tmp_path / "state"
    write_saved(path, SNAPSHOT, topology=False)
    assert read(path) == Saved("sample", 7, (), SNAPSHOT.signals)


def test_more_than_one_piece(tmp_path: Path) -> None:
    path = tmp_path / "state"
    instances = [replace(samples.instance("eu", 1), name=f"i{n}") for n in range(700)]
    made = Snapshot.build(Topology.load("many", 9, [*samples.RECORDS, *instances]))
    write_saved(path, made, topology=True)
    assert parts(read(path).snapshot().topology) == parts(made.topology)


@pytest.mark.parametrize("at", [0, 3, 30, 200, -1, -5])
def test_a_damaged_file_is_not_believed_and_the_one_before_is(tmp_path: Path, at: int) -> None:
    path = tmp_path / "state"
    write_saved(path, samples.snapshot(), topology=True)
    write_saved(path, SNAPSHOT, topology=True)
    data = bytearray(path.read_bytes())
    for damaged in (data[:at], data[:at] + bytes([data[at] ^ 0x20]) + data[at:][1:]):
        path.write_bytes(damaged)
        assert read(path).signals == {}
    (tmp_path / "state.previous").unlink()
    assert read_saved(path) is None


def test_killed_between_two_files(tmp_path: Path) -> None:
    """The new one is whole, or the one before is still there."""
    path = tmp_path / "state"
    write_saved(path, SNAPSHOT, topology=True)
    path.rename(tmp_path / "state.previous")
    (tmp_path / "state.new").write_bytes(b"half")
    assert read(path).signals == SNAPSHOT.signals


async def test_it_is_kept_as_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saved, "_EVERY_S", 0.02)
    path = tmp_path / "state"
    state = State(samples.snapshot(), 0)
    keeping = asyncio.create_task(saved.keep_saved(path, state, topology=True))
    try:
        await asyncio.sleep(0.1)
        assert not path.exists(), "nothing changed, nothing to write"
        state.advance((), 8, dict(SIGNALS))
        async with asyncio.timeout(5):
            while not path.exists() or read(path).revision != 8:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    finally:
        keeping.cancel()
    assert read(path).signals["api-eu-2"] == SIGNALS["api-eu-2"]


async def test_nothing_is_kept_of_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saved, "_EVERY_S", 0.02)
    state = State(Snapshot.build(Topology()), 0)
    keeping = asyncio.create_task(saved.keep_saved(tmp_path / "state", state, topology=True))
    state.advance((), 0, dict(SIGNALS))
    await asyncio.sleep(0.1)
    keeping.cancel()
    assert not (tmp_path / "state").exists()
