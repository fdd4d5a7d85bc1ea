"""Real servers as processes on loopback, each in a folder of its own, each ended by its id."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import grpc

from meshd.v1 import (
    registry_pb2_grpc,
    resolver_pb2_grpc,
    topology_pb2,
    topology_pb2_grpc,
)

ROOT = Path(__file__).parent.parent.parent
_STOP_S = 8.0


def free_port() -> int:
    """A port of 127.0.0.1 that nobody uses now, neither for TCP nor for UDP."""
    while True:
        with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
            tcp.bind(("127.0.0.1", 0))
            port: int = tcp.getsockname()[1]
            try:
                udp.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def wait_until(what: str, check: Callable[[], bool], timeout_s: float = 20.0) -> float:
    """Seconds until `check` held; TimeoutError names what did not come."""
    began = time.monotonic()
    while not check():
        if time.monotonic() - began > timeout_s:
            raise TimeoutError(f"not seen within {timeout_s:.0f} s: {what}")
        time.sleep(0.02)
    return time.monotonic() - began


def children(pid: int) -> list[int]:
    """The processes that a process started and that run."""
    listed = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in listed.read_text().split()] if listed.exists() else []


def command_line(pid: int) -> str:
    """The command line of a process; empty if it has gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


class Server:
    """One process with its log file."""

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        folder: Path,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self._command = list(map(str, command))
        self._environment = {**os.environ, **(environment or {})}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; what it says is added to its log."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=ROOT,
                env=self._environment,
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None, f"{self.name} was not started"
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """True until it ended."""
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """End it as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def stop(self) -> int:
        """End it in order; killed if it does not. Its exit code."""
        if self._process is None:
            return 0
        self._process.terminate()
        try:
            return self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise RuntimeError(f"{self.name} did not end: {self.tail()}") from None

    def tail(self) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-3000:] if self.log.exists() else ""


class Meshd(Server):
    """`meshd serve` with the embedded store, on free ports."""

    def __init__(
        self, folder: Path, answerers: int = 1, *more: str, dns: tuple[str, int] | None = None
    ) -> None:
        self.data = folder / "data"
        self.bridge = self.data / "bridge.sock"
        self.table = self.data / "answers"
        self.grpc = f"127.0.0.1:{free_port()}"
        self.http = f"127.0.0.1:{free_port()}"
        self.dns_host, self.dns_port = dns or ("127.0.0.1", free_port())
        addresses = ["--grpc", self.grpc, "--http", self.http]
        listen = ["--dns", f"{self.dns_host}:{self.dns_port}", "--answerers", str(answerers)]
        serve: list[str | Path] = [
            sys.executable,
            "-m",
            "meshd.cli.meshd",
            "serve",
            "--data",
            self.data,
        ]
        super().__init__("meshd", [*serve, *addresses, *listen, *more], folder)
        self._answerers = answerers

    def is_ready(self) -> bool:
        """True if the core answers and every answerer follows it."""
        if not self.is_running:
            raise RuntimeError(f"meshd ended: {self.tail()}")
        try:
            with urllib.request.urlopen(f"http://{self.http}/metrics", timeout=1) as reply:
                return f"meshd_followers {self._answerers}.0" in reply.read().decode()
        except OSError:
            return False

    def start_ready(self) -> None:
        """Start it and wait until it is ready."""
        self.start()
        wait_until("meshd is ready", self.is_ready)

    @contextmanager
    def channel(self) -> Iterator[grpc.Channel]:
        """A channel to the core."""
        options = (("grpc.max_receive_message_length", 64 << 20),)
        with grpc.insecure_channel(self.grpc, options=options) as channel:
            yield channel

    def apply(self, text: str, *, force: bool = False, timeout_s: float = 10.0) -> int:
        """Apply a document; returns the revision. grpc.RpcError if it is refused."""
        request = topology_pb2.ApplyRequest(document=text, author="test", force=force)
        with self.channel() as channel:
            stub = topology_pb2_grpc.TopologyStub(channel)
            return int(stub.Apply(request, timeout=timeout_s).revision)

    @contextmanager
    def stubs(
        self,
    ) -> Iterator[
        tuple[
            topology_pb2_grpc.TopologyStub,
            resolver_pb2_grpc.ResolverStub,
            registry_pb2_grpc.RegistryStub,
        ]
    ]:
        """The three services."""
        with self.channel() as channel:
            yield (
                topology_pb2_grpc.TopologyStub(channel),
                resolver_pb2_grpc.ResolverStub(channel),
                registry_pb2_grpc.RegistryStub(channel),
            )

    def meshctl(self, *arguments: str, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
        """Run meshctl against this core."""
        command = [sys.executable, "-m", "meshd.cli.meshctl", "--server", self.grpc, *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=timeout_s
        )

    def _part(self, module: str) -> list[int]:
        found = children(self.pid) if self.is_running else []
        return [pid for pid in found if f"-m {module} " in command_line(pid)]

    @property
    def core_pid(self) -> int:
        """The core's process; 0 while there is none."""
        return next(iter(self._part("meshd.daemon")), 0)

    @property
    def answerer_pids(self) -> list[int]:
        """The answerers' processes."""
        return self._part("meshd.answerer")

    def kill_core(self) -> None:
        """kill -9 of the core."""
        os.kill(self.core_pid, signal.SIGKILL)
