"""The Follow stream: a snapshot and its changes, put together again."""

import pytest

from meshd.core.errors import Malformed
from meshd.core.model import Pop
from meshd.core.names import to_wire
from meshd.core.resolve import Client, resolve
from meshd.core.rrsets import rrsets_of
from meshd.core.signals import Signal
from meshd.core.snapshot import Snapshot
from meshd.core.topology import Change, Kind
from meshd.v1.topology_pb2 import FollowResponse
from meshd.wire import follow
from tests import samples


def said(snapshot: Snapshot) -> list[str]:
    """What clients of several places are answered: equal for equal snapshots."""
    name = to_wire("api.mesh.internal.")
    clients = [None, *(Client.parse(f"10.{a}.{b}.9") for a in range(4) for b in range(9))]
    return [repr(rrsets_of(snapshot, resolve(snapshot, name, client), name)) for client in clients]


def sent(event: FollowResponse) -> FollowResponse:
    return FollowResponse.FromString(event.SerializeToString())


def test_snapshot_comes_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "PART_RECORDS", 3)
    snapshot = samples.snapshot().advance(signals={"api-eu-1": Signal(0.9)})
    reader = follow.SnapshotReader()
    events = list(follow.snapshot_events(snapshot))
    assert len(events) > 10
    made = [reader.feed(sent(event)) for event in events]
    assert made[:-1] == [None] * (len(made) - 1)
    got = made[-1]
    assert got is not None
    assert got.topology.revision == 7
    assert got.topology.store_id == "sample"
    assert got.signals == snapshot.signals
    assert said(got) == said(snapshot)


def test_changes_lead_to_the_same_snapshot() -> None:
    before = samples.snapshot()
    changes = [Change(Kind.INSTANCES, "api-eu-1", None), Change.put(Pop("sa", (-23.0, -46.0)))]
    signals = {"api-eu-2": Signal(0.8)}
    after = before.advance(changes, 9, signals)
    reader = follow.SnapshotReader(before)
    got = reader.feed(sent(follow.changes_event(9, changes, signals)))
    assert got is not None
    assert got.topology.revision == 9
    assert said(got) == said(after)
    assert said(got) != said(before)


def test_all_signals_forgets_the_others() -> None:
    before = samples.snapshot().advance(signals={"api-eu-1": Signal(0.9), "api-eu-2": Signal(0.2)})
    event = follow.changes_event(7, (), {"api-eu-2": Signal(0.5)}, all_signals=True)
    got = follow.SnapshotReader(before).feed(sent(event))
    assert got is not None
    assert got.signals == {"api-eu-2": Signal(0.5)}


def test_what_cannot_follow_is_malformed() -> None:
    snapshot = samples.snapshot()
    events = list(follow.snapshot_events(snapshot))
    cut = follow.SnapshotReader()
    for event in (*events[:1], *events[2:-1]):
        cut.feed(event)
    with pytest.raises(Malformed, match="parts missing"):
        cut.feed(events[-1])
    with pytest.raises(Malformed, match="without a snapshot"):
        follow.SnapshotReader().feed(follow.changes_event(8))
    with pytest.raises(Malformed, match="revision 6 after 7"):
        follow.SnapshotReader(snapshot).feed(follow.changes_event(6))


def test_beats_change_nothing() -> None:
    assert follow.SnapshotReader(samples.snapshot()).feed(follow.beat_event(7)) is None
