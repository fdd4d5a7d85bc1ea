"""The snapshot on disk: whole or not there, the one before kept."""

from pathlib import Path

import pytest

from meshd.answerer.disk import SnapshotFile
from meshd.core.model import Pop
from meshd.core.snapshot import Snapshot
from meshd.core.topology import Change
from meshd.wire.follow import changes_event, snapshot_events
from tests import samples


def write(file: SnapshotFile, snapshot: Snapshot) -> None:
    file.begin()
    for event in snapshot_events(snapshot):
        file.append(event)
    file.finish()


def added(name: str, revision: int) -> Snapshot:
    return samples.snapshot().advance([Change.put(Pop(name))], revision)


def test_nothing_there(tmp_path: Path) -> None:
    assert SnapshotFile(tmp_path / "deep" / "snapshot").load() is None


def test_snapshot_and_changes_are_read_back(tmp_path: Path) -> None:
    file = SnapshotFile(tmp_path / "deep" / "snapshot")
    write(file, samples.snapshot())
    file.append(changes_event(8, [Change.put(Pop("sa"))]))
    file.append(changes_event(9, [Change.put(Pop("af"))]))
    file.close()
    got = SnapshotFile(tmp_path / "deep" / "snapshot").load()
    assert got is not None
    assert got.topology.revision == 9
    assert {"sa", "af"} <= set(got.topology.pops)
    assert set(got.views) == set(samples.snapshot().views)


def test_every_cut_of_the_end_leaves_an_older_whole(tmp_path: Path) -> None:
    path = tmp_path / "snapshot"
    file = SnapshotFile(path)
    write(file, samples.snapshot())
    base = path.stat().st_size
    for revision in range(8, 12):
        file.append(changes_event(revision, [Change.put(Pop(f"p{revision}"))]))
    file.close()
    whole = path.read_bytes()
    seen = set()
    for size in range(base, len(whole) + 1):
        path.write_bytes(whole[:size])
        got = SnapshotFile(path).load()
        assert got is not None
        seen.add(got.topology.revision)
    assert seen == {7, 8, 9, 10, 11}


def test_a_damaged_snapshot_gives_way_to_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "snapshot"
    file = SnapshotFile(path)
    write(file, added("older", 20))
    write(file, added("newer", 30))
    file.close()
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2] ^= 1
    path.write_bytes(whole)
    got = SnapshotFile(path).load()
    assert got is not None
    assert got.topology.revision == 20
    path.unlink()
    got = SnapshotFile(path).load()
    assert got is not None
    assert got.topology.revision == 20


@pytest.mark.parametrize(
    "junk", [b"", b"hello", b"meshd snapshot 1\n", b"meshd snapshot 1\n\xff\xff"]
)
def test_junk_is_no_snapshot(tmp_path: Path, junk: bytes) -> None:
    (tmp_path / "snapshot").write_bytes(junk)
    assert SnapshotFile(tmp_path / "snapshot").load() is None


def test_a_snapshot_that_was_given_up_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "snapshot"
    file = SnapshotFile(path)
    write(file, samples.snapshot())
    file.begin()
    file.append(next(iter(snapshot_events(added("half", 40)))))
    file.abandon()
    file.close()
    got = SnapshotFile(path).load()
    assert got is not None
    assert got.topology.revision == 7


def test_when_a_new_snapshot_is_wanted(tmp_path: Path) -> None:
    file = SnapshotFile(tmp_path / "snapshot")
    assert file.wants_fold
    write(file, samples.snapshot())
    assert not file.wants_fold
    big = changes_event(8, [Change.put(Pop(f"p{n:04}")) for n in range(4000)])
    base = (tmp_path / "snapshot").stat().st_size
    while not file.wants_fold:
        file.append(big)
    assert 8 << 20 < (tmp_path / "snapshot").stat().st_size - base < 9 << 20
    file.begin()
    assert not file.wants_fold
    file.close()
