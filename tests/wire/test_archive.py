"""The snapshot file: what comes back, and what is refused."""

import hashlib
import json
import zlib

import pytest

from meshd.core.errors import Malformed
from meshd.core.topology import Kind
from meshd.v1.topology_pb2 import SnapshotPart
from meshd.wire import archive as module
from meshd.wire.archive import Archive, pack_archive, parse_archive
from tests import samples

TOPOLOGY = samples.snapshot().topology
ARCHIVE = Archive(
    TOPOLOGY.store_id,
    TOPOLOGY.revision,
    "2026-01-02 03:04:05Z",
    "0.1",
    tuple(record for kind in Kind for record in TOPOLOGY.records(kind)),
)


def forged(head: object, body: bytes, name: bytes = b"meshd snapshot 1") -> bytes:
    """A file whose checksum is right."""
    data = b"\n".join((name, json.dumps(head).encode(), body))
    return data + hashlib.sha256(data).digest()


def test_it_comes_back_as_it_was() -> None:
    data = pack_archive(ARCHIVE)
    assert len(ARCHIVE.records) > 10
    assert parse_archive(data) == ARCHIVE
    assert pack_archive(parse_archive(data)) == data
    # People can see what it is.
    assert data.splitlines()[:1] == [b"meshd snapshot 1"]
    assert json.loads(data.splitlines()[1])["revision"] == TOPOLOGY.revision


def test_any_damage_is_seen() -> None:
    data = pack_archive(ARCHIVE)
    for at in range(len(data)):
        changed = bytes((*data[:at], data[at] ^ 1, *data[at + 1 :]))
        with pytest.raises(Malformed):
            parse_archive(changed)
    for length in range(len(data)):
        with pytest.raises(Malformed):
            parse_archive(data[:length])
    with pytest.raises(Malformed, match="damaged"):
        parse_archive(data + b"\0")


@pytest.mark.parametrize("data", [b"", b"zones: {}\n", b"meshd snapshot x\n", b"meshd snapshot 1"])
def test_other_files_are_told_apart(data: bytes) -> None:
    with pytest.raises(Malformed, match="is no snapshot"):
        parse_archive(data)


def test_a_newer_format_is_said() -> None:
    with pytest.raises(Malformed, match=r"format 2 .* a newer meshd"):
        parse_archive(forged({"whatever": 1}, b"", b"meshd snapshot 2"))


@pytest.mark.parametrize(
    ("head", "body"),
    [
        ({"records": 0}, zlib.compress(b"")),
        ([], zlib.compress(b"")),
        ({"records": 1, "store_id": "", "revision": 1, "saved_at": "", "meshd": ""}, b"zlib"),
        ({"records": 1, "store_id": "", "revision": 1, "saved_at": "", "meshd": ""},
         zlib.compress(b"")),
        ({"records": 0, "store_id": "", "revision": "x", "saved_at": "", "meshd": ""},
         zlib.compress(b"")),
        ({"records": 0, "store_id": "", "revision": 1, "saved_at": "", "meshd": ""},
         zlib.compress(b"\xff")),
        ({"records": 1, "store_id": "", "revision": 1, "saved_at": "", "meshd": ""},
         zlib.compress(SnapshotPart(records=[{}]).SerializeToString())),
    ],
)  # fmt: skip
def test_a_right_checksum_is_not_believed(head: object, body: bytes) -> None:
    with pytest.raises(Malformed, match="cannot be read"):
        parse_archive(forged(head, body))


def test_a_bomb_is_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_BYTES", 64)
    with pytest.raises(Malformed, match="cannot be read"):
        parse_archive(pack_archive(ARCHIVE))
