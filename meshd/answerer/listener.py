"""The DNS listener: UDP in batches, TCP as RFC 7766 wants it."""

import asyncio
import logging
import socket

from meshd.answerer.batch import BATCH, UdpBatch
from meshd.answerer.fast import Source
from meshd.answerer.replies import Replier
from meshd.core.errors import Malformed
from meshd.wire.dns import client_of
from meshd.wire.proxy import FIXED_SIZE, SIGNATURE, header_size, parse_proxy

log = logging.getLogger(__name__)

# Batches answered before other tasks of the loop get their turn.
_BATCHES_A_TURN = 4
_TCP_IDLE_S = 15.0
_TCP_CONNECTIONS = 512


class UdpListener:
    """Answers the packets of one UDP socket from the event loop."""

    def __init__(self, sock: socket.socket, replier: Replier) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._batch = UdpBatch(sock, replier.source)
        self._replier = replier
        self.answered = 0

    @property
    def failed(self) -> int:
        """Packets that got no reply because of an error of ours."""
        return self._batch.failed

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Answer from now on."""
        loop.add_reader(self._sock.fileno(), self._ready)

    def stop(self, loop: asyncio.AbstractEventLoop) -> None:
        """Answer no more."""
        loop.remove_reader(self._sock.fileno())

    def _ready(self) -> None:
        for _ in range(_BATCHES_A_TURN):
            count = self._batch.serve(self._replier.reply_udp)
            self.answered += count
            if count < BATCH:
                break


class TcpListener:
    """Answers DNS over TCP: several questions a connection, idle ones are closed."""

    def __init__(self, sock: socket.socket, replier: Replier) -> None:
        self._sock = sock
        self._replier = replier
        self._open = 0
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Accept from now on."""
        self._server = await asyncio.start_server(self._serve, sock=self._sock)

    def stop(self) -> None:
        """Accept no more."""
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._open >= _TCP_CONNECTIONS:
            writer.close()
            return
        self._open += 1
        try:
            peer = client_of(writer.get_extra_info("peername")[0])
            source = self._replier.source(peer.version, peer.address)
            size = await self._size(reader)
            if source.is_proxy and size == SIGNATURE[:2]:
                source = await self._behind(reader, size, source)
                size = await self._size(reader)
            while await self._one(reader, writer, size, source):
                size = await self._size(reader)
        except (OSError, EOFError, TimeoutError, Malformed):
            # The peer went away, fell silent or speaks nonsense: nothing is owed.
            return
        except Exception:
            log.exception("a TCP connection failed")
        finally:
            self._open -= 1
            writer.close()

    async def _size(self, reader: asyncio.StreamReader) -> bytes:
        """The two bytes that say how long the next message is."""
        async with asyncio.timeout(_TCP_IDLE_S):
            return await reader.readexactly(2)

    async def _behind(self, reader: asyncio.StreamReader, begun: bytes, proxy: Source) -> Source:
        """Whom a proxy connects for: its header comes once, before the first message.

        A message whose length looks like it would be of 3,338 bytes, which no query is.
        """
        async with asyncio.timeout(_TCP_IDLE_S):
            fixed = begun + await reader.readexactly(FIXED_SIZE - len(begun))
            rest = await reader.readexactly(header_size(fixed) - FIXED_SIZE)
        client, _ = parse_proxy(fixed + rest)
        return proxy if client is None else self._replier.source_behind(client)

    async def _one(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        size: bytes,
        source: Source,
    ) -> bool:
        """One message in, its reply out; a whole message must come within the idle time."""
        async with asyncio.timeout(_TCP_IDLE_S):
            packet = await reader.readexactly(int.from_bytes(size, "big"))
            reply = self._replier.reply_tcp(packet, source)
            if reply is None:
                return False
            # Length and message in one write (RFC 7766 8).
            writer.write(len(reply).to_bytes(2, "big") + reply)
            await writer.drain()
        return True
