"""A TCP port before a member of etcd: connections that break, answers that get lost."""

import asyncio
import contextlib


class Between:
    """Hands connections on to an endpoint."""

    def __init__(self, endpoint: str, own_host: str = "127.0.0.1") -> None:
        self._own_host = own_host
        host, _, port = endpoint.rpartition(":")
        self._to = (host, int(port))
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._pumps: set[asyncio.Future[None]] = set()
        # New connections end at once.
        self.is_cut = False
        # What comes back is lost.
        self.is_mute = False
        # It is mute from when this went through to etcd.
        self.mutes_at: bytes | None = None
        # A connection breaks when so many bytes came back on it.
        self.breaks_after: int | None = None
        self.connections = 0

    async def __aenter__(self) -> "Between":
        self._server = await asyncio.start_server(self._accept, self._own_host, 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.is_cut = True
        self.cut()
        await asyncio.gather(*self._pumps)

    @property
    def endpoint(self) -> str:
        assert self._server is not None
        return f"{self._own_host}:{self._server.sockets[0].getsockname()[1]}"

    def cut(self) -> None:
        """Break every connection."""
        for writer in self._open:
            writer.transport.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if self.is_cut:
            writer.transport.abort()
            return
        behind_reader, behind = await asyncio.open_connection(*self._to)
        self._open |= {writer, behind}
        there = asyncio.ensure_future(self._there(reader, behind))
        back = asyncio.ensure_future(self._back(behind_reader, writer))
        for pump in (there, back):
            self._pumps.add(pump)
            pump.add_done_callback(self._pumps.discard)
        await asyncio.wait({there, back}, return_when=asyncio.FIRST_COMPLETED)
        for end in (writer, behind):
            end.transport.abort()
            self._open.discard(end)

    async def _there(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                if self.mutes_at is not None and self.mutes_at in data:
                    self.is_mute, self.mutes_at = True, None
                writer.write(data)
                await writer.drain()

    async def _back(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        passed = 0
        with contextlib.suppress(OSError):
            while data := await reader.read(16384):
                if self.breaks_after is not None and passed + len(data) > self.breaks_after:
                    writer.write(data[: self.breaks_after - passed])
                    return
                passed += len(data)
                if not self.is_mute:
                    writer.write(data)
                    await writer.drain()
