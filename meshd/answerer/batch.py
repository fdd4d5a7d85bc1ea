"""Many datagrams in one system call: recvmmsg and sendmmsg through ctypes (Linux).

The reply to a datagram goes out with the same name and control block that it came with, so a
socket bound to a wildcard answers from the address that was asked (IP_PKTINFO, ip(7)).
"""

import ctypes
import logging
import socket
from collections.abc import Callable
from typing import Generic, TypeVar

log = logging.getLogger(__name__)

BATCH = 64
_PACKET = 4096
_NAME = 28
_CONTROL = 64
_MSG_DONTWAIT = 0x40

# Sources of which something is remembered; beyond that the memory starts anew.
_MAX_SOURCES = 200_000

S = TypeVar("S")


class _Iovec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("len", ctypes.c_size_t))


class _Msghdr(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_void_p),
        ("namelen", ctypes.c_uint32),
        ("iov", ctypes.c_void_p),
        ("iovlen", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("controllen", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _Mmsghdr(ctypes.Structure):
    _fields_ = (("hdr", _Msghdr), ("len", ctypes.c_uint32))


_libc = ctypes.CDLL(None, use_errno=True)
# Offsets in 32-bit and 64-bit words of one header, for plain memory views: attribute access
# through ctypes would cost more than the rest of an answer.
_WORDS = ctypes.sizeof(_Mmsghdr) // 4
_LONGS = ctypes.sizeof(_Mmsghdr) // 8
_CONTROLLEN = _Msghdr.controllen.offset // 8
_LEN = _Mmsghdr.len.offset // 4


class _Block:
    """`BATCH` message headers over one stretch of packet memory."""

    def __init__(
        self,
        names: ctypes.Array[ctypes.c_char],
        controls: ctypes.Array[ctypes.c_char],
        name_length: int,
    ) -> None:
        self.packets = ctypes.create_string_buffer(BATCH * _PACKET)
        self.iovecs = (_Iovec * BATCH)()
        self.headers = (_Mmsghdr * BATCH)()
        for at in range(BATCH):
            self.iovecs[at].base = ctypes.addressof(self.packets) + at * _PACKET
            self.iovecs[at].len = _PACKET
            header = self.headers[at].hdr
            header.name = ctypes.addressof(names) + at * _NAME
            header.namelen = name_length
            header.iov = ctypes.addressof(self.iovecs[at])
            header.iovlen = 1
            header.control = ctypes.addressof(controls) + at * _CONTROL
        self.bytes = memoryview(self.packets).cast("B")
        self.words = memoryview(self.headers).cast("B").cast("I")
        self.longs = memoryview(self.headers).cast("B").cast("Q")
        self.lengths = memoryview(self.iovecs).cast("B").cast("Q")


class UdpBatch(Generic[S]):
    """Reads what waits on a UDP socket, answers it, and sends all replies at once.

    `describe` tells of an IP version and address whatever `answer` wants to know of a source.
    """

    def __init__(self, sock: socket.socket, describe: Callable[[int, int], S]) -> None:
        self._sock = sock
        self._fd = sock.fileno()
        self._describe = describe
        self._sources: dict[int | bytes, S] = {}
        names = ctypes.create_string_buffer(BATCH * _NAME)
        controls = ctypes.create_string_buffer(BATCH * _CONTROL)
        self._names = memoryview(names).cast("B")
        self._name_words = memoryview(names).cast("B").cast("I")
        # The headers hold bare addresses: the memory behind them must be kept by hand.
        self._controls = controls
        self._is_v6 = sock.family == socket.AF_INET6
        # sockaddr_in6 or sockaddr_in: the kernel writes this length back, always the same.
        name_length = _NAME if self._is_v6 else 16
        self._in = _Block(names, controls, name_length)
        self._out = _Block(names, controls, name_length)
        self._has_control = want_packet_info(sock)
        self.failed = 0

    def serve(self, answer: Callable[[bytes, S], bytes | None]) -> int:
        """Answer one batch; returns how many packets were read. A packet's error is its own."""
        count = self._receive()
        source, out = self._in, self._out
        packets, words, replies, lengths = source.bytes, source.words, out.bytes, out.lengths
        ready = 0
        for at in range(count):
            start = at * _PACKET
            packet = bytes(packets[start : start + words[at * _WORDS + _LEN]])
            try:
                reply = answer(packet, self._source(at))
            except Exception:
                self.failed += 1
                log.exception("no reply to a packet: packet=%s", packet.hex())
                reply = None
            if reply is None:
                # Runs of replies are sent together; silence ends a run.
                self._send(ready, at)
                ready = at + 1
                continue
            size = len(reply)
            replies[start : start + size] = reply
            lengths[2 * at + 1] = size
        self._send(ready, count)
        return count

    def _source(self, at: int) -> S:
        """What is known of the source of a packet, by the raw bytes of its address."""
        name = at * _NAME
        key = (
            bytes(self._names[name + 8 : name + 24])
            if self._is_v6
            else self._name_words[at * 7 + 1]
        )
        known = self._sources.get(key)
        if known is None:
            if len(self._sources) >= _MAX_SOURCES:
                self._sources.clear()
            known = self._sources[key] = self._describe(*self._address(name))
        return known

    def _address(self, name: int) -> tuple[int, int]:
        if not self._is_v6:
            return 4, int.from_bytes(self._names[name + 4 : name + 8], "big")
        address = int.from_bytes(self._names[name + 8 : name + 24], "big")
        return (4, address & 0xFFFFFFFF) if address >> 32 == 0xFFFF else (6, address)

    def _receive(self) -> int:
        if self._has_control:
            for at in range(BATCH):
                self._in.longs[at * _LONGS + _CONTROLLEN] = _CONTROL
        headers = self._in.headers
        count: int = _libc.recvmmsg(self._fd, headers, BATCH, _MSG_DONTWAIT, None)
        if self._has_control:
            for at in range(count):
                offset = at * _LONGS + _CONTROLLEN
                self._out.longs[offset] = self._in.longs[offset]
        return max(count, 0)

    def _send(self, begin: int, end: int) -> None:
        while begin < end:
            first = ctypes.byref(self._out.headers, begin * ctypes.sizeof(_Mmsghdr))
            sent = _libc.sendmmsg(self._fd, first, end - begin, _MSG_DONTWAIT)
            # A datagram that cannot be sent (full buffer, unreachable) is dropped, as UDP may.
            begin += max(sent, 1)


def want_packet_info(sock: socket.socket) -> bool:
    """Ask for the local address of each datagram if the socket is bound to a wildcard."""
    host = sock.getsockname()[0]
    if host not in ("0.0.0.0", "::"):
        return False
    if sock.family == socket.AF_INET:
        # IP_PKTINFO is 8 on Linux; the socket module of 3.11 does not name it.
        sock.setsockopt(socket.IPPROTO_IP, 8, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    return True
