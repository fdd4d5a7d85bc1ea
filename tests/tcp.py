"""TCP ports of tests that leave no connection open when they end.

`asyncio.start_server` may: a connection that it has just taken has no task to wait for yet, and
one whose handler fails is never closed.
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Self

_READ = 16384

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class TcpServer:
    """A server whose every connection is talked to by `talk`, and closed when that ends."""

    def __init__(
        self, talk: Talk, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
    ) -> None:
        self.host = host
        self.port = 0
        self._talk = talk
        self._tls = tls
        self._listening: socket.socket | None = None
        self._open: set[asyncio.WriteTransport] = set()
        self._serving: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.end()

    @property
    def open(self) -> int:
        """How many connections are open."""
        return len(self._open)

    async def start(self) -> None:
        """Listen; the port is known then."""
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        self._listening = socket.create_server((self.host, self.port), family=family)
        self._listening.setblocking(False)
        self.port = self._listening.getsockname()[1]
        asyncio.get_running_loop().add_reader(self._listening, self._take)

    async def end(self) -> None:
        """Take no more, and end all."""
        if self._listening is None:
            return
        asyncio.get_running_loop().remove_reader(self._listening)
        self._listening.close()
        self._listening = None
        self.reset()
        for task in self._serving:
            task.cancel()
        if self._serving:
            await asyncio.wait(self._serving)
        # Aborted transports are closed by callbacks.
        await asyncio.sleep(0.001)

    def reset(self) -> None:
        """Break every connection."""
        for transport in self._open:
            transport.abort()

    def _take(self) -> None:
        assert self._listening is not None, "it is read from while it listens"
        try:
            made, _ = self._listening.accept()
        except OSError:
            return
        task = asyncio.create_task(self._serve(made))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        # One that is cancelled before it begins closes nothing by itself.
        task.add_done_callback(lambda _: made.close())

    async def _serve(self, made: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        with contextlib.suppress(OSError, EOFError, asyncio.CancelledError):
            transport, _ = await loop.connect_accepted_socket(lambda: protocol, made, ssl=self._tls)
            assert isinstance(transport, asyncio.WriteTransport), "of a stream"
            writer = asyncio.StreamWriter(transport, protocol, reader, loop)
            self._open.add(transport)
            try:
                await self._talk(reader, writer)
            finally:
                self._open.discard(transport)
                await _closed(writer)


async def _closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


class Relay(TcpServer):
    """Connections through it can be cut; those who inherit change or hold up what passes."""

    def __init__(self, to: tuple[str, int], own_host: str = "127.0.0.1") -> None:
        super().__init__(self._hand_on, own_host)
        self._to = to
        # New connections end at once.
        self.is_cut = False
        # A connection breaks when so many bytes came back on it.
        self.breaks_after: int | None = None
        self.connections = 0

    async def _hand_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if self.is_cut:
            writer.transport.abort()
            return
        far_reader, far = await asyncio.open_connection(*self._to)
        try:
            if not self.is_cut:
                await self._pass(reader, far, far_reader, writer)
        finally:
            far.transport.abort()
            await _closed(far)

    async def _pass(
        self,
        near_reader: asyncio.StreamReader,
        far: asyncio.StreamWriter,
        far_reader: asyncio.StreamReader,
        near: asyncio.StreamWriter,
    ) -> None:
        """Both ways, until one of them ends."""
        ways = {
            asyncio.create_task(self._there(near_reader, far)),
            asyncio.create_task(self._back(far_reader, near)),
        }
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            near.transport.abort()
            for way in ways:
                way.cancel()
            await asyncio.wait(ways)

    async def _there(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(_READ):
                if passes := await self.asked(data):
                    writer.write(passes)
                    await writer.drain()

    async def _back(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        passed = 0
        with contextlib.suppress(OSError):
            while data := await reader.read(_READ):
                if self.breaks_after is not None and passed + len(data) > self.breaks_after:
                    writer.write(data[: self.breaks_after - passed])
                    return
                passed += len(data)
                if passes := await self.answered(data):
                    writer.write(passes)
                    await writer.drain()

    async def asked(self, data: bytes) -> bytes:
        """What goes on of what came from who connected."""
        return data

    async def answered(self, data: bytes) -> bytes:
        """What goes back of what came."""
        return data
