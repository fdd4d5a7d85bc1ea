"""The fast path: finished replies looked up by name, type, Range policy and bucket.

It takes only the common shape of packet (one question, at most an OPT) and only replies made
before; for all else it returns None and the full way is gone. Nothing here awaits or locks.
"""

import struct
from dataclasses import dataclass
from typing import NamedTuple

from meshd.core.errors import Malformed
from meshd.core.hashing import client_bucket
from meshd.core.names import Directory
from meshd.core.ranges import Policy, RangeTable
from meshd.core.snapshot import ServiceView, Snapshot
from meshd.wire.dns import MAX_UDP, PLAIN_UDP, UDP_ROOM, Body, parse_ecs

# Bounds of what is remembered; when one is passed that memory starts anew.
_MAX_REPLIES = 400_000
_MAX_CLIENTS = 400_000
_MAX_SLOTS = 200_000

# OPT records of replies up to their data, without and with DO.
_OPT_PLAIN = b"\0\0\x29" + MAX_UDP.to_bytes(2, "big") + b"\0\0\0\0"
_OPT_DO = _OPT_PLAIN[:-2] + b"\x80\0"


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


class Source(NamedTuple):
    """Whom a packet is from: its address (with bit 128 set for IPv6), and what is believed of it.

    `trusted`: its client subnets count; `is_proxy`: it may speak the PROXY protocol.
    """

    key: int
    trusted: bool
    is_proxy: bool = False


# Where a client stands: policy, bucket, scope, and for ECS the end of an OPT record that says so.
_Located = tuple[Policy, int, int, bytes]


@dataclass(slots=True)
class _Slot:
    """What the fast path needs of one (name, type).

    `clients` is shared by all services that cut client addresses alike; `only` is the reply for
    every client, where there is but one.
    """

    replies: dict[int, Reply]
    policy_keys: dict[Policy, int]
    clients: dict[bytes | int, _Located]
    sticky: tuple[int, int]
    only: Reply | None = None

    def reply(self, located: _Located) -> Reply | None:
        """The reply for a client, if it was made before."""
        if self.only is not None and located is not _NOWHERE:
            return self.only
        return self.replies.get(self.policy_keys.get(located[0], -1) << 10 | located[1])


def _shapes() -> dict[bytes, int]:
    """Headers taken, without the ID -> 2 if an OPT follows, +1 if RD is set; AD may be set."""
    return {
        bytes([rd, ad, 0, 1, 0, 0, 0, 0, 0, opt]): 2 * opt + rd
        for rd in (0, 1)
        for ad in (0, 0x20)
        for opt in (0, 1)
    }


_SHAPES = _shapes()
_OPT = struct.Struct("!BHHIH")
_OPTION = struct.Struct("!HH")
# What follows the flags of an OPT record without options.
_NO_OPTIONS = b"\0\0"


def _find_subnet(data: bytes, at: int) -> int:
    """Where the client subnet among the options stands; 0 without one, -1 if they are odd."""
    found = 0
    end = len(data)
    while at + 4 <= end:
        code, size = _OPTION.unpack_from(data, at)
        if code == 8:
            if found:
                return -1
            found = at
        at += 4 + size
    return found if at == end else -1


class Remembered:
    """Finished replies of one snapshot, and where its clients stand."""

    def __init__(self) -> None:
        self._slots: dict[bytes, _Slot] = {}
        # (parent, length of the name) -> the reply for names below it that are not there.
        self._missing: dict[tuple[bytes, int], _Slot] = {}
        self._directory: Directory | None = None
        self._clients: dict[tuple[int, int], dict[bytes | int, _Located]] = {}
        self._ranges: RangeTable | None = None
        self._stored = 0

    def renew(self, snapshot: Snapshot) -> None:
        """Forget what a swap made doubtful; replies of unchanged services live in their views."""
        self._slots = {}
        self._missing = {}
        self._directory = snapshot.directory
        if snapshot.topology.ranges is not self._ranges:
            self._ranges = snapshot.topology.ranges
            self._clients = {}

    def find(self, data: bytes, source: Source) -> bytes | None:
        """The reply to a packet of a source, if remembered."""
        shape = _SHAPES.get(data[2:12])
        if shape is None:
            return None
        end = data.find(b"\0", 12) + 5
        name = data[12 : end - 4].lower()
        slot = self._slots.get(name + data[end - 4 : end]) or self._nothing(name, data, end)
        if slot is None:
            return None
        if shape >= 2:
            return self._with_opt(data, end, slot, shape, source)
        located = slot.clients.get(source.key) or self._locate(slot, source.key)
        reply = slot.reply(located)
        if reply is None or len(data) != end or len(reply.tail) + end > PLAIN_UDP:
            return None
        return data[:2] + reply.heads[shape] + data[12:end] + reply.tail

    def _with_opt(
        self, data: bytes, end: int, slot: _Slot, shape: int, source: Source
    ) -> bytes | None:
        root, kind, size, ttl, length = _OPT.unpack_from(data, end)
        # Extended rcode and version 0, no flag but DO.
        if root or kind != 41 or ttl & 0xFFFF7FFF or length != len(data) - end - 11:
            return None
        client: bytes | int = source.key
        if length:
            at = _find_subnet(data, end + 11)
            if at:
                if at < 0 or not source.trusted:
                    return None
                client = data[at : at + 4 + data[at + 3]]
        located = slot.clients.get(client) or self._locate(slot, client)
        reply = slot.reply(located)
        if reply is None:
            return None
        tail = located[3]
        if not reply.scope.by_key and isinstance(client, bytes):
            tail = self._rescoped(reply, client)
        head = data[:2] + reply.heads[shape] + data[12:end] + reply.tail
        made = head + (_OPT_DO if ttl else _OPT_PLAIN) + tail
        limit = MAX_UDP if size >= MAX_UDP else size
        return made if len(made) <= limit or len(made) <= PLAIN_UDP else None

    def _nothing(self, name: bytes, data: bytes, end: int) -> _Slot | None:
        """The slot of a name that is not there, if another one beside it was asked before."""
        slot = self._missing.get((name[1 + name[0] :], len(name)))
        if slot is None or self._directory is None or data[end - 2 : end] != b"\0\1":
            return None
        return None if name in self._directory.bases or name in self._directory.own else slot

    def _locate(self, slot: _Slot, client: bytes | int) -> _Located:
        """Find and remember where a client stands; what names no client stands nowhere."""
        found = _client_of(client)
        if found is None or self._ranges is None:
            return _NOWHERE
        version, address, length = found
        kept = min(length, slot.sticky[version == 6])
        table = self._ranges.family(version)
        bits = 32 if version == 4 else 128
        bucket = client_bucket(address >> bits - kept, kept)
        scope = table.scope(address, kept)
        end = _NO_OPTIONS if isinstance(client, int) else _echoed(client, scope)
        if len(slot.clients) >= _MAX_CLIENTS:
            slot.clients.clear()
        located = slot.clients[client] = (table.policy(address), bucket, scope, end)
        return located

    def _rescoped(self, reply: Reply, client: bytes) -> bytes:
        """The end of the OPT record for an answer whose scope is not that of the client's key."""
        if not reply.scope.by_range:
            return _echoed(client, 0)
        found = _client_of(client)
        assert found and self._ranges, "it was located"
        version, address, _ = found
        return _echoed(client, self._ranges.family(version).scope(address, 0))

    def keep_missing(self, name: bytes, body: Body) -> None:
        """Remember that a name is not there, for all names of its length beside it.

        Only below what is the zone's own and has no wildcard: there, a name is in the directory
        or is not at all.
        """
        parent = name[1 + name[0] :]
        directory = self._directory
        if directory is None or parent not in directory.own or parent in directory.bases:
            return
        if b"\x01*" + parent in directory.bases or len(self._missing) >= _MAX_SLOTS:
            return
        clients = self._clients.setdefault((32, 64), {})
        only = Reply.of(body, Scope(by_key=False, by_range=False))
        self._missing[parent, len(name)] = _Slot({}, {}, clients, (32, 64), only)

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
            sticky = (view.service.sticky.v4, view.service.sticky.v6)
            clients = self._clients.setdefault(sticky, {})
            slot = self._slots[slot_key] = _Slot(replies, view.policy_keys, clients, sticky)
        slot.replies[key] = reply


# A policy that no service has a key for, so that nothing is found under it.
_NOWHERE: _Located = (Policy(None, {}), 0, 0, b"")


def client_of_source(key: int) -> tuple[int, int, int]:
    """Version, address and length of the client that a source is by itself."""
    return (6, key ^ 1 << 128, 128) if key >> 128 else (4, key, 32)


def _client_of(client: bytes | int) -> tuple[int, int, int] | None:
    """Version, address and length of a client: a source, or an ECS option of right form."""
    if isinstance(client, int):
        return client_of_source(client)
    try:
        named = parse_ecs(client[4:]).client
    except (Malformed, struct.error):
        return None
    return None if named is None else (named.version, named.address, named.length)


def _echoed(option: bytes, scope: int) -> bytes:
    """The length of an OPT record's data, and the option with its scope (RFC 7871 7.2.1)."""
    return len(option).to_bytes(2, "big") + option[:7] + bytes((scope,)) + option[8:]
