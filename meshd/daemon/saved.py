"""What a core keeps on its own disk: its signals, and with a store elsewhere the topology too.

A core that knew nothing would call every instance up for a moment, down ones included. One whose
store is elsewhere begins from here before it is reached, and knows by this how new that store was.
"""

import asyncio
import contextlib
import json
import logging
import os
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import TypeVar

from google.protobuf.message import DecodeError

from meshd.core.errors import MeshError
from meshd.core.model import Record
from meshd.core.signals import Signal
from meshd.core.snapshot import Snapshot
from meshd.core.topology import Kind, Topology
from meshd.daemon.state import State
from meshd.v1.topology_pb2 import SnapshotPart
from meshd.wire.messages import (
    record_from_message,
    record_to_message,
    signal_from_message,
    signal_to_message,
)

log = logging.getLogger(__name__)

_EVERY_S = 1.0
# At most this share of the time goes into it.
_DUTY = 0.05
_SUM_BYTES = 4
# Written in pieces, so that the event loop has its turns.
_PART = 250

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Saved:
    """What a file holds: records (none where the store is on this machine), and signals."""

    store_id: str
    revision: int
    records: tuple[Record, ...]
    signals: Mapping[str, Signal]

    def snapshot(self) -> Snapshot:
        """The snapshot of it."""
        topology = Topology.load(self.store_id, self.revision, self.records)
        return Snapshot.build(topology, self.signals)


def read_saved(path: Path) -> Saved | None:
    """What was written last, or before that if the newest is damaged; None: neither is there."""
    for candidate in (path, _previous(path)):
        try:
            return _parse(candidate.read_bytes())
        except FileNotFoundError:
            continue
        except (OSError, DecodeError, MeshError, ValueError, KeyError) as error:
            log.warning("saved state not read: path=%s error=%s", candidate, error)
    return None


def _parse(data: bytes) -> Saved:
    body, checksum = data[:-_SUM_BYTES], data[-_SUM_BYTES:]
    if zlib.crc32(body).to_bytes(_SUM_BYTES) != checksum:
        raise ValueError("its checksum is wrong")
    line, _, rest = body.partition(b"\n")
    head = json.loads(line)
    # Messages one after the other are one message that holds what they hold.
    part = SnapshotPart.FromString(rest)
    signals = map(signal_from_message, part.signals)
    return Saved(
        str(head["store_id"]),
        int(head["revision"]),
        tuple(map(record_from_message, part.records)),
        {name: signal for name, signal in signals if signal is not None},
    )


def write_saved(path: Path, snapshot: Snapshot, *, topology: bool) -> None:
    """Replace the file whole and keep the one before; with the topology or signals alone."""
    draft = path.with_name(path.name + ".new")
    checksum = 0
    with draft.open("wb") as file:
        for piece in _pieces(snapshot, topology=topology):
            checksum = zlib.crc32(piece, checksum)
            file.write(piece)
        file.write(checksum.to_bytes(_SUM_BYTES))
        file.flush()
        if topology:
            # With the store away it is all that there is.
            os.fsync(file.fileno())
    with contextlib.suppress(FileNotFoundError):
        os.replace(path, _previous(path))
    os.replace(draft, path)


def _pieces(snapshot: Snapshot, *, topology: bool) -> Iterator[bytes]:
    held = snapshot.topology
    head = {"format": 1, "store_id": held.store_id, "revision": held.revision}
    yield json.dumps(head).encode() + b"\n"
    if topology:
        records = chain.from_iterable(held.records(kind) for kind in Kind)
        for part in _parts(map(record_to_message, records)):
            yield SnapshotPart(records=part).SerializeToString()
    for signals in _parts(signal_to_message(*item) for item in snapshot.signals.items()):
        yield SnapshotPart(signals=signals).SerializeToString()


def _parts(messages: Iterable[_T]) -> Iterator[list[_T]]:
    source = iter(messages)
    while part := list(islice(source, _PART)):
        yield part


def _previous(path: Path) -> Path:
    return path.with_name(path.name + ".previous")


async def keep_saved(path: Path, state: State, *, topology: bool) -> None:
    """Write whenever something changed, at most once a second, for ever."""
    written = state.snapshot
    took = 0.0
    while True:
        await asyncio.sleep(max(_EVERY_S, took / _DUTY))
        snapshot = state.snapshot
        is_same = snapshot.signals is written.signals
        if topology:
            is_same = is_same and snapshot.topology is written.topology
        if is_same or not state.is_loaded:
            continue
        began = time.monotonic()
        try:
            await asyncio.to_thread(write_saved, path, snapshot, topology=topology)
            written = snapshot
        except OSError as error:
            log.warning("state not saved: path=%s error=%s", path, error)
        took = time.monotonic() - began
