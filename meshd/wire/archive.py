"""The file that `meshctl snapshot` writes: all records of one revision, checked as a whole.

A line that says the format, a line of JSON for people, the records compressed, and a checksum
over all of it.
"""

import hashlib
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from meshd.core.errors import Malformed, MeshError
from meshd.core.model import Record
from meshd.v1.topology_pb2 import SnapshotPart
from meshd.wire.messages import record_from_message, record_to_message

_MAGIC = b"meshd snapshot "
_FORMAT = 1
_CHECKSUM_BYTES = hashlib.sha256().digest_size
# Some ten million records: what claims to hold more is none of ours.
_MOST_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Archive:
    """Records as they were at one revision of one store; the time is for people."""

    store_id: str
    revision: int
    saved_at: str
    meshd: str
    records: tuple[Record, ...]


def pack_archive(archive: Archive) -> bytes:
    """The bytes of the file."""
    head = {
        "store_id": archive.store_id,
        "revision": archive.revision,
        "saved_at": archive.saved_at,
        "meshd": archive.meshd,
        "records": len(archive.records),
    }
    part = SnapshotPart(records=map(record_to_message, archive.records))
    body = zlib.compress(part.SerializeToString(deterministic=True))
    data = _MAGIC + b"%d\n%s\n" % (_FORMAT, json.dumps(head).encode()) + body
    return data + hashlib.sha256(data).digest()


def parse_archive(data: bytes) -> Archive:
    """The file read back; Malformed says whether it is damaged, newer, or something else."""
    version, newline, _ = data.removeprefix(_MAGIC).partition(b"\n")
    if not data.startswith(_MAGIC) or not newline or not version.isdigit():
        raise Malformed("is no snapshot of meshd")
    if int(version) != _FORMAT:
        raise Malformed(
            f"has format {int(version)} and this meshd reads format {_FORMAT}: "
            "a newer meshd wrote it"
        )
    content, checksum = data[:-_CHECKSUM_BYTES], data[-_CHECKSUM_BYTES:]
    if hashlib.sha256(content).digest() != checksum:
        raise Malformed("is damaged: its checksum does not match")
    _, head, body = content.split(b"\n", 2)
    try:
        return _archive(json.loads(head), body)
    except (ValueError, KeyError, TypeError, zlib.error, DecodeError, MeshError) as error:
        # Whoever wrote it made the checksum too.
        raise Malformed(f"cannot be read: {error}") from None


def _archive(head: Mapping[str, object], body: bytes) -> Archive:
    opened = zlib.decompressobj()
    part = SnapshotPart.FromString(opened.decompress(body, _MOST_BYTES))
    records = tuple(map(record_from_message, part.records))
    if not opened.eof or len(records) != head["records"]:
        raise Malformed("records are missing")
    return Archive(
        str(head["store_id"]),
        int(str(head["revision"])),
        str(head["saved_at"]),
        str(head["meshd"]),
        records,
    )
