"""The table as another program reads it: by its description, not by the writer's code."""

import mmap
import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import dns.message
import pytest

from meshd.answerer import table as table_module
from meshd.answerer.replies import Replier
from meshd.answerer.state import State
from meshd.answerer.table import SIZE, Table
from meshd.core.model import NameServer, Override, Pop, Prefix, Range, Zone
from meshd.core.resolve import Client
from meshd.core.signals import Signal
from meshd.core.snapshot import Snapshot
from meshd.core.topology import Change
from meshd.wire.dns import Body, Rcode
from tests import samples
from tests.proxy import header
from tests.samples import LOCAL

PROXY = 0x7F000001
NAME = "api.mesh.internal"


class Reader:
    """Reads a table file as integrations/dnsdist/meshd.lua does."""

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            self.data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def header(self) -> tuple[bytes, int, int, int, int, int]:
        found: tuple[bytes, int, int, int, int, int] = struct.unpack_from("<8sIIQHH", self.data)
        return found

    def entry(self, key: bytes) -> bytes | None:
        """The entry under a key, if it is whole and still counts."""
        data = self.data
        _, slots, groups, *_ = self.header()
        slots_at = 64 + 4 * groups
        for step in range(8):
            slot = zlib.crc32(key) + step & slots - 1
            at = 8 * struct.unpack_from("<I", data, slots_at + 4 * slot)[0]
            if not at:
                return None
            crc, size, key_size, group, number = struct.unpack_from("<IHHII", data, at)
            held = data[at : at + size]
            if key_size != len(key) or held[28 : 28 + key_size] != key:
                continue
            current = struct.unpack_from("<I", data, 64 + 4 * group)[0]
            return held if number == current and crc == zlib.crc32(held[4:]) else None
        return None

    def reply(self, query: bytes, client: str) -> bytes | None:
        """What a front server answers to a plain query without EDNS; None: it must ask."""
        end = query.index(0, 12) + 5
        address = ip_address(client)
        question = query[12 : end - 4].lower() + query[end - 4 : end]
        step = 1 if address.version == 4 else 2
        *_, used4, used6 = self.header()
        used = used4 if address.version == 4 else used6
        for n in range(len(address.packed) // step, -1, -1):
            if used >> n & 1:
                key = question + bytes((address.version, n)) + address.packed[: n * step]
                found = self.entry(key)
                if found is not None:
                    rd = query[2] & 1
                    head = query[:2] + bytes((found[16] | rd,)) + found[17:26]
                    return bytes(head + query[12:end] + found[28 + len(key) :])
        return None


class Kept:
    """A table, what fills it, and a reader of it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "answers"
        self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT)
        os.ftruncate(self._fd, SIZE)
        self.state = State()
        self.table = Table(self._fd, self.state)
        self.replier = Replier(self.state, LOCAL, LOCAL, self.table)
        self.reader = Reader(self.path)

    @property
    def snapshot(self) -> Snapshot:
        assert self.state.snapshot is not None
        return self.state.snapshot

    def advance(self, *changes: Change, revision: int = 8) -> None:
        self.state.swap(self.snapshot.advance(changes, revision))

    def signal(self, name: str, load: float) -> None:
        self.state.swap(self.snapshot.advance(signals={name: Signal(load)}))

    def ask(self, client: str, name: str = NAME, kind: str = "A") -> bytes:
        """What the listener answers to a proxy that asks for a client."""
        packet = header(client) + query(name, kind)
        reply = self.replier.reply_udp(packet, self.replier.source(4, PROXY))
        assert reply is not None
        return reply

    def read(self, client: str, name: str = NAME, kind: str = "A") -> bytes | None:
        return self.reader.reply(query(name, kind), client)

    def close(self) -> None:
        self.reader.data.close()
        self.table.close()
        os.close(self._fd)


def query(name: str, kind: str) -> bytes:
    made = dns.message.make_query(name, kind)
    made.id = 4711
    return made.to_wire()


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Kept]:
    made = Kept(tmp_path)
    made.state.swap(samples.snapshot())
    yield made
    made.close()


@pytest.mark.parametrize("client", ["10.1.0.9", "10.2.0.9", "192.0.2.77", "2001:db8::9"])
@pytest.mark.parametrize("kind", ["A", "AAAA", "TXT", "HTTPS", "MX"])
def test_what_is_read_is_what_the_listener_says(kept: Kept, client: str, kind: str) -> None:
    assert kept.read(client, kind=kind) is None
    said = kept.ask(client, kind=kind)
    assert kept.read(client, kind=kind) == said
    assert kept.read(client, "aPI.mesh.INTERNAL", kind) == kept.ask(
        client, "aPI.mesh.INTERNAL", kind
    )


def test_clients_do_not_get_each_others(kept: Kept) -> None:
    """All of a scope, and nobody outside."""
    kept.ask("10.1.0.9")
    assert kept.read("10.1.0.9") is not None
    assert [kept.read(client) for client in ("10.1.0.8", "10.2.0.9", "2001:db8::9")] == [None] * 3
    for client in ("10.2.0.9", "10.1.0.8"):
        assert kept.ask(client) == kept.read(client)
    found = [kept.read(client) or b"" for client in ("10.1.0.9", "10.2.0.9")]
    assert found[0] == kept.ask("10.1.0.9")
    assert found[0] != found[1]


@pytest.mark.parametrize(
    ("scope", "inside", "outside"),
    [
        (16, "10.1.200.9", "10.2.0.1"),
        # Longer keys than the scope, on the octets' border: fewer clients, never others.
        (17, "10.1.0.200", "10.1.1.1"),
        (32, "10.1.0.1", "10.1.0.2"),
        (0, "203.0.113.9", "2001:db8::1"),
    ],
)
def test_scopes_of_ipv4(kept: Kept, scope: int, inside: str, outside: str) -> None:
    put(kept, "10.1.0.1", scope)
    assert kept.reader.reply(query("x", "A"), inside) is not None
    assert kept.reader.reply(query("x", "A"), outside) is None


@pytest.mark.parametrize(
    ("scope", "inside", "outside"),
    [
        (48, "2001:db8:1:ffff::1", "2001:db8:2::1"),
        (56, "2001:db8:1:0:1::1", "2001:db8:1:1::1"),
        (128, "2001:db8:1::1", "2001:db8:1::2"),
    ],
)
def test_scopes_of_ipv6(kept: Kept, scope: int, inside: str, outside: str) -> None:
    put(kept, "2001:db8:1::1", scope)
    assert kept.reader.reply(query("x", "A"), inside) is not None
    assert kept.reader.reply(query("x", "A"), outside) is None


def put(kept: Kept, client: str, scope: int, data: bytes = b"tail", service: str = "api") -> None:
    """An entry for the question `x A`."""
    question = b"\1x\0" + b"\0\1\0\1"
    address = Client.parse(client)
    assert address is not None
    kept.table.put(question, address, scope, service, Body(Rcode.NOERROR, 1, 0, data))


def test_the_longest_prefix_is_found(kept: Kept) -> None:
    put(kept, "10.1.0.1", 16, b"wide")
    put(kept, "10.1.7.1", 24, b"narrow")
    reply = query("x", "A")
    assert (kept.reader.reply(reply, "10.1.7.9") or b"").endswith(b"narrow")
    assert (kept.reader.reply(reply, "10.1.8.9") or b"").endswith(b"wide")
    assert kept.reader.header()[4:] == (1 << 2 | 1 << 3, 0)


def test_a_change_of_a_service_ends_its_answers_only(kept: Kept) -> None:
    kept.ask("10.1.0.9")
    kept.ask("10.1.0.9", "old.deep.mesh.internal")
    kept.signal("api-eu-1", 0.9)
    assert kept.read("10.1.0.9") is None
    assert kept.read("10.1.0.9", "old.deep.mesh.internal") is not None
    assert kept.ask("10.1.0.9") == kept.read("10.1.0.9")


@pytest.mark.parametrize(
    "change",
    [
        Change.put(Range(Prefix.parse("10.9.0.0/16"), "ap")),
        Change.put(Pop("eu", (53.3, -6.3), ("ap",))),
        Change.put(Zone("other.internal.", (NameServer("ns.example."),), "h@example")),
    ],
    ids=["range", "pop", "zone"],
)
def test_other_changes_end_all(kept: Kept, change: Change) -> None:
    for name in (NAME, "old.deep.mesh.internal"):
        kept.ask("10.1.0.9", name)
    kept.advance(change)
    assert kept.read("10.1.0.9") is None
    assert kept.read("10.1.0.9", "old.deep.mesh.internal") is None


def test_versions_in_motion(kept: Kept) -> None:
    """Each client reads its own; a step ends what was kept of the service, a note does not."""
    clients = [*(f"10.2.7.{n}" for n in range(1, 40)), "10.1.8.1", "192.0.2.1", "2001:db8::7"]
    kept.advance(Change.put(samples.ROLLOUT), Change.put(samples.EXPERIMENT))
    said = {client: kept.ask(client) for client in clients}
    addresses = {client: dns.message.from_wire(reply).answer for client, reply in said.items()}
    # 1.3.0 is on those above 10.
    versions = {int(str(addresses[c][0][0]).split(".")[3]) > 10 for c in clients[:39]}
    assert versions == {False, True}
    assert {client: kept.read(client) for client in clients} == said
    kept.ask("10.2.7.1", "old.deep.mesh.internal")
    kept.advance(Change.put(replace(samples.ROLLOUT, held_s=5.0)), revision=9)
    assert {client: kept.read(client) for client in clients} == said
    kept.advance(Change.put(replace(samples.ROLLOUT, step=1)), revision=10)
    assert {kept.read(client) for client in clients} == {None}
    assert kept.read("10.2.7.1", "old.deep.mesh.internal") is not None
    assert kept.ask("10.2.7.1") == kept.read("10.2.7.1")


def test_a_revision_ends_what_has_its_serial(kept: Kept) -> None:
    """That there is no such type carries the SOA."""
    kept.ask("10.1.0.9")
    kept.ask("10.1.0.9", kind="MX")
    kept.advance(revision=10)
    assert kept.read("10.1.0.9") is not None
    assert kept.read("10.1.0.9", kind="MX") is None


def test_a_service_that_comes_to_a_wildcards_name(kept: Kept) -> None:
    assert kept.ask("10.1.0.9", "x.apps.mesh.internal")
    assert kept.read("10.1.0.9", "x.apps.mesh.internal") is None


def test_what_is_not_kept(kept: Kept) -> None:
    """Names under wildcards, names that are not there, other people's zones, client subnets."""
    for name in ("none.mesh.internal", "elsewhere.example", "x.apps.mesh.internal"):
        kept.ask("10.1.0.9", name)
        assert kept.read("10.1.0.9", name) is None
    with_subnet = dns.message.make_query(NAME, "A", use_edns=0)
    with_subnet.use_edns(0, options=[dns.edns.ECSOption("10.2.0.0", 24)])
    packet = header("10.1.0.9") + with_subnet.to_wire()
    kept.replier.reply_udp(packet, kept.replier.source(4, PROXY))
    assert kept.read("10.1.0.9") is None


def test_asked_without_a_proxy_is_not_kept(kept: Kept) -> None:
    kept.replier.reply_udp(query(NAME, "A"), kept.replier.source(4, 0x0A010009))
    assert kept.read("10.1.0.9") is None


def test_kept_once(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that reads no table is answered the quick way from the second time on."""
    puts: list[bytes] = []
    real = kept.table.put

    def counted(*arguments: object) -> None:
        puts.append(b"")
        real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(kept.table, "put", counted)
    replies = {kept.ask("10.1.0.9") for _ in range(5)}
    assert (len(puts), len(replies)) == (1, 1)
    kept.signal("api-eu-1", 0.9)
    kept.ask("10.1.0.9")
    assert len(puts) == 2


def test_no_snapshot_no_answers(kept: Kept) -> None:
    kept.ask("10.1.0.9")
    kept.state.snapshot = None
    kept.table._renew()
    assert kept.read("10.1.0.9") is None


def test_types_are_not_letters(kept: Kept) -> None:
    """HTTPS is 65, as `A` is; 97 is `a`."""
    for kind in ("HTTPS", "TYPE97"):
        kept.ask("10.1.0.9", kind=kind)
        assert kept.read("10.1.0.9", kind=kind) is not None


def test_too_long_is_not_kept(kept: Kept) -> None:
    put(kept, "10.1.0.1", 24, bytes(2048))
    assert kept.reader.reply(query("x", "A"), "10.1.0.1") is None
    put(kept, "10.1.0.1", 24, bytes(1900))
    assert kept.reader.reply(query("x", "A"), "10.1.0.1") is not None


def test_written_again_shorter_and_longer(kept: Kept) -> None:
    for data in (b"first", b"2", bytes(500), b"last"):
        put(kept, "10.1.0.1", 24, data)
        found = kept.reader.reply(query("x", "A"), "10.1.0.1")
        assert found is not None
        assert found[12 + 7 :].endswith(data)
    put(kept, "10.2.0.1", 24, b"neighbour")
    put(kept, "10.1.0.1", 24, bytes(900))
    found = kept.reader.reply(query("x", "A"), "10.2.0.1")
    assert found is not None
    assert found.endswith(b"neighbour")
    slots_at = 64 + 4 * kept.reader.header()[2]
    used = kept.reader.data[slots_at : slots_at + 4 * kept.reader.header()[1]]
    assert sum(word != 0 for (word,) in struct.iter_unpack("<I", used)) == 2


def test_a_torn_entry_is_a_miss(kept: Kept) -> None:
    put(kept, "10.1.0.1", 24, b"whole")
    at = kept.reader.data.find(b"whole")
    with kept.path.open("r+b") as file:
        file.seek(at)
        file.write(b"W")
    assert kept.reader.reply(query("x", "A"), "10.1.0.1") is None


def test_full_slots_give_way(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nine keys for eight places: the newest is there, another is not, none is wrong."""
    monkeypatch.setattr(zlib, "crc32", _lame(zlib.crc32))
    clients = [f"10.1.{n}.1" for n in range(9)]
    for number, client in enumerate(clients):
        put(kept, client, 24, b"tail-%d" % number)
    found = [kept.reader.reply(query("x", "A"), client) for client in clients]
    assert found[8] is not None
    assert sum(each is None for each in found) == 1
    for number, each in enumerate(found):
        assert each is None or each.endswith(b"tail-%d" % number)
    put(kept, clients[0], 24, b"again")
    assert (kept.reader.reply(query("x", "A"), clients[0]) or b"").endswith(b"again")


def _lame(real: object) -> object:
    """A CRC that takes all keys for one (they are short) and other bytes as they are."""

    def crc32(data: bytes, start: int = 0) -> int:
        return 5 if len(data) < 16 else real(data, start)  # type: ignore[operator]

    return crc32


def test_a_full_file_begins_anew(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    put(kept, "10.1.0.1", 24, bytes(100))
    monkeypatch.setattr(table_module, "SIZE", kept.table._end + 64)
    put(kept, "10.1.1.1", 24, b"newest")
    put(kept, "10.1.2.1", 24, bytes(100))
    assert kept.reader.reply(query("x", "A"), "10.1.0.1") is None
    assert kept.reader.reply(query("x", "A"), "10.1.2.1") is not None


def test_groups_run_out(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service without a group of its own has no entries: nobody could end them."""
    monkeypatch.setattr(table_module, "GROUPS", 2)
    put(kept, "10.1.0.1", 24, b"first", "api")
    put(kept, "10.2.0.1", 24, b"second", "old")
    assert kept.reader.reply(query("x", "A"), "10.1.0.1") is not None
    assert kept.reader.reply(query("x", "A"), "10.2.0.1") is None


def test_the_beat(kept: Kept) -> None:
    kept.table.beat(1234.5678)
    assert kept.reader.header()[:4] == (b"meshdtb1", 1 << 18, 1 << 16, 1_234_567)


def test_an_override_is_a_change_of_its_service(kept: Kept) -> None:
    kept.ask("10.1.0.9")
    record = next(each for each in samples.RECORDS if isinstance(each, Override))
    kept.advance(Change.put(replace(record, instance="api-eu-2")))
    assert kept.read("10.1.0.9") is None
