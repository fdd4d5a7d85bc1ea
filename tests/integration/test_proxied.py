"""Behind a proxy that names the client in a PROXY header, that client is the one answered."""

import socket
from collections.abc import Callable
from pathlib import Path

import dns.message
import dns.query
import pytest

from tests.integration.judge import ASKERS, NAME, expected_of
from tests.integration.ways import Ways, forward
from tests.proxy import header
from tests.servers.fronts import Unbound, unbound_module, unbound_subnetcache
from tests.servers.install import find
from tests.servers.processes import free_port
from tests.servers.queries import Asker, addresses

pytestmark = pytest.mark.integration


def _unbound_port(port: int) -> str:
    return f"    interface: 127.0.0.1@{port}\n    proxy-protocol-port: {port}\n"


MAKERS: dict[str, Callable[[Ways, Path, int], Unbound]] = {
    "unbound module": lambda ways, folder, port: unbound_module(
        folder, ways.meshd.bridge, _unbound_port(port) + forward(ways.elsewhere.port)
    ),
    "unbound subnetcache": lambda ways, folder, port: unbound_subnetcache(
        folder, ways.meshd.dns_port, _unbound_port(port) + forward(ways.elsewhere.port)
    ),
}
# PowerDNS behind dnsdist: one of the ways of the kit.


def asked_for(port: int, asker: Asker, client: str, *, tcp: bool) -> dns.message.Message:
    """The reply to a proxy at 127.0.0.1 that asks for a client."""
    query = asker.query(NAME)
    packet = query.to_wire()
    kind = socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.settimeout(3)
        sock.connect(("127.0.0.1", port))
        if tcp:
            sock.sendall(header(client, tcp=True) + len(packet).to_bytes(2, "big") + packet)
            stream = sock.makefile("rb")
            return dns.message.from_wire(stream.read(int.from_bytes(stream.read(2), "big")))
        sock.send(header(client) + packet)
        return dns.message.from_wire(sock.recv(4096))


@pytest.mark.parametrize("name", list(MAKERS))
def test_the_client_of_the_header_is_answered(ways: Ways, folder: Path, name: str) -> None:
    if not find("unbound"):
        pytest.skip("unbound is not installed here")
    expected = expected_of(ways.meshd)
    port = free_port()
    front = MAKERS[name](ways, folder, port)
    try:
        front.start_ready()
        for _ in range(2):
            for who, asker in ASKERS.items():
                for tcp in (False, True):
                    reply = asked_for(port, asker, asker.source, tcp=tcp)
                    assert addresses(reply) == expected[who]["A"], (who, tcp)
    finally:
        front.stop()
