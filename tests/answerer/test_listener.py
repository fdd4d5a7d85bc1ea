"""The listener on real sockets: UDP in batches, TCP with its rules."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import dns.message
import dns.rcode

from meshd.answerer import listener as listening
from meshd.answerer.batch import BATCH, UdpBatch
from meshd.answerer.fast import Source
from meshd.answerer.listener import TcpListener, UdpListener
from meshd.answerer.replies import Replier
from meshd.answerer.state import State
from tests import proxy, samples
from tests.samples import LOCAL


def query(name: str = "api.mesh.internal", ident: int = 7) -> bytes:
    message = dns.message.make_query(name, "A", id=ident)
    return message.to_wire()


def replier() -> Replier:
    state = State()
    made = Replier(state, LOCAL, LOCAL)
    state.swap(samples.snapshot())
    return made


@asynccontextmanager
async def udp(host: str = "127.0.0.1") -> AsyncIterator[tuple[UdpListener, int]]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.bind((host, 0))
        made = UdpListener(sock, replier())
        loop = asyncio.get_running_loop()
        made.start(loop)
        yield made, sock.getsockname()[1]
        made.stop(loop)


async def exchange(packets: list[bytes], to: tuple[str, int], replies: int) -> list[bytes]:
    family = socket.AF_INET6 if ":" in to[0] else socket.AF_INET
    loop = asyncio.get_running_loop()
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        for packet in packets:
            await loop.sock_sendto(sock, packet, to)
        async with asyncio.timeout(5):
            return [(await loop.sock_recvfrom(sock, 4096))[0] for _ in range(replies)]


async def test_more_packets_than_a_batch_are_all_answered() -> None:
    async with udp() as (made, port):
        packets = [query(ident=ident) for ident in range(3 * BATCH)]
        replies = await exchange(packets, ("127.0.0.1", port), len(packets))
        assert {int.from_bytes(reply[:2], "big") for reply in replies} == set(range(3 * BATCH))
        assert made.answered == len(packets)


async def test_silence_inside_a_batch_shifts_no_reply() -> None:
    async with udp() as (_, port):
        response = query(ident=1)
        response = response[:2] + b"\x80" + response[3:]
        packets = [
            b"x",
            query(ident=2),
            response,
            query("none.mesh.internal", 3),
            b"",
            query(ident=4),
        ]
        replies = await exchange(packets, ("127.0.0.1", port), 3)
        found = {(m.id, m.rcode()) for m in map(dns.message.from_wire, replies)}
        assert found == {(2, 0), (3, dns.rcode.NXDOMAIN), (4, 0)}


async def test_ipv6_and_mapped_sources() -> None:
    async with udp("::1") as (_, port):
        (reply,) = await exchange([query()], ("::1", port), 1)
        assert len(dns.message.from_wire(reply).answer[0]) == 4


async def test_a_wildcard_socket_answers_from_the_address_that_was_asked() -> None:
    async with udp("0.0.0.0") as (_, port):
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.bind(("127.0.0.1", 0))
            # A connected socket takes replies of exactly this peer only.
            sock.connect(("127.9.8.7", port))
            await loop.sock_sendall(sock, query())
            async with asyncio.timeout(5):
                reply = await loop.sock_recv(sock, 4096)
        assert dns.message.from_wire(reply).rcode() == 0


async def test_a_packet_that_breaks_the_replier_costs_only_itself() -> None:
    async with udp() as (made, port):
        sound = made._replier.reply_udp

        def broken(packet: bytes, source: Source) -> bytes | None:
            if packet[:2] == b"\0\1":
                raise RuntimeError("broken on purpose")
            return sound(packet, source)

        made._replier.reply_udp = broken  # type: ignore[method-assign, assignment]
        replies = await exchange([query(ident=1), query(ident=2)], ("127.0.0.1", port), 1)
        assert int.from_bytes(replies[0][:2], "big") == 2
        assert made.failed == 1


def test_a_reply_that_cannot_be_sent_stops_nobody() -> None:
    """Source port 0 cannot be answered; the packets around it are."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.setblocking(False)
        batch = UdpBatch(sock, lambda version, address: None)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(5)
            for ident in range(3):
                client.sendto(query(ident=ident), sock.getsockname())
            # A reply over 64 KiB cannot be sent either way.
            count = batch.serve(lambda packet, *_: bytes(100) if packet[1] != 1 else bytes(4000))
            assert count == 3
            assert [len(client.recv(9000)) for _ in range(3)] == [100, 4000, 100]


@asynccontextmanager
async def tcp() -> AsyncIterator[int]:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        made = TcpListener(sock, replier())
        await made.start()
        yield sock.getsockname()[1]
        made.stop()


async def read_message(reader: asyncio.StreamReader) -> dns.message.Message:
    async with asyncio.timeout(5):
        size = int.from_bytes(await reader.readexactly(2), "big")
        return dns.message.from_wire(await reader.readexactly(size))


def framed(packet: bytes) -> bytes:
    return len(packet).to_bytes(2, "big") + packet


async def test_tcp_answers_several_questions_a_connection() -> None:
    async with tcp() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"".join(framed(query(ident=ident)) for ident in range(20)))
        assert [(await read_message(reader)).id for _ in range(20)] == list(range(20))
        writer.close()
        await writer.wait_closed()


async def test_a_proxy_says_once_a_connection_for_whom_it_asks() -> None:
    async with tcp() as port:
        for client, prefix in (("10.1.0.9", "10.1."), ("2001:db8::9", "10.3.")):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(proxy.header(client, tcp=True) + framed(query()) + framed(query()))
            for _ in range(2):
                found = (await read_message(reader)).answer[0]
                assert all(str(rdata).startswith(prefix) for rdata in found)
            writer.close()
            await writer.wait_closed()


async def test_a_damaged_header_closes_the_connection() -> None:
    async with tcp() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"\r\n" + bytes(3338))
        async with asyncio.timeout(5):
            assert await reader.read() == b""
        writer.close()


async def test_a_slow_writer_holds_up_nobody_and_is_cut() -> None:
    before = listening._TCP_IDLE_S
    listening._TCP_IDLE_S = 0.5
    try:
        async with tcp() as port:
            slow_reader, slow = await asyncio.open_connection("127.0.0.1", port)
            slow.write(b"\0")
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(framed(query()))
            assert (await read_message(reader)).rcode() == 0
            async with asyncio.timeout(5):
                assert await slow_reader.read() == b""
            for each in (slow, writer):
                each.close()
                await each.wait_closed()
    finally:
        listening._TCP_IDLE_S = before


async def test_tcp_garbage_closes_the_connection() -> None:
    async with tcp() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(framed(b"short"))
        async with asyncio.timeout(5):
            assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
