"""Things that stand between a DNS server and meshd in a test: they change or delay what passes."""

import contextlib
import json
import os
import selectors
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Rewrite = Callable[[dict[str, Any], Any], Any]


class LineRewriter:
    """A bridge socket whose results are changed by `rewrite(request, result)` on the way."""

    def __init__(self, path: Path, bridge: Path, rewrite: Rewrite) -> None:
        self.path = path
        self._bridge = bridge
        self._rewrite = rewrite
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind(str(path))
        self._socket.listen(32)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as behind:
            behind.connect(str(self._bridge))
            with client.makefile("rb") as asked, behind.makefile("rb") as answered:
                for line in asked:
                    behind.sendall(line)
                    reply = json.loads(answered.readline())
                    if "result" in reply:
                        reply["result"] = self._rewrite(json.loads(line), reply["result"])
                    client.sendall(json.dumps(reply).encode() + b"\n")

    def stop(self) -> None:
        """Take no more connections."""
        self._socket.close()
        os.unlink(self.path)


class UdpBetween:
    """A UDP port that hands datagrams to another and back, each reply late, or rewritten.

    A reply that `rewrite` makes empty is lost.
    """

    def __init__(
        self, to: int, delay_s: float = 0.0, rewrite: Callable[[bytes], bytes] = bytes
    ) -> None:
        self._to = ("127.0.0.1", to)
        self._delay_s = delay_s
        self._rewrite = rewrite
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        waiting: list[tuple[float, bytes, Any]] = []
        behind: dict[socket.socket, Any] = {}
        with selectors.DefaultSelector() as selector:
            selector.register(self._socket, selectors.EVENT_READ)
            while not self._stop.is_set():
                for key, _ in selector.select(0.005):
                    source = key.fileobj
                    assert isinstance(source, socket.socket)
                    if source is self._socket:
                        data, client = source.recvfrom(4096)
                        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                        made.sendto(data, self._to)
                        behind[made] = client
                        selector.register(made, selectors.EVENT_READ)
                    else:
                        due = time.monotonic() + self._delay_s
                        data = self._rewrite(source.recv(4096))
                        waiting.append((due, data, behind.pop(source)))
                        selector.unregister(source)
                        source.close()
                now = time.monotonic()
                for due, data, client in [each for each in waiting if each[0] <= now]:
                    if data:
                        self._socket.sendto(data, client)
                    waiting.remove((due, data, client))
        for left in behind:
            left.close()
        self._socket.close()

    def stop(self) -> None:
        """End it."""
        self._stop.set()
        self._thread.join(5)


class TcpBetween:
    """A TCP port that hands connections to another, whatever comes back late."""

    def __init__(self, to: int, delay_s: float) -> None:
        self._to = ("127.0.0.1", to)
        self._delay_s = delay_s
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            behind = socket.create_connection(self._to)
            for source, to, delay_s in ((client, behind, 0.0), (behind, client, self._delay_s)):
                threading.Thread(target=_pass_on, args=(source, to, delay_s), daemon=True).start()

    def stop(self) -> None:
        """Take no more connections; those that are open end with their peers."""
        # Closing alone would not wake the thread that accepts.
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


def _pass_on(source: socket.socket, to: socket.socket, delay_s: float) -> None:
    """One direction of a connection; the end of it is passed on too."""
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            time.sleep(delay_s)
            to.sendall(data)
    with contextlib.suppress(OSError):
        to.shutdown(socket.SHUT_WR)
    # The other direction still reads from `to`, and closes it.
    source.close()
