"""The fast path: finished replies looked up by name, type, Range policy and bucket.

It takes only the common shape of packet (one question, at most an OPT) and only replies made
before; for all else it returns None and the full way is gone. Nothing here awaits or locks.
"""

from dataclasses import dataclass
from typing import NamedTuple

from meshd.core.hashing import client_bucket
from meshd.core.ranges import Policy, RangeTable
from meshd.core.snapshot import ServiceView
from meshd.wire.dns import MAX_UDP, PLAIN_UDP, UDP_ROOM, Body

# Bounds of what is remembered; when one is passed that memory starts anew.
_MAX_REPLIES = 400_000
_MAX_CLIENTS = 400_000
_MAX_SLOTS = 200_000

_OPT_HEAD = b"\0\0\x29"
_OPT_REPLY = _OPT_HEAD + MAX_UDP.to_bytes(2, "big")
# Extended rcode 0, version 0, without and with DO.
_OPT_FLAGS = (b"\0\0\0\0", b"\0\0\x80\0")


class Scope(NamedTuple):
    """How the scope of a reply is found: it depends on the client's key, its Range, or nothing."""

    by_key: bool
    by_range: bool


@dataclass(slots=True)
class Reply:
    """A finished reply: heads by (EDNS, RD), the bytes behind the question, its kind of scope."""

    heads: tuple[bytes, bytes, bytes, bytes]
    tail: bytes
    scope: Scope

    @classmethod
    def of(cls, body: Body, scope: Scope) -> "Reply":
        """Finish a body."""
        tail, extras = body.fitted(UDP_ROOM)
        counts = b"".join(n.to_bytes(2, "big") for n in (1, body.answers, body.authority))
        heads = [
            bytes([0x84 | rd, body.rcode]) + counts + (extras + edns).to_bytes(2, "big")
            for edns in (0, 1)
            for rd in (0, 1)
        ]
        return cls((heads[0], heads[1], heads[2], heads[3]), tail, scope)


@dataclass(slots=True)
class _Slot:
    """What the fast path needs of one (name, type)."""

    replies: dict[int, Reply]
    policy_keys: dict[Policy, int]
    sticky4: int
    sticky6: int


class _Opt(NamedTuple):
    """A plain OPT record: its flags, the size allowed, where a client subnet stands (0: none)."""

    flags: bytes
    limit: int
    ecs_at: int


class _Subnet(NamedTuple):
    version: int
    address: int
    length: int
    end: int


def _shapes() -> dict[bytes, int]:
    """Headers taken, without the ID -> 2 if an OPT follows, +1 if RD is set; AD may be set."""
    return {
        bytes([rd, ad, 0, 1, 0, 0, 0, 0, 0, opt]): 2 * opt + rd
        for rd in (0, 1)
        for ad in (0, 0x20)
        for opt in (0, 1)
    }


_SHAPES = _shapes()


def _read_opt(data: bytes, at: int) -> _Opt | None:
    flags = data[at + 5 : at + 9]
    if data[at : at + 3] != _OPT_HEAD or flags not in _OPT_FLAGS:
        return None
    size = data[at + 3] << 8 | data[at + 4]
    limit = MAX_UDP if size >= MAX_UDP else max(size, PLAIN_UDP)
    end = at + 11 + (data[at + 9] << 8 | data[at + 10])
    if end != len(data):
        return None
    ecs_at = 0
    at += 11
    while at + 4 <= end:
        if data[at] == 0 and data[at + 1] == 8:
            if ecs_at:
                return None
            ecs_at = at
        at += 4 + (data[at + 2] << 8 | data[at + 3])
    return _Opt(flags, limit, ecs_at) if at == end else None


def _read_subnet(data: bytes, at: int) -> _Subnet | None:
    """A client subnet option of right form that names a client (RFC 7871 6)."""
    bits = 32 if data[at + 5] == 1 else 128
    length = data[at + 6]
    octets = length + 7 >> 3
    if data[at + 3] != 4 + octets or data[at + 4] or data[at + 7] or not 0 < length <= bits:
        return None
    if bits == 128 and data[at + 5] != 2:
        return None
    end = at + 8 + octets
    address = int.from_bytes(data[at + 8 : end], "big") << bits - 8 * octets
    if address & (1 << bits - length) - 1:
        return None
    return _Subnet(4 if bits == 32 else 6, address, length, end)


class Remembered:
    """Finished replies of one snapshot, and where its clients stand."""

    def __init__(self) -> None:
        self._slots: dict[bytes, _Slot] = {}
        self._clients: dict[int, tuple[Policy, int, int]] = {}
        self._ranges: RangeTable | None = None
        self._stored = 0

    def renew(self, ranges: RangeTable) -> None:
        """Forget what a swap made doubtful; replies of unchanged services live in their views."""
        self._slots = {}
        if ranges is not self._ranges:
            self._ranges = ranges
            self._clients = {}

    def plain(self, data: bytes, version: int, address: int, ecs: bool) -> bytes | None:
        """The reply to a packet from a source, if remembered; `ecs`: it may name another client."""
        shape = _SHAPES.get(data[2:12])
        if shape is None:
            return None
        end = data.find(b"\0", 12) + 5
        slot = self._slots.get(data[12 : end - 4].lower() + data[end - 4 : end])
        if slot is None:
            return None
        if shape >= 2:
            return self._with_opt(data, end, slot, (shape, version, address, ecs))
        found = self._find(slot, version, address, 32 if version == 4 else 128)
        if found is None or len(data) != end or len(found[0].tail) + end > PLAIN_UDP:
            return None
        return data[:2] + found[0].heads[shape] + data[12:end] + found[0].tail

    def _with_opt(
        self, data: bytes, end: int, slot: _Slot, asked: tuple[int, int, int, bool]
    ) -> bytes | None:
        shape, version, address, trusted = asked
        opt = _read_opt(data, end)
        if opt is None:
            return None
        length = 32 if version == 4 else 128
        option = subnet = None
        if opt.ecs_at:
            subnet = _read_subnet(data, opt.ecs_at)
            if subnet is None:
                return None
            if trusted:
                version, address, length, _ = subnet
        found = self._find(slot, version, address, length)
        if found is None:
            return None
        reply, scope = found
        option = b""
        if subnet is not None:
            at = opt.ecs_at
            mark = bytes((scope if trusted else 0,))
            option = data[at : at + 7] + mark + data[at + 8 : subnet.end]
        size = bytes((0, len(option)))
        parts = (data[:2], reply.heads[shape], data[12:end], reply.tail, _OPT_REPLY, opt.flags)
        made = b"".join(parts) + size + option
        return made if len(made) <= opt.limit else None

    def _find(
        self, slot: _Slot, version: int, address: int, length: int
    ) -> tuple[Reply, int] | None:
        sticky = slot.sticky4 if version == 4 else slot.sticky6
        kept = length if length < sticky else sticky
        mark = (address << 1 | (version == 6)) << 8 | kept
        located = self._clients.get(mark) or self._locate(mark, version, address, kept)
        key = slot.policy_keys.get(located[0])
        if key is None:
            return None
        reply = slot.replies.get(key << 10 | located[1])
        if reply is None:
            return None
        if reply.scope.by_key or self._ranges is None:
            return reply, located[2]
        by_range = reply.scope.by_range
        return reply, self._ranges.family(version).scope(address, 0) if by_range else 0

    def _locate(self, mark: int, version: int, address: int, kept: int) -> tuple[Policy, int, int]:
        assert self._ranges is not None, "slots exist only after a swap"
        table = self._ranges.family(version)
        bits = 32 if version == 4 else 128
        bucket = client_bucket(address >> bits - kept, kept)
        located = (table.policy(address), bucket, table.scope(address, kept))
        if len(self._clients) >= _MAX_CLIENTS:
            self._clients.clear()
        self._clients[mark] = located
        return located

    def keep(
        self, slot_key: bytes, view: ServiceView, key: int, reply: Reply, lasting: bool
    ) -> None:
        """Remember a reply under its policy key and bucket; not `lasting`: until the next swap."""
        self._stored += 1
        if self._stored > _MAX_REPLIES or len(self._slots) > _MAX_SLOTS:
            self._stored = 0
            self._slots.clear()
            view.replies.clear()
        slot = self._slots.get(slot_key)
        if slot is None:
            replies = view.replies.setdefault(slot_key, {}) if lasting else {}
            sticky = view.service.sticky
            slot = _Slot(replies, view.policy_keys, sticky.v4, sticky.v6)
            self._slots[slot_key] = slot
        slot.replies[key] = reply
