"""The sockets of `meshd serve`."""

import os
import socket
import stat
from pathlib import Path

import pytest

from meshd.cli.listen import open_bridge, open_dns
from meshd.core.errors import Unavailable
from tests.servers.processes import free_port


def test_dns_sockets_listen_on_both() -> None:
    port = free_port()
    udp, tcp = open_dns([f"127.0.0.1:{port}"])
    try:
        assert [sock.getsockname() for sock in (*udp, *tcp)] == [("127.0.0.1", port)] * 2
        with pytest.raises(Unavailable, match=f"{port}.*in use"):
            open_dns([f"127.0.0.1:{port}"])
    finally:
        for sock in (*udp, *tcp):
            sock.close()


def test_bridge_modes_whatever_the_umask(tmp_path: Path) -> None:
    path = tmp_path / "run" / "bridge.sock"
    before = os.umask(0)
    try:
        sock = open_bridge(path, None)
    finally:
        os.umask(before)
    with sock:
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o750


def test_a_dead_socket_is_replaced_and_a_living_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "bridge.sock"
    open_bridge(path, None).close()
    with open_bridge(path, None), pytest.raises(Unavailable, match="another meshd"):
        open_bridge(path, None)


def test_what_is_not_a_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "bridge.sock"
    target = tmp_path / "precious"
    target.write_text("keep me")
    path.symlink_to(target)
    with pytest.raises(Unavailable, match="no socket"):
        open_bridge(path, None)
    assert target.read_text() == "keep me"


def test_an_unknown_group_is_said(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="no-such-group"):
        open_bridge(tmp_path / "bridge.sock", "no-such-group")


def test_only_its_group_reaches_the_bridge(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    path = tmp_path / "bridge.sock"
    with open_bridge(path, None):
        pid = os.fork()
        if pid == 0:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            try:
                with socket.socket(socket.AF_UNIX) as probe:
                    probe.connect(str(path))
                os._exit(1)
            except PermissionError:
                os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
