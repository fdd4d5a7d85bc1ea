"""The audit as bytes. No I/O here."""

import hashlib
import zlib
from collections.abc import Iterable, Sequence
from typing import Any

from meshd.core.errors import Malformed
from meshd.daemon.store.base import AuditEntry, Author, Edit
from meshd.etcdwire import audit_pb2 as pb

# Fast: on the way of each write.
_LEVEL = 1
_MAX_BYTES = 256 << 20


def pack(author: Author, at_unix_s: float, edits: Iterable[Edit]) -> bytes:
    """A record of the audit."""
    record = pb.AuditRecord(at_unix_s=at_unix_s, who=author.who, what=author.what)
    for edit in edits:
        record.edits.add(key=edit.key, before=edit.before, after=edit.after)
    return zlib.compress(record.SerializeToString(), _LEVEL)


def unpack(revision: int, packed: bytes) -> AuditEntry:
    """The entry of a record; Malformed."""
    try:
        inflate = zlib.decompressobj()
        record = pb.AuditRecord.FromString(inflate.decompress(packed, _MAX_BYTES))
    except (zlib.error, ValueError, RuntimeError) as error:
        raise Malformed(f"audit of revision {revision}: {error}") from None
    edits = tuple(map(_edit, record.edits))
    return AuditEntry(revision, record.at_unix_s, record.who, record.what, edits)


def digested(edits: Sequence[Edit]) -> tuple[Edit, ...]:
    """Edits with what stands for values that are too long: their length and SHA-256."""
    return tuple(Edit(each.key, _digest(each.before), _digest(each.after)) for each in edits)


def _digest(value: bytes | None) -> bytes | None:
    if value is None:
        return None
    return f"{len(value)} bytes, sha256 {hashlib.sha256(value).hexdigest()}".encode()


def _edit(message: Any) -> Edit:
    before = message.before if message.HasField("before") else None
    after = message.after if message.HasField("after") else None
    return Edit(message.key, before, after)
