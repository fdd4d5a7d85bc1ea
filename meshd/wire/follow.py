"""The Follow stream, sent by cores and kept on disk by answerers: a snapshot, then changes."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import TypeVar

from meshd.core.errors import Malformed
from meshd.core.model import Record
from meshd.core.signals import Signal
from meshd.core.snapshot import Snapshot
from meshd.core.topology import Change, Kind, Topology
from meshd.v1.topology_pb2 import (
    Beat,
    Changes,
    FollowResponse,
    SnapshotBegin,
    SnapshotEnd,
    SnapshotPart,
)
from meshd.wire.messages import (
    change_from_message,
    change_to_message,
    record_from_message,
    record_to_message,
    signal_from_message,
    signal_to_message,
)

# Small enough that making or reading a part holds nobody up for more than some milliseconds.
PART_RECORDS = 250
# Edits read before whoever reads them may do something else.
_STEP = 50

_T = TypeVar("_T")


def snapshot_events(snapshot: Snapshot) -> Iterator[FollowResponse]:
    """A snapshot as a sequence of events, Ranges in the order of their prefixes."""
    topology = snapshot.topology
    begin = SnapshotBegin(store_id=topology.store_id, revision=topology.revision)
    yield FollowResponse(begin=begin)
    records = chain.from_iterable(topology.records(kind) for kind in Kind)
    count = 0
    for part in _parts(records, PART_RECORDS):
        count += len(part)
        yield FollowResponse(part=SnapshotPart(records=map(record_to_message, part)))
    for signals in _parts(snapshot.signals.items(), PART_RECORDS):
        made = [signal_to_message(*item) for item in signals]
        yield FollowResponse(part=SnapshotPart(signals=made))
    yield FollowResponse(end=SnapshotEnd(records=count, signals=len(snapshot.signals)))


def _parts(items: Iterable[_T], size: int) -> Iterator[Sequence[_T]]:
    source = iter(items)
    while part := tuple(islice(source, size)):
        yield part


def changes_event(
    revision: int,
    changes: Sequence[Change] = (),
    signals: Mapping[str, Signal | None] | None = None,
    *,
    all_signals: bool = False,
) -> FollowResponse:
    """Changes of one revision, or signals alone."""
    made = Changes(
        revision=revision,
        edits=map(change_to_message, changes),
        signals=[signal_to_message(*item) for item in (signals or {}).items()],
        all_signals=all_signals,
    )
    return FollowResponse(changes=made)


def beat_event(revision: int, store_age_s: float | None = None) -> FollowResponse:
    """A sign of life, and for how long the store was not reached (None: never)."""
    return FollowResponse(beat=Beat(revision=revision, store_age_s=store_age_s))


class SnapshotReader:
    """Puts events together again: `feed` returns a snapshot whenever one is complete."""

    def __init__(self, held: Snapshot | None = None) -> None:
        self._held = held
        self._begin: SnapshotBegin | None = None
        self._records: list[Record] = []
        self._signals: dict[str, Signal] = {}

    def feed(self, event: FollowResponse) -> Snapshot | None:
        """Take one event; Malformed if it cannot follow what came before, or is no such thing."""
        *_, found = self.steps(event)
        return found

    def steps(self, event: FollowResponse) -> Iterator[Snapshot | None]:
        """As `feed`, in steps of some milliseconds; what came of it is what the last one yields."""
        if event.WhichOneof("event") == "changes":
            yield from self._advance(event.changes)
        else:
            yield self._feed_whole(event)

    def _feed_whole(self, event: FollowResponse) -> Snapshot | None:
        which = event.WhichOneof("event")
        if which == "begin":
            self._begin, self._records, self._signals = event.begin, [], {}
        elif which == "part":
            self._take(event.part)
        elif which == "end":
            self._held = self._finish(event.end)
            return self._held
        return None

    def _take(self, part: SnapshotPart) -> None:
        self._records.extend(record_from_message(message) for message in part.records)
        for message in part.signals:
            name, signal = signal_from_message(message)
            if signal is not None:
                self._signals[name] = signal

    def _finish(self, end: SnapshotEnd) -> Snapshot:
        begin = self._begin
        whole = end.records == len(self._records) and end.signals == len(self._signals)
        if begin is None or not whole:
            raise Malformed("a snapshot with parts missing")
        topology = Topology.load(begin.store_id, begin.revision, self._records)
        snapshot = Snapshot.build(topology, self._signals)
        self._begin, self._records, self._signals = None, [], {}
        return snapshot

    def _advance(self, changes: Changes) -> Iterator[Snapshot | None]:
        held = self._held
        if held is None or self._begin is not None:
            raise Malformed("changes without a snapshot that they change")
        if changes.revision < held.topology.revision:
            raise Malformed(f"revision {changes.revision} after {held.topology.revision}")
        signals: dict[str, Signal | None] = {}
        if changes.all_signals:
            signals.update(dict.fromkeys(held.signals))
        for told in _parts(changes.signals, _STEP):
            signals.update(map(signal_from_message, told))
            yield None
        edits: list[Change] = []
        for part in _parts(changes.edits, _STEP):
            edits += map(change_from_message, part)
            yield None
        for after in held.advancing(edits, changes.revision, signals):
            self._held = after or self._held
            yield after
