"""The load generator: prebuilt packets through sendmmsg, replies counted and sampled.

It is so cheap that the server is what limits; bounded in time and in packets under way.
"""

import ctypes
import select
import socket
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

BATCH = 32
_WINDOW = 128
_SILENCE_S = 0.25
_MSG_DONTWAIT = 0x40
_REPLY = 1400
# Every so many replies one is looked at.
_SAMPLE_EVERY = 97

Check = Callable[[bytes], str]


class _Iovec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("len", ctypes.c_size_t))


class _Mmsghdr(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_void_p),
        ("namelen", ctypes.c_uint32),
        ("iov", ctypes.c_void_p),
        ("iovlen", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("controllen", ctypes.c_size_t),
        ("flags", ctypes.c_int),
        ("pad", ctypes.c_uint32),
        ("len", ctypes.c_uint32),
        ("tail", ctypes.c_uint32),
    )


_libc = ctypes.CDLL(None, use_errno=True)


class _Messages:
    """Headers over packets that stay where they are."""

    def __init__(self, buffers: Sequence[ctypes.Array[ctypes.c_char]], lengths: Sequence[int]):
        self.buffers = buffers
        self.iovecs = (_Iovec * len(buffers))()
        self.headers = (_Mmsghdr * len(buffers))()
        for at, (buffer, length) in enumerate(zip(buffers, lengths, strict=True)):
            self.iovecs[at].base = ctypes.addressof(buffer)
            self.iovecs[at].len = length
            self.headers[at].iov = ctypes.addressof(self.iovecs[at])
            self.headers[at].iovlen = 1

    def at(self, index: int) -> object:
        """A pointer to one header."""
        return ctypes.byref(self.headers, index * ctypes.sizeof(_Mmsghdr))


@dataclass
class Outcome:
    """What came of a run: counts, seconds, and what was wrong with sampled replies."""

    sent: int = 0
    answered: int = 0
    lost: int = 0
    seconds: float = 0.0
    sampled: int = 0
    wrong: Counter[str] = field(default_factory=Counter)

    @property
    def rate(self) -> float:
        """Answers a second."""
        return self.answered / self.seconds if self.seconds else 0.0


class Generator:
    """Sends one set of packets again and again, from several source addresses."""

    def __init__(self, packets: Sequence[bytes], sources: Sequence[str]) -> None:
        usable = len(packets) // BATCH * BATCH
        made = [ctypes.create_string_buffer(packet, len(packet)) for packet in packets[:usable]]
        self._packets = _Messages(made, [len(packet) for packet in packets[:usable]])
        self.count = usable
        replies = [ctypes.create_string_buffer(_REPLY) for _ in range(BATCH)]
        self._replies = _Messages(replies, [_REPLY] * BATCH)
        self._sources = sources

    def run(self, port: int, seconds: float, check: Check) -> Outcome:
        """As fast as it is answered for some seconds."""
        sockets = [_connected(source, port) for source in self._sources]
        outcome = Outcome()
        under_way = dict.fromkeys(range(len(sockets)), 0)
        began = time.perf_counter()
        try:
            at = 0
            while time.perf_counter() - began < seconds:
                for index, sock in enumerate(sockets):
                    if under_way[index] <= _WINDOW - BATCH:
                        sent = self._send(sock, at)
                        at = (at + BATCH) % self.count
                        outcome.sent += sent
                        under_way[index] += sent
                    under_way[index] -= self._receive(sock, outcome, check)
                if all(waiting > _WINDOW - BATCH for waiting in under_way.values()):
                    self._wait(sockets, under_way, outcome)
            outcome.seconds = time.perf_counter() - began
        finally:
            for sock in sockets:
                sock.close()
        return outcome

    def _send(self, sock: socket.socket, at: int) -> int:
        sent: int = _libc.sendmmsg(sock.fileno(), self._packets.at(at), BATCH, _MSG_DONTWAIT)
        return max(sent, 0)

    def _receive(self, sock: socket.socket, outcome: Outcome, check: Check) -> int:
        got: int = _libc.recvmmsg(sock.fileno(), self._replies.at(0), BATCH, _MSG_DONTWAIT, None)
        if got <= 0:
            return 0
        before = outcome.answered // _SAMPLE_EVERY
        outcome.answered += got
        if outcome.answered // _SAMPLE_EVERY != before:
            outcome.sampled += 1
            complaint = check(self._replies.buffers[0].raw[: self._replies.headers[0].len])
            if complaint:
                outcome.wrong[complaint] += 1
        return got

    @staticmethod
    def _wait(
        sockets: Sequence[socket.socket], under_way: dict[int, int], outcome: Outcome
    ) -> None:
        ready, _, _ = select.select(sockets, [], [], _SILENCE_S)
        if not ready:
            # Nobody answers any more: what is under way is lost.
            outcome.lost += sum(under_way.values())
            under_way.update(dict.fromkeys(under_way, 0))


def _connected(source: str, port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    sock.setblocking(False)
    sock.bind((source, 0))
    sock.connect(("127.0.0.1", port))
    return sock
