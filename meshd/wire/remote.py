"""PowerDNS's remote backend protocol: JSON lines in, rows out (doc backends/remote).

The traps that shape it: PowerDNS asks for ANY and filters itself; `[]` means NXDOMAIN, kept for
a minute; only a reply without `result` is a failure; rows that depend on the client must carry
a scopeMask above 0, or its caches hand them to everybody.
"""

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from ipaddress import ip_address
from typing import Any, NamedTuple
from zlib import crc32

from meshd.core.errors import Invalid, Malformed
from meshd.core.model import Zone, dns_name
from meshd.core.names import to_text, to_wire
from meshd.core.resolve import Client
from meshd.core.rrsets import Rdata, RRset, Soa, Srv, Svcb, Type

MAX_LINE = 65536


class Request(NamedTuple):
    """One request: its method and parameters."""

    method: str
    parameters: Mapping[str, Any]


class Lookup(NamedTuple):
    """A lookup: the name as written, lower-cased in wire form, its type, who asks for whom."""

    qname: str
    name: bytes
    qtype: str
    remote: Client | None
    real_remote: Client | None


def parse_request(line: bytes) -> Request:
    """Read a line; Malformed if it is no request."""
    try:
        found = json.loads(line)
        method, parameters = found["method"], found.get("parameters") or {}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise Malformed("not a request of the remote backend") from None
    if not isinstance(method, str) or not isinstance(parameters, dict):
        raise Malformed("method is no string, or parameters are no object")
    return Request(method, parameters)


def parse_lookup(parameters: Mapping[str, Any]) -> Lookup:
    """Read the parameters of a lookup; Malformed if they are none."""
    qname, qtype = parameters.get("qname"), parameters.get("qtype")
    if not isinstance(qname, str) or not isinstance(qtype, str):
        raise Malformed("lookup without qname or qtype")
    return Lookup(qname, wire_name(qname), qtype.upper(), *parse_who(parameters))


def parse_who(parameters: Mapping[str, Any]) -> tuple[Client | None, Client | None]:
    """Who asks (`remote`), and for whom (`real-remote`, a client subnet if there is one)."""
    remote = str(parameters.get("remote", "0.0.0.0/0"))
    real = str(parameters.get("real-remote", remote))
    return _client(remote), _client(real)


@lru_cache(maxsize=65536)
def _client(text: str) -> Client | None:
    """A client of the protocol; 0.0.0.0 and /0 mean none."""
    address, _, length = text.partition("/")
    try:
        found = ip_address(address)
        mapped = getattr(found, "ipv4_mapped", None) or found
        kept = int(length) if length else mapped.max_prefixlen
    except ValueError:
        raise Malformed(f"{text!r} is no client") from None
    if found.is_unspecified or kept == 0:
        return None
    bits = mapped.max_prefixlen
    kept = min(kept - 96 if mapped is not found and length else kept, bits)
    if kept <= 0:
        return None
    return Client(mapped.version, int(mapped) >> bits - kept << bits - kept, kept)


def wire_name(qname: str) -> bytes:
    """A name as PowerDNS writes it (any case, \\DDD escapes) in lower-cased wire form."""
    if "\\" not in qname:
        labels = [label.encode("latin-1", "replace") for label in qname.rstrip(".").split(".")]
    else:
        labels = _unescaped(qname)
    if labels == [b""]:
        return b"\0"
    size = sum(1 + len(label) for label in labels) + 1
    if any(not 0 < len(label) < 64 for label in labels) or size > 255:
        raise Malformed(f"{qname!r} is no name")
    return (b"".join(bytes([len(label)]) + label for label in labels) + b"\0").lower()


def _unescaped(qname: str) -> list[bytes]:
    labels = [bytearray()]
    at = 0
    while at < len(qname):
        char = qname[at]
        if char == "\\":
            digits = qname[at + 1 : at + 4]
            is_number = len(digits) == 3 and digits.isdecimal() and int(digits) < 256
            labels[-1] += bytes([int(digits)]) if is_number else qname[at + 1 : at + 2].encode()
            at += 4 if is_number else 2
            continue
        if char == ".":
            labels.append(bytearray())
        else:
            labels[-1] += char.encode("latin-1", "replace")
        at += 1
    return [bytes(label) for label in labels if label] or [b""]


def zone_id(zone: Zone) -> int:
    """The number of a zone, equal on all nodes and after any change."""
    return crc32(zone.name.encode()) & 0x7FFFFFFF


def domain_info(zone: Zone, serial: int) -> dict[str, object]:
    """A zone as getAllDomains and getDomainInfo show it."""
    return {"id": zone_id(zone), "zone": zone.name, "kind": "native", "serial": serial}


# Where a template has the name asked for and the scopeMask; JSON text holds no such characters.
NAME, SCOPE = "\x01", "\x02"


def row_templates(rrsets: Sequence[RRset], zone: Zone) -> list[tuple[str, str]]:
    """(type, JSON row to be filled) for each record."""
    rows = []
    for rrset in rrsets:
        kind = rrset.type.name
        for rdata in rrset.rdata:
            rows.append((kind, _row(kind, present(rrset.type, rdata), rrset.ttl, zone)))
    return rows


def empty_template(zone: Zone, ttl: int) -> tuple[str, str]:
    """A row without type or content: the name exists and has nothing (an empty non-terminal)."""
    return "", _row("", "", ttl, zone)


def _row(kind: str, content: str, ttl: int, zone: Zone) -> str:
    return (
        f'{{"qtype":"{kind}","qname":{NAME},"content":{json.dumps(content)},"ttl":{ttl},'
        f'"domain_id":{zone_id(zone)},"auth":1,"scopeMask":{SCOPE}}}'
    )


def fill(template: str, qname: str, scope: int) -> str:
    """Rows for a name as it was written, under a scopeMask."""
    return template.replace(NAME, json.dumps(qname)).replace(SCOPE, str(scope))


def present(kind: Type, rdata: Rdata) -> str:
    """Record data in presentation form (RFC 1035 5, RFC 9460 2.1)."""
    if isinstance(rdata, Srv):
        return f"{rdata.priority} {rdata.weight} {rdata.port} {to_text(rdata.target)}"
    if isinstance(rdata, Soa):
        numbers = " ".join(map(str, rdata[2:]))
        return f"{to_text(rdata.mname)} {to_text(rdata.rname)} {numbers}"
    if isinstance(rdata, Svcb):
        return _present_svcb(rdata)
    if isinstance(rdata, bytes):
        return str(ip_address(rdata)) if kind in (Type.A, Type.AAAA) else to_text(rdata)
    return " ".join('"' + _quoted(text) + '"' for text in rdata)


def _quoted(text: bytes) -> str:
    return text.decode("latin-1").replace("\\", "\\\\").replace('"', '\\"')


def _present_svcb(rdata: Svcb) -> str:
    parts = [str(rdata.priority), to_text(rdata.target), f"port={rdata.port}"]
    for key, hints in (("ipv4hint", rdata.hints4), ("ipv6hint", rdata.hints6)):
        if hints:
            parts.append(f"{key}={','.join(str(ip_address(hint)) for hint in hints)}")
    return " ".join(parts)


def reply(result: str) -> bytes:
    """The reply line with a result that is JSON already."""
    return b'{"result":' + result.encode() + b"}\n"


def failure(reason: str) -> bytes:
    """The reply that PowerDNS turns into SERVFAIL: no `result`, so never NXDOMAIN."""
    return json.dumps({"log": [f"meshd: {reason}"]}).encode() + b"\n"


def zone_name(parameters: Mapping[str, Any]) -> bytes:
    """The zone that a request is about, in wire form."""
    try:
        return to_wire(dns_name(str(parameters.get("name", ""))))
    except Invalid as error:
        raise Malformed(str(error)) from None
