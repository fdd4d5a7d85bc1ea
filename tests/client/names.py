"""DNS for tests: an answerer's real listeners in this process, that can be away and be wrong."""

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import dns.flags
import dns.message
import dns.rcode

from meshd.answerer.listener import TcpListener, UdpListener
from meshd.answerer.replies import Replier
from meshd.answerer.state import State
from meshd.core.snapshot import Snapshot
from meshd.core.topology import Change, Topology
from meshd.wire.document import parse
from tests.samples import LOCAL
from tests.servers.processes import free_port

NAME = "api.mesh.internal"
_HEAD = """
zones: {{mesh.internal: {{ns: [{{ns1.mesh.internal: [127.0.0.1]}}], contact: a@mesh.internal,
  negative_ttl: 1}}}}
pops: {{eu: {{}}, us: {{}}}}
ranges: {{0.0.0.0/0: eu}}
services:
  api: {{name: api.mesh.internal, ports: {{http: 80/tcp, grpc: 81/tcp}}, max_answers: 8,
    ttl: {{min: 1, max: 1}}}}
instances:
"""


@dataclass(frozen=True, slots=True)
class Place:
    """An instance: where it is, and in which Pop."""

    name: str
    address: str
    port: int
    pop: str = "eu"
    capacity: float = 1.0


def document(places: Sequence[Place]) -> str:
    """A topology of one service with these instances, for clients in the Pop eu."""
    lines = "".join(
        f"  {at.name}: {{service: api, version: 1.0.0, pop: {at.pop}, address: {at.address},"
        f" ports: {{http: {at.port}, grpc: {at.port}}}, capacity: {at.capacity}}}\n"
        for at in places
    )
    return _HEAD.format() + (lines or "  {}\n")


@dataclass
class Names:
    """A DNS server on 127.0.0.1."""

    port: int = field(default_factory=free_port)
    state: State = field(default_factory=State)
    # Set: every query is answered with this rcode, or (None) as it is.
    rcode: int | None = None
    is_truncating: bool = False
    asked: list[str] = field(default_factory=list)
    _open: Any = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def put(self, *places: Place) -> None:
        """These are the instances from now on."""
        records = parse(document(places)).records
        revision = self.state.snapshot.topology.revision + 1 if self.state.snapshot else 1
        topology = Topology("x", 0).apply([Change.put(record) for record in records], revision)
        self.state.swap(Snapshot.build(topology))

    async def start(self) -> None:
        udp = socket.socket(type=socket.SOCK_DGRAM)
        udp.bind(("127.0.0.1", self.port))
        tcp = socket.create_server(("127.0.0.1", self.port))
        replier = _Replier(self)
        self._open = UdpListener(udp, replier), TcpListener(tcp, replier), udp
        self._open[0].start(asyncio.get_running_loop())
        await self._open[1].start()

    def stop(self) -> None:
        """Be away, from one moment to the next."""
        if self._open is not None:
            udp, tcp, sock = self._open
            udp.stop(asyncio.get_running_loop())
            sock.close()
            tcp.stop()
            self._open = None


class _Replier(Replier):
    """An answerer's, that can be told to fail."""

    def __init__(self, names: Names) -> None:
        super().__init__(names.state, LOCAL, LOCAL)
        self._names = names

    def reply_udp(self, packet: bytes, source: Any) -> Any:
        self._names.asked.append(dns.message.from_wire(packet).question[0].to_text())
        if self._names.is_truncating:
            reply = dns.message.make_response(dns.message.from_wire(packet))
            reply.flags |= dns.flags.TC
            return reply.to_wire()
        if self._names.rcode is None:
            return super().reply_udp(packet, source)
        reply = dns.message.make_response(dns.message.from_wire(packet))
        reply.set_rcode(dns.rcode.Rcode(self._names.rcode))
        return reply.to_wire()


@asynccontextmanager
async def answering(*places: Place) -> AsyncIterator[Names]:
    """DNS with these instances."""
    names = Names()
    names.put(*places)
    await names.start()
    try:
        yield names
    finally:
        names.stop()
