"""Names: wire and text, and what lies where in zones within zones."""

import dns.name
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.core.model import NameServer, Port, Service, Zone
from meshd.core.names import Directory, labels_of, to_text, to_wire
from meshd.core.snapshot import Snapshot
from tests import samples

labels = st.lists(st.binary(min_size=1, max_size=10), max_size=6)


@given(labels)
def test_text_is_what_dnspython_reads(parts: list[bytes]) -> None:
    wire = b"".join(bytes([len(part)]) + part for part in parts) + b"\0"
    assert labels_of(wire) == parts
    assert dns.name.from_text(to_text(wire)).labels == (*parts, b"")


def test_wire() -> None:
    assert to_wire("api.mesh.internal.") == b"\x03api\x04mesh\x08internal\0"
    assert to_wire(".") == b"\0"
    assert to_text(b"\0") == "."


@given(st.binary(max_size=60))
def test_any_bytes_find_something_or_nothing(data: bytes) -> None:
    parts = [data[at : at + 7] for at in range(0, len(data), 7)]
    wire = b"".join(bytes([len(part)]) + part for part in parts)
    directory = samples.snapshot().directory
    assert directory.find(wire + b"\0") is None
    place = directory.find(wire + to_wire("mesh.internal."))
    assert place is not None


def zone(name: str, *hosts: str) -> Zone:
    from ipaddress import IPv4Address

    servers = tuple(NameServer(host, (IPv4Address("192.0.2.1"),)) for host in hosts)
    return Zone(name, servers or (NameServer("ns.example."),), "h@example.com")


DIRECTORY = Directory.build(
    [zone("mesh.internal.", "ns1.mesh.internal."), zone("deep.mesh.internal."), zone("b.")],
    [
        Service("api", "api.mesh.internal.", (Port("http", 80),)),
        Service("inner", "x.y.deep.mesh.internal.", (Port("http", 80),)),
        Service("star", "*.apps.mesh.internal.", (Port("http", 80),)),
        Service("closer", "a.b.apps.mesh.internal.", (Port("http", 80),)),
        Service("apex", "b.", (Port("http", 80),)),
    ],
)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("mesh.internal.", "mesh.internal. own"),
        ("ns1.mesh.internal.", "mesh.internal. own"),
        ("api.mesh.internal.", "mesh.internal. api"),
        ("x.api.mesh.internal.", "mesh.internal. api x"),
        ("no.mesh.internal.", "mesh.internal. nothing"),
        ("deep.mesh.internal.", "deep.mesh.internal. own"),
        ("y.deep.mesh.internal.", "deep.mesh.internal. own"),
        ("x.y.deep.mesh.internal.", "deep.mesh.internal. inner"),
        ("no.deep.mesh.internal.", "deep.mesh.internal. nothing"),
        ("apps.mesh.internal.", "mesh.internal. own"),
        ("x.apps.mesh.internal.", "mesh.internal. star wild"),
        ("x.y.apps.mesh.internal.", "mesh.internal. star wild"),
        ("_http._tcp.x.apps.mesh.internal.", "mesh.internal. star wild _http _tcp"),
        # RFC 4592 2.2.1: b.apps is there (for a.b.apps), so the wildcard covers nothing below.
        ("b.apps.mesh.internal.", "mesh.internal. own"),
        ("no.b.apps.mesh.internal.", "mesh.internal. nothing"),
        ("a.b.apps.mesh.internal.", "mesh.internal. closer"),
        ("b.", "b. apex"),
        ("x.b.", "b. apex x"),
        ("internal.", "none"),
        ("com.", "none"),
        (".", "none"),
    ],
)
def test_places(name: str, said: str) -> None:
    for _ in range(2):
        place = DIRECTORY.find(to_wire(name))
        if place is None:
            assert said == "none"
            continue
        words = [place.zone.name, place.service or ("own" if place.exists else "nothing")]
        words += ["wild"] * place.wildcard + [label.decode() for label in place.front]
        assert " ".join(words) == said


def test_the_memo_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    from meshd.core import names as module

    monkeypatch.setattr(module, "_MEMO_NAMES", 10)
    directory = Snapshot.build(samples.topology()).directory
    for number in range(100):
        directory.find(to_wire(f"x{number}.instance.api.mesh.internal."))
        directory.find(to_wire(f"x{number}.nowhere.mesh.internal."))
    assert 0 < len(directory._memo) <= 10
