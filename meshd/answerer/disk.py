"""An answerer's own copy of what it followed, so that it can answer before any core is reached.

A file is a magic line and frames (length, CRC-32, event): a whole snapshot, then the changes
that were appended. A new snapshot replaces the file atomically and keeps the one before.
"""

import logging
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from google.protobuf.message import DecodeError

from meshd.core.errors import MeshError
from meshd.core.snapshot import Snapshot
from meshd.v1.topology_pb2 import FollowResponse
from meshd.wire.follow import SnapshotReader

log = logging.getLogger(__name__)

_MAGIC = b"meshd snapshot 1\n"
_FRAME = struct.Struct("!II")
# Changes appended beyond this, and beyond the snapshot's own size, are folded into a new one.
_FOLD_BYTES = 8 << 20


class SnapshotFile:
    """The file of the newest snapshot, and `<name>.previous`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._previous = path.with_name(path.name + ".previous")
        self._draft: BinaryIO | None = None
        self._file: BinaryIO | None = None
        self._base = 0

    def load(self) -> Snapshot | None:
        """The newest snapshot that is whole, or None; a torn end is cut off, not an error."""
        for path in (self._path, self._previous):
            snapshot = _read(path)
            if snapshot is not None:
                return snapshot
        return None

    def begin(self) -> None:
        """Start a new snapshot beside the current one."""
        self._path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        self.abandon()
        self._draft = self._path.with_name(self._path.name + ".draft").open("wb")
        self._draft.write(_MAGIC)

    def abandon(self) -> None:
        """Give up a snapshot that was begun."""
        if self._draft is not None:
            self._draft.close()
            self._draft = None

    def append(self, event: FollowResponse) -> None:
        """Add an event to the snapshot that was begun, else to the current one."""
        target = self._draft or self._file
        if target is not None:
            payload = event.SerializeToString()
            target.write(_FRAME.pack(len(payload), zlib.crc32(payload)) + payload)
            if target is self._file:
                target.flush()

    def finish(self) -> None:
        """Make the snapshot that was begun the current one."""
        draft, self._draft = self._draft, None
        if draft is None:
            return
        draft.flush()
        os.fsync(draft.fileno())
        if self._path.exists():
            self._path.replace(self._previous)
        Path(draft.name).replace(self._path)
        _sync_directory(self._path.parent)
        if self._file is not None:
            self._file.close()
        self._file, self._base = draft, draft.tell()

    @property
    def wants_fold(self) -> bool:
        """True if no file takes changes now, or one took more of them than a new one would hold."""
        if self._draft is not None:
            return False
        if self._file is None:
            return True
        return self._file.tell() - self._base > max(_FOLD_BYTES, self._base)

    def close(self) -> None:
        """Close what is open."""
        self.abandon()
        if self._file is not None:
            self._file.close()
            self._file = None


def _sync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _read(path: Path) -> Snapshot | None:
    reader = SnapshotReader()
    snapshot = None
    try:
        with path.open("rb") as file:
            for event in _events(file):
                snapshot = reader.feed(event) or snapshot
    except FileNotFoundError:
        return None
    except (OSError, MeshError, DecodeError) as error:
        log.warning("snapshot damaged: file=%s error=%s", path, error)
    return snapshot


def _events(file: BinaryIO) -> Iterator[FollowResponse]:
    if file.read(len(_MAGIC)) != _MAGIC:
        return
    while len(head := file.read(_FRAME.size)) == _FRAME.size:
        size, checksum = _FRAME.unpack(head)
        payload = file.read(size)
        if len(payload) < size or zlib.crc32(payload) != checksum:
            log.warning("snapshot ends in a broken frame: file=%s at=%d", file.name, file.tell())
            return
        yield FollowResponse.FromString(payload)
