"""The processes of the demo: meshd, PowerDNS in front of it, and the instances."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent


def find(program: str) -> str | None:
    """Where a program is; a user's path may lack the system directories."""
    return shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")


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
        time.sleep(0.05)
    return time.monotonic() - began


@dataclass
class Processes:
    """Everything that runs, with its log files; `stop` ends all of it."""

    folder: Path
    grpc: str = field(default_factory=lambda: f"127.0.0.1:{free_port()}")
    http: str = field(default_factory=lambda: f"127.0.0.1:{free_port()}")
    dns_port: int = field(default_factory=free_port)
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, name: str, command: Sequence[str | Path]) -> None:
        """Start a process; what it says goes to <folder>/<name>.log."""
        with (self.folder / f"{name}.log").open("ab") as log:
            self.running[name] = subprocess.Popen(
                list(map(str, command)), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def start_meshd(self) -> None:
        """meshd with the embedded store, as `meshd serve` starts it."""
        serve = [sys.executable, "-m", "meshd.cli.meshd", "serve", "--answerers", "2"]
        addresses = [
            "--grpc",
            self.grpc,
            "--http",
            self.http,
            "--dns",
            f"127.0.0.1:{self.dns_port}",
        ]
        self.start("meshd", [*serve, *addresses, "--data", self.folder / "data"])

    def start_powerdns(self, port: int) -> None:
        """PowerDNS with the configuration of integrations/powerdns, on a port of its own."""
        shutil.copy(ROOT / "integrations/powerdns/meshd.conf", self.folder / "pdns.conf")
        program = find("pdns_server")
        assert program is not None, "asked for only where it is"
        changed = [
            f"--config-dir={self.folder}",
            f"--socket-dir={self.folder}",
            f"--remote-connection-string=unix:path={self.folder}/data/bridge.sock,timeout=200",
            "--local-address=127.0.0.1",
            f"--local-port={port}",
            "--setuid=",
            "--setgid=",
            "--daemon=no",
            "--guardian=no",
        ]
        self.start("powerdns", [program, *changed])

    def start_instance(self, name: str, version: str, pop: str, address: str) -> None:
        """One instance on an address of its own."""
        said = ["--name", name, "--version", version, "--pop", pop, "--address", address]
        self.start(name, [sys.executable, HERE / "instance.py", "--core", self.grpc, *said])

    def meshctl(self, *arguments: str) -> str:
        """Run meshctl and return what it printed; RuntimeError with its complaint if it failed."""
        command = [sys.executable, "-m", "meshd.cli.meshctl", "--server", self.grpc, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"meshctl {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def is_ready(self) -> bool:
        """True if the core answers."""
        if self.running["meshd"].poll() is not None:
            raise RuntimeError(f"meshd ended; see {self.folder}/meshd.log")
        try:
            with urllib.request.urlopen(f"http://{self.http}/readyz", timeout=1):
                return True
        except OSError:
            return False

    def kill(self, name: str) -> None:
        """End one process as a crash would."""
        process = self.running.pop(name)
        process.kill()
        process.wait()

    def stop(self) -> None:
        """End all, last started first."""
        for process in reversed(self.running.values()):
            process.terminate()
        deadline = time.monotonic() + 8
        for process in self.running.values():
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.running.clear()
