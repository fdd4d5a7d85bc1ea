"""`meshd serve` as a process: how it starts, is refused, starts again, and ends."""

import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from tests.servers.processes import Meshd, Server, free_port, wait_until

pytestmark = pytest.mark.integration


def meshd(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "meshd.cli.meshd", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)


def test_help_and_usage() -> None:
    for arguments in (("--help",), ("serve", "--help"), ("answer", "--help")):
        done = meshd(*arguments)
        assert done.returncode == 0
        assert "Usage" in done.stdout
    assert meshd("serve", "--nonsense").returncode == 2
    done = meshd("serve", "--grpc", "nowhere", "--answerers", "0")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 2
    assert meshd("answer").returncode == 2
    done = meshd("serve", "--core", "10.0.0.6:7700")
    assert (done.returncode, "another store" in done.stderr) == (2, True)


def test_start_stop_and_nothing_left(tmp_path: Path) -> None:
    made = Meshd(tmp_path, 2)
    made.start_ready()
    pids = [made.core_pid, *made.answerer_pids]
    assert len(pids) == 3
    assert made.stop() == 0
    assert not made.bridge.exists()
    assert [pid for pid in pids if Path(f"/proc/{pid}").exists()] == []


def test_a_second_one_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    made = Meshd(tmp_path)
    made.start_ready()
    try:
        again = Meshd(tmp_path)
        again.start()
        wait_until("the second one ends", lambda: not again.is_running)
        assert again.stop() == 1
        assert "another meshd listens there" in again.tail()
        assert made.is_ready()
        assert made.bridge.exists()
    finally:
        made.stop()


def test_a_port_in_use_is_said(tmp_path: Path) -> None:
    taken = Meshd(tmp_path)
    taken.start_ready()
    try:
        other = tmp_path / "other"
        other.mkdir()
        serve = [sys.executable, "-m", "meshd.cli.meshd", "serve", "--data", str(other / "data")]
        ports = ["--http", f"127.0.0.1:{free_port()}", "--dns", f"127.0.0.1:{free_port()}"]
        command = [*serve, "--grpc", taken.grpc, *ports]
        server = Server("second", command, other)
        server.start()
        wait_until("it ends", lambda: not server.is_running)
        assert server.stop() == 1
        assert f"cannot listen on {taken.grpc}" in server.tail()
    finally:
        taken.stop()


def test_children_end_with_their_supervisor(tmp_path: Path) -> None:
    made = Meshd(tmp_path)
    made.start_ready()
    pids = [made.core_pid, *made.answerer_pids]
    made.kill()
    wait_until("the children end", lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))


def test_what_ends_is_started_again(tmp_path: Path) -> None:
    made = Meshd(tmp_path, 2)
    made.start_ready()
    try:
        for _ in range(3):
            gone = {made.core_pid, made.answerer_pids[0]}
            for pid in gone:
                os.kill(pid, signal.SIGKILL)
            assert wait_until("both are back", partial(is_back, made, gone)) < 10
    finally:
        made.stop()


def is_back(made: Meshd, gone: set[int]) -> bool:
    running = {made.core_pid, *made.answerer_pids}
    return len(running) == 3 and 0 not in running and not running & gone and made.is_ready()
