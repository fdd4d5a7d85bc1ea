"""PROXY headers as proxies write them (proxy-protocol.txt 2.2)."""

import struct
from ipaddress import ip_address

SIGNATURE = bytes.fromhex("0d0a0d0a000d0a515549540a")


def header(source: str, *, tcp: bool = False, more: bytes = b"") -> bytes:
    """A header for a client, port 1234; `more` are TLVs."""
    address = ip_address(source)
    kind = (0x10 if address.version == 4 else 0x20) | (1 if tcp else 2)
    addresses = address.packed + bytes(len(address.packed)) + struct.pack("!HH", 1234, 53) + more
    return SIGNATURE + struct.pack("!BBH", 0x21, kind, len(addresses)) + addresses


def local() -> bytes:
    """A header by which a proxy asks for itself."""
    return SIGNATURE + struct.pack("!BBH", 0x20, 0, 0)
