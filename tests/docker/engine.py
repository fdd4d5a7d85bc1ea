"""A docker engine: the one that runs here, or one of our own that ends with the tests."""

import fcntl
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import IO

import docker
import pytest
from docker.errors import DockerException

from tests.servers.install import find

_START_S = 60.0
_STOP_S = 30.0


class NoEngine(Exception):
    """No engine can run here; the text says why."""


def cache() -> Path:
    """What one run of the tests leaves for the next: images, wheels."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(base) / "meshd-tests"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def open_engine() -> Iterator[docker.DockerClient]:
    """A client of an engine; NoEngine if there is none and none can be started."""
    client = _connect()
    if client is not None:
        with closing(client):
            yield client
        return
    with _own_engine() as url, pytest.MonkeyPatch.context() as environment:
        # Programs that are started from here shall find it too.
        environment.setenv("DOCKER_HOST", url)
        client = _connect()
        if client is None:
            raise NoEngine("the engine that was started does not answer")
        with closing(client):
            yield client


def _connect(url: str = "") -> docker.DockerClient | None:
    """A client of the engine at a URL, or where the environment says; None if none answers."""
    url = url or os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    if not _listens(url):
        return None
    client = None
    try:
        client = docker.DockerClient(url, timeout=120)
        client.ping()
    except DockerException:
        if client is not None:
            client.close()
        return None
    return client


def _listens(url: str) -> bool:
    """True unless it is a socket where nobody is: there, the SDK would leave its own open."""
    if not url.startswith("unix://"):
        return True
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(url.removeprefix("unix://")) == 0


@contextmanager
def _own_engine() -> Iterator[str]:
    """The URL of an engine that runs as long as the block."""
    dockerd = find("dockerd")
    if dockerd is None:
        raise NoEngine("no docker engine runs, and dockerd is not installed (Debian: docker.io)")
    if os.geteuid() != 0:
        raise NoEngine("no docker engine runs, and only root can start one")
    with _own_root() as root, tempfile.TemporaryDirectory(prefix="meshd-docker-") as folder:
        url = f"unix://{folder}/docker.sock"
        command = [
            dockerd, "--host", url, "--data-root", str(root), "--exec-root", f"{folder}/exec",
            "--pidfile", f"{folder}/pid", "--bridge", "none",
        ]  # fmt: skip
        with (root / "dockerd.log").open("wb") as log:
            # Not each kernel has what iptables needs; containers of one network do without.
            process = _start(command, url, log) or _start([*command, "--iptables=false"], url, log)
        if process is None:
            raise NoEngine(f"dockerd does not start: {_last_line(root / 'dockerd.log')}")
        try:
            yield url
        finally:
            _stop(process)
            _unmount(folder)


@contextmanager
def _own_root() -> Iterator[Path]:
    """A folder for images and containers that no other run of the tests uses now."""
    for number in range(8):
        root = cache() / f"docker-{number}"
        root.mkdir(exist_ok=True)
        with (root / "lock").open("wb") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            yield root
            return
    raise NoEngine("eight runs of the tests have an engine each")


def _start(command: list[str], url: str, log: IO[bytes]) -> "subprocess.Popen[bytes] | None":
    """Start an engine; None if it ended or does not answer in time."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    give_up = time.monotonic() + _START_S
    while process.poll() is None and time.monotonic() < give_up:
        client = _connect(url)
        if client is not None:
            client.close()
            return process
        time.sleep(0.2)
    _stop(process)
    return None


def _stop(process: "subprocess.Popen[bytes]") -> None:
    # It ends what it started, if it is given the time.
    with suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _unmount(folder: str) -> None:
    # Its own network stays mounted there when it ends.
    for line in Path("/proc/mounts").read_text().splitlines():
        where = line.split()[1]
        if where.startswith(f"{folder}/"):
            subprocess.run(["umount", where], check=False)


def _last_line(path: Path) -> str:
    lines = path.read_text(errors="replace").strip().splitlines()
    return lines[-1][-300:] if lines else "it said nothing"
