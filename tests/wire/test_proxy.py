"""PROXY headers: whom they name, and that damaged ones say nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.core.errors import Malformed
from meshd.core.resolve import Client
from meshd.wire.proxy import FIXED_SIZE, header_size, parse_proxy
from tests import proxy


@pytest.mark.parametrize(
    ("address", "client"),
    [
        ("10.1.2.3", Client(4, 0x0A010203, 32)),
        ("2001:db8::1", Client(6, 0x20010DB8 << 96 | 1, 128)),
        ("::ffff:10.1.2.3", Client(4, 0x0A010203, 32)),
    ],
)
def test_the_client_is_the_source(address: str, client: Client) -> None:
    for tcp in (False, True):
        for more in (b"", b"\xe0\0\3pop"):
            data = proxy.header(address, tcp=tcp, more=more)
            assert parse_proxy(data + b"message") == (client, len(data))
            assert header_size(data[:FIXED_SIZE]) == len(data)


def test_a_proxy_that_asks_for_itself() -> None:
    assert parse_proxy(proxy.local() + b"message") == (None, FIXED_SIZE)
    unix = proxy.SIGNATURE + b"\x21\x31\0\2ab"
    assert parse_proxy(unix) == (None, len(unix))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        proxy.SIGNATURE,
        proxy.header("10.1.2.3")[:-1],
        proxy.SIGNATURE + b"\x11\x12\0\x0c" + bytes(12),
        proxy.SIGNATURE + b"\x21\x11\0\x0b" + bytes(11),
        proxy.SIGNATURE + b"\x21\x11\xff\xff" + bytes(65535),
        b"PROXY TCP4 10.1.2.3 10.0.0.1 1 2\r\n",
    ],
)
def test_damaged_headers(data: bytes) -> None:
    with pytest.raises(Malformed):
        parse_proxy(data)


@given(st.binary(max_size=80))
def test_anything_is_a_header_or_malformed(data: bytes) -> None:
    for tried in (data, proxy.SIGNATURE + data):
        try:
            client, size = parse_proxy(tried)
        except Malformed:
            continue
        assert FIXED_SIZE <= size <= len(tried)
        assert client is None or client.length in (32, 128)
