"""The PROXY protocol, version 2: for whom a proxy asks (proxy-protocol.txt 2.2, haproxy.org)."""

import struct
from typing import NamedTuple

from meshd.core.errors import Malformed
from meshd.core.resolve import Client

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
# Signature, version and command, family and transport, length of what follows.
FIXED_SIZE = 16
# Addresses of IPv6 and room for TLVs; nobody sends more in front of a DNS message.
MAX_SIZE = 1024

_FIXED = struct.Struct("!12sBBH")
_LOCAL, _PROXY = 0x20, 0x21
# Family in the upper half of a byte -> IP version, bytes of an address.
_FAMILIES = {1: (4, 4), 2: (6, 16)}


class Proxied(NamedTuple):
    """The client that a header names (None: the proxy asks for itself), and the header's size."""

    client: Client | None
    size: int


def header_size(fixed: bytes) -> int:
    """The size of the header that begins with these `FIXED_SIZE` bytes; Malformed if none does."""
    if len(fixed) < FIXED_SIZE or not fixed.startswith(SIGNATURE):
        raise Malformed("no PROXY header")
    size = FIXED_SIZE + int.from_bytes(fixed[14:16], "big")
    if size > MAX_SIZE:
        raise Malformed("PROXY header too long")
    return size


def parse_proxy(data: bytes) -> Proxied:
    """Read the header in front of a message or a connection; Malformed if it is none."""
    size = header_size(data[:FIXED_SIZE])
    _, command, family, length = _FIXED.unpack_from(data)
    if len(data) < size or command not in (_LOCAL, _PROXY):
        raise Malformed("PROXY header cut short, or of another version")
    if command == _LOCAL or family >> 4 not in _FAMILIES:
        return Proxied(None, size)
    version, width = _FAMILIES[family >> 4]
    # Source and destination, then a port of each.
    if length < 2 * width + 4:
        raise Malformed("PROXY header without its addresses")
    address = int.from_bytes(data[FIXED_SIZE : FIXED_SIZE + width], "big")
    if version == 6 and address >> 32 == 0xFFFF:
        # An IPv4-mapped address counts as IPv4, as everywhere else.
        return Proxied(Client(4, address & 0xFFFFFFFF, 32), size)
    return Proxied(Client(version, address, 8 * width), size)
