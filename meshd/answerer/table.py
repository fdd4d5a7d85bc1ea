"""The table: finished answers in shared memory, which dnsdist reads without asking anybody.

Written by one answerer, read by any process that maps the file (integrations/dnsdist/meshd.lua).
An answer is kept under its name, type, and the prefix around the client for which it holds. It
counts while the number of its group (its service) is the one that the table has, so a change of
a service ends all its answers with one store of four bytes. A reader takes a copy and trusts it
only if its checksum is right: there is no lock, and a torn copy is a miss.

All numbers little-endian, the machine's own on all that runs dnsdist:

    header   8s magic, I slots, I groups, Q beat (CLOCK_MONOTONIC, ms), H H lengths in use (v4, v6)
    groups   I each: the number now; group 0 is the revision
    slots    I each: offset of an entry / 8, 0 if empty; by CRC-32 of the key, then the next 7
    entries  I CRC-32 of what follows, H size, H size of the key, I group, I its number,
             the reply's bytes 2..12 without RD, OPT and TC, 2 unused, the key,
             all that stands behind the question
    key      name in lower case, type, class, B IP version, B n, the first n * 1 (v4) or
             n * 2 (v6) bytes of the address; 0 <= n <= 4 or 8
"""

import mmap
import struct
import zlib
from typing import NamedTuple

from meshd.answerer.state import State
from meshd.core.resolve import Client
from meshd.core.snapshot import Snapshot
from meshd.wire.dns import UDP_ROOM, Body

MAGIC = b"meshdtb1"
SIZE = 64 << 20
SLOTS = 1 << 18
GROUPS = 1 << 16
PROBES = 8
# Readers copy no more.
MAX_ENTRY = 2048
_MAX_PUT = 200_000
# A reader that sees an older beat asks the listener.
BEAT_S = 0.25

_HEADER = struct.Struct("<8sIIQHH")
_GROUPS_AT = 64
_SLOTS_AT = _GROUPS_AT + 4 * GROUPS
_ENTRIES_AT = _SLOTS_AT + 4 * SLOTS
_ENTRY = struct.Struct("<IHHII")
_ENTRY_SIZE = _ENTRY.size + 12
# Bytes of an address that one step of a key's length stands for.
_STEP = {4: 1, 6: 2}


class _Place(NamedTuple):
    """Where an entry is: its slot, its offset, how many bytes it may have."""

    slot: int
    offset: int
    room: int


class Table:
    """Writes the table in a file that is open already; one writer, any number of readers."""

    def __init__(self, fd: int, state: State) -> None:
        self._map = mmap.mmap(fd, SIZE)
        self._words = memoryview(self._map).cast("I")
        self._groups: dict[str, int] = {}
        self._places: dict[bytes, _Place] = {}
        # Of what was put since the last change: (question, address), so that it is put once.
        self._put: set[tuple[bytes, int]] = set()
        self._end = _ENTRIES_AT
        self._lengths = [0, 0]
        self._snapshot: Snapshot | None = None
        self._state = state
        self._clear()
        self._map[: _HEADER.size] = _HEADER.pack(MAGIC, SLOTS, GROUPS, 0, 0, 0)
        state.on_swap(self._renew)
        self._renew()

    def beat(self, now_s: float) -> None:
        """Say that the table is kept current; `now_s` is CLOCK_MONOTONIC."""
        struct.pack_into("<Q", self._map, 16, int(now_s * 1000))

    def holds(self, question: bytes, address: int) -> bool:
        """True if a client's answer was put after the last change; the name may be in any case."""
        return (question, address) in self._put

    def note(self, question: bytes, address: int) -> None:
        """Remember that a client's answer was put, or is none to be put."""
        if len(self._put) >= _MAX_PUT:
            self._put.clear()
        self._put.add((question, address))

    def put(self, question: bytes, client: Client, scope: int, service: str, body: Body) -> None:
        """Keep an answer for all clients in the prefix of length `scope` around this one.

        `question` is name, type and class, the name in lower case. With `service` empty the
        answer lasts as long as the revision.
        """
        group = self._group(service)
        if group is None:
            return
        step = _STEP[client.version]
        # A longer prefix than the scope holds as well, so few lengths need to be looked for.
        length = -(-scope // (8 * step))
        address = client.address.to_bytes(4 if client.version == 4 else 16, "big")
        key = question + bytes((client.version, length)) + address[: length * step]
        tail, extras = body.fitted(UDP_ROOM)
        counts = struct.pack("!4H", 1, body.answers, body.authority, extras)
        head = bytes((0x84, body.rcode)) + counts + b"\0\0"
        # Groups start at the beginning of the words that follow the header.
        number = self._words[_GROUPS_AT // 4 + group]
        size = _ENTRY_SIZE + len(key) + len(tail)
        if size > MAX_ENTRY:
            return
        entry = struct.pack("<HHII", size, len(key), group, number) + head + key + tail
        self._write(key, zlib.crc32(entry).to_bytes(4, "little") + entry)
        self._use(client.version, length)

    def _group(self, service: str) -> int | None:
        if not service:
            return 0
        group = self._groups.get(service)
        if group is None and len(self._groups) + 1 < GROUPS:
            group = self._groups[service] = len(self._groups) + 1
        return group

    def _write(self, key: bytes, entry: bytes) -> None:
        place = self._places.get(key)
        if place is None or place.room < len(entry):
            place = self._new_place(key, len(entry), place)
        self._map[place.offset : place.offset + len(entry)] = entry
        # Only now can it be found.
        self._words[_SLOTS_AT // 4 + place.slot] = place.offset // 8

    def _new_place(self, key: bytes, size: int, old: _Place | None) -> _Place:
        # Some room to grow, so that most changes are written where the entry is.
        room = size + 63 & ~63
        if self._end + room > SIZE:
            self._clear()
            old = None
        slot = self._free_slot(key) if old is None else old.slot
        place = self._places[key] = _Place(slot, self._end, room)
        self._end += room
        return place

    def _free_slot(self, key: bytes) -> int:
        """An empty slot near the key's hash; else the first, and who was there goes."""
        first = zlib.crc32(key)
        for step in range(PROBES):
            slot = first + step & SLOTS - 1
            if not self._words[_SLOTS_AT // 4 + slot]:
                return slot
        return first & SLOTS - 1

    def _use(self, version: int, length: int) -> None:
        at = 0 if version == 4 else 1
        if not self._lengths[at] >> length & 1:
            self._lengths[at] |= 1 << length
            struct.pack_into("<HH", self._map, 24, *self._lengths)

    def _clear(self) -> None:
        self._map[_SLOTS_AT:_ENTRIES_AT] = bytes(4 * SLOTS)
        self._places = {}
        self._put.clear()
        self._end = _ENTRIES_AT

    def _renew(self) -> None:
        """End the answers that a swap made doubtful."""
        self._put.clear()
        before, after = self._snapshot, self._state.snapshot
        self._snapshot = after
        if before is None or after is None:
            self._clear()
            return
        changed = [0] if before.topology.revision != after.topology.revision else []
        if (
            before.topology.ranges is not after.topology.ranges
            or before.directory is not after.directory
        ):
            # Other clients belong together now, or another service stands at a name.
            changed += self._groups.values()
        else:
            changed += [
                group
                for service, group in self._groups.items()
                if before.views.get(service) is not after.views.get(service)
            ]
        for group in changed:
            at = _GROUPS_AT // 4 + group
            self._words[at] = self._words[at] + 1 & 0xFFFFFFFF

    def close(self) -> None:
        """Let go of the file."""
        self._words.release()
        self._map.close()
