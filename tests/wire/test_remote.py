"""PowerDNS's JSON lines: what is read, what is refused, how rows look."""

import json

import dns.rdata
import dns.rdataclass
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.core.errors import Malformed
from meshd.core.names import to_wire
from meshd.core.resolve import Client, resolve
from meshd.core.rrsets import RRset, Type, rrsets_of
from meshd.wire import remote
from meshd.wire.dns import encode_rdata
from tests import samples


def test_lookup_is_read() -> None:
    line = (
        b'{"method":"lookup","parameters":{"qtype":"ANY","qname":"WeB.Mesh.test.","zone-id":1,'
        b'"local":"127.0.0.1","remote":"127.0.1.1","real-remote":"10.2.3.0/24"}}'
    )
    request = remote.parse_request(line)
    lookup = remote.parse_lookup(request.parameters)
    assert lookup.name == to_wire("web.mesh.test.")
    assert (lookup.qname, lookup.qtype) == ("WeB.Mesh.test.", "ANY")
    assert lookup.remote == Client(4, 0x7F000101, 32)
    assert lookup.real_remote == Client(4, 0x0A020300, 24)


@pytest.mark.parametrize(
    ("remote_text", "real", "expected"),
    [
        ("0.0.0.0", "0.0.0.0/0", None),
        ("127.0.0.1", "0.0.0.0/0", None),
        ("127.0.0.1", "::/0", None),
        ("127.0.0.1", "2001:db8::/48", Client(6, 0x20010DB8 << 96, 48)),
        ("127.0.0.1", "::ffff:10.1.0.0/112", Client(4, 0x0A010000, 16)),
        ("127.0.0.1", "10.1.2.3/16", Client(4, 0x0A010000, 16)),
    ],
)
def test_clients(remote_text: str, real: str, expected: Client | None) -> None:
    found = remote.parse_lookup(
        {"qname": "a.", "qtype": "A", "remote": remote_text, "real-remote": real}
    )
    assert found.real_remote == expected


@given(st.binary(max_size=100))
def test_any_line_is_a_request_or_malformed(line: bytes) -> None:
    try:
        request = remote.parse_request(line)
        remote.parse_lookup(request.parameters)
    except Malformed:
        return


@given(st.dictionaries(st.sampled_from(["qname", "qtype", "remote", "real-remote"]), st.text()))
def test_any_parameters_are_a_lookup_or_malformed(parameters: dict[str, str]) -> None:
    try:
        found = remote.parse_lookup(parameters)
    except Malformed:
        return
    assert found.name.endswith(b"\0")


def test_escaped_names() -> None:
    assert remote.wire_name("a\\.b.c.") == b"\x03a.b\x01c\0"
    assert remote.wire_name("a\\000b.c.") == b"\x03a\0b\x01c\0"
    assert remote.wire_name(".") == b"\0"
    for wrong in ("a..b.", "a" * 64 + ".", "a." * 127 + "b"):
        with pytest.raises(Malformed):
            remote.wire_name(wrong)


def test_rows_say_the_same_as_the_dns_message() -> None:
    """The content of each row, read by dnspython, gives the bytes that the listener would send."""
    snapshot = samples.snapshot()
    for text in ("api.mesh.internal.", "_http._tcp.api.mesh.internal.", "mesh.internal."):
        name = to_wire(text)
        answer = resolve(snapshot, name, Client.parse("10.1.7.9"))
        rrsets = rrsets_of(snapshot, answer, name)
        assert answer.place is not None
        rows = remote.row_templates(rrsets, answer.place.zone)
        wanted = [(r.type.name, r.ttl, encode_rdata(r.type, d)) for r in rrsets for d in r.rdata]
        assert len(rows) == len(wanted) > 0
        for (kind, row), (name_of, ttl, data) in zip(rows, wanted, strict=True):
            made = json.loads(remote.fill(row, text, 24))
            assert (made["qtype"], made["ttl"], made["scopeMask"]) == (name_of, ttl, 24)
            assert kind == name_of
            read = dns.rdata.from_text(dns.rdataclass.IN, name_of, made["content"])
            assert read.to_wire() == data


def test_any_content_is_json() -> None:
    zone = samples.topology().zones["mesh.internal."]
    text = b'95 %s \\ "x" \x01\x02'
    ((_, row),) = remote.row_templates([RRset(Type.TXT, 5, ((text,),))], zone)
    made = json.loads(remote.fill(row, 'a"b.', 1))
    assert made["content"] == '"95 %s \\\\ \\"x\\" \x01\x02"'
    assert made["qname"] == 'a"b.'


def test_failures_have_no_result() -> None:
    made = json.loads(remote.failure("why"))
    assert "result" not in made
    assert remote.failure("why").count(b"\n") == 1
