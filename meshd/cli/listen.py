"""Sockets and the table's file, opened once by the supervisor and inherited by the answerers.

An answerer that dies takes nothing along: its siblings hold the same sockets, and what waits
in them is answered by whoever reads next.
"""

import os
import shutil
import socket
from collections.abc import Sequence
from pathlib import Path

from meshd.answerer.table import SIZE as TABLE_SIZE
from meshd.cli.addresses import split_address
from meshd.core.errors import Unavailable

# Room for a burst while Python is busy elsewhere; the kernel may grant less.
_RECEIVE_BYTES = 4 << 20
_BACKLOG = 512


def open_dns(addresses: Sequence[str]) -> tuple[list[socket.socket], list[socket.socket]]:
    """UDP and TCP sockets for each HOST:PORT; Unavailable says which cannot be had."""
    udp, tcp = [], []
    for address in addresses:
        udp.append(_bound(address, socket.SOCK_DGRAM))
        udp[-1].setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BYTES)
        tcp.append(_bound(address, socket.SOCK_STREAM))
        tcp[-1].listen(_BACKLOG)
    return udp, tcp


def _bound(address: str, kind: socket.SocketKind) -> socket.socket:
    host, port = split_address(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, kind)
    try:
        if kind == socket.SOCK_STREAM:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        proto = "tcp" if kind == socket.SOCK_STREAM else "udp"
        raise Unavailable(f"cannot listen on dns {address} ({proto}): {error.strerror}") from None
    return sock


def open_bridge(path: Path, group: str | None) -> socket.socket:
    """The bridge's unix socket, mode 0660, in a directory made 0750 if it is missing."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        is_new = not path.parent.exists()
        path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        _clear(path)
        # The mode must be right from the first moment on.
        before = os.umask(0o117)
        try:
            sock.bind(str(path))
        finally:
            os.umask(before)
        if group is not None:
            shutil.chown(path, group=group)
            if is_new:
                shutil.chown(path.parent, group=group)
        sock.listen(_BACKLOG)
    except (OSError, LookupError) as error:
        sock.close()
        raise Unavailable(f"cannot listen on bridge {path}: {error}") from None
    return sock


def open_table(path: Path, group: str | None) -> int:
    """The table's file, mode 0640; one that is there already stays, for who has mapped it."""
    try:
        path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        if path.exists() and path.stat().st_size != TABLE_SIZE:
            path.unlink()
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o640)
        os.ftruncate(fd, TABLE_SIZE)
        os.fchmod(fd, 0o640)
        if group is not None:
            shutil.chown(path, group=group)
    except (OSError, LookupError) as error:
        raise Unavailable(f"cannot open table {path}: {error}") from None
    return fd


def _clear(path: Path) -> None:
    """Remove a socket that nobody listens on; anything else is not ours to remove."""
    if not path.is_symlink() and not path.exists():
        return
    if path.is_symlink() or not path.is_socket():
        raise FileExistsError("something that is no socket is there")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise FileExistsError("another meshd listens there")
