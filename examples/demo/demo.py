"""The demo: clients of four ranges ask PowerDNS, while an instance dies, fills up, and returns.

`make demo` shows it until Ctrl-C; `make demo ONCE=1` plays it once and fails if something that
should be seen is not.
"""

import argparse
import contextlib
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import dns.exception
import dns.message
import dns.query
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from tests.servers.fronts import PowerDns
from tests.servers.install import find
from tests.servers.processes import Meshd, Server, wait_until

HERE = Path(__file__).parent

NAME = "api.mesh.internal"
INSTANCES = {
    "127.10.1.1": ("api-eu-1", "1.2.0", "eu"),
    "127.10.1.2": ("api-eu-2", "1.2.0", "eu"),
    "127.10.1.3": ("api-eu-3", "1.3.0", "eu"),
    "127.10.2.1": ("api-us-1", "1.2.0", "us"),
    "127.10.2.2": ("api-us-2", "1.2.0", "us"),
    "127.10.2.3": ("api-us-3", "1.3.0", "us"),
    "127.10.3.1": ("api-ap-1", "1.2.0", "ap"),
    "127.10.3.2": ("api-ap-2", "1.2.0", "ap"),
}
CLIENTS = {
    "127.1.0.9": "127.1.0.0/16 eu",
    "127.1.7.9": "127.1.7.0/24 eu, api@1.3",
    "127.2.0.9": "127.2.0.0/16 us, 5 % of 1.3",
    "127.3.0.9": "127.3.0.0/16 ap",
}


@dataclass(frozen=True)
class Seen:
    """One answer: addresses in order, and the TTL."""

    addresses: tuple[str, ...]
    ttl: int


class Stage:
    """Asks for all clients and shows what came, with a caption of what is happening."""

    def __init__(self, port: int, server: str, live: Live) -> None:
        self._port = port
        self._server = server
        self._live = live
        self._caption = ""
        self.seen: Mapping[str, Seen] = {}

    def say(self, caption: str) -> None:
        """Change the caption."""
        self._caption = caption
        self.look()

    def look(self) -> None:
        """Ask again and show."""
        self.seen = {client: self._ask(client) for client in CLIENTS}
        table = Table(title=f"{NAME} A, asked of {self._server} on 127.0.0.1:{self._port}")
        for column in ("client (dig -b)", "range", "instances, best first", "TTL"):
            table.add_column(column, justify="right" if column == "TTL" else "left")
        for client, seen in self.seen.items():
            names = [INSTANCES[address] for address in seen.addresses]
            shown = "  ".join(f"{name}@{version}" for name, version, _ in names)
            table.add_row(client, CLIENTS[client], shown or "nothing yet", str(seen.ttl))
        self._live.update(Group(table, Text(self._caption, style="bold")), refresh=True)

    def _ask(self, client: str) -> Seen:
        if find("dig"):
            return _dig(client, self._port)
        query = dns.message.make_query(NAME, "A")
        try:
            reply = dns.query.udp(query, "127.0.0.1", port=self._port, source=client, timeout=2)
        except (OSError, dns.exception.DNSException):
            return Seen((), 0)
        found = [rrset for rrset in reply.answer if rrset.rdtype == 1]
        return Seen(tuple(str(r) for r in found[0]), found[0].ttl) if found else Seen((), 0)

    def until(self, what: str, check: Callable[[], bool], timeout_s: float = 15.0) -> float:
        """Seconds until `check` held of what is seen, looking all the while."""

        def looked() -> bool:
            self.look()
            return check()

        return wait_until(what, looked, timeout_s)

    def names(self, client: str) -> list[str]:
        """The instances that a client was last answered, in order."""
        return [INSTANCES[address][0] for address in self.seen[client].addresses]


def _dig(client: str, port: int) -> Seen:
    command = ["dig", "-b", client, "@127.0.0.1", "-p", str(port), "+noall", "+answer"]
    done = subprocess.run(
        [*command, "+tries=1", "+time=2", NAME, "A"], capture_output=True, text=True, check=False
    )
    rows = [line.split() for line in done.stdout.splitlines() if "\tA\t" in line]
    return Seen(tuple(row[4] for row in rows), int(rows[0][1]) if rows else 0)


class Instances:
    """The HTTP servers of the demo, one process each."""

    def __init__(self, core: str, folder: Path) -> None:
        self._core = core
        self._folder = folder
        self._running: dict[str, Server] = {}

    def start(self, address: str) -> None:
        """Start the instance of an address."""
        name, version, pop = INSTANCES[address]
        said = ["--name", name, "--version", version, "--pop", pop, "--address", address]
        command: list[str | Path] = [
            sys.executable,
            HERE / "instance.py",
            "--core",
            self._core,
            *said,
        ]
        self._running[name] = Server(name, command, self._folder)
        self._running[name].start()

    def kill(self, name: str) -> None:
        """kill -9 of one."""
        self._running.pop(name).kill()

    def stop(self) -> None:
        """End all."""
        for server in self._running.values():
            server.stop()


def play(stage: Stage, instances: Instances) -> list[str]:
    """The four acts; returns what was seen, one line each."""
    report = []
    eu, canary = "127.1.0.9", "127.1.7.9"
    stage.say("Eight instances register themselves.")

    def all_answered() -> bool:
        counts = [len(seen.addresses) for seen in stage.seen.values()]
        return counts[0] == 2 and min(counts) >= 1 and stage.names(canary) == ["api-eu-3"]

    took = stage.until("every client gets instances of its pop and version", all_answered)
    report.append(f"all clients answered with their own lists after {took:.1f} s")
    pause(stage, 2)

    victim = stage.names(eu)[0]
    address = stage.seen[eu].addresses[0]
    stage.say(f"kill -9 {victim}: its lease runs out.")
    instances.kill(victim)
    took = stage.until(f"{victim} leaves the answers", lambda: victim not in stage.names(eu))
    report.append(f"{victim} killed: gone from answers after {took:.1f} s")
    pause(stage, 2)

    busy, busy_address = stage.names("127.2.0.9")[0], stage.seen["127.2.0.9"].addresses[0]
    ttl = stage.seen["127.2.0.9"].ttl
    stage.say(f"{busy} says that it is 95 % loaded: fewer clients get it first, the TTL falls.")
    urllib.request.urlopen(f"http://{busy_address}:8080/load/0.95", data=b"", timeout=5).close()
    took = stage.until("the TTL falls", lambda: stage.seen["127.2.0.9"].ttl < ttl)
    report.append(f"{busy} at 95 %: TTL {ttl} -> {stage.seen['127.2.0.9'].ttl} after {took:.1f} s")
    pause(stage, 2)

    stage.say(f"{victim} comes back, {busy} is idle again.")
    instances.start(address)
    urllib.request.urlopen(f"http://{busy_address}:8080/load/0.1", data=b"", timeout=5).close()
    took = stage.until(
        "all is as it was",
        lambda: victim in stage.names(eu) and stage.seen["127.2.0.9"].ttl == ttl,
    )
    report.append(f"{victim} back in the answers after {took:.1f} s, TTL {ttl} again")
    pause(stage, 2)
    return report


def pause(stage: Stage, seconds: float) -> None:
    """Give people time to read, looking all the while."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        stage.look()
        time.sleep(0.25)


def front(meshd: Meshd, folder: Path, stack: contextlib.ExitStack) -> tuple[int, str]:
    """Whom clients ask: PowerDNS where it is installed, else meshd itself."""
    if not find("pdns_server"):
        return meshd.dns_port, "meshd itself (PowerDNS is not installed)"
    powerdns = PowerDns(folder, meshd.bridge)
    stack.callback(powerdns.stop)
    powerdns.start_ready()
    return powerdns.port, "PowerDNS, which asks meshd"


def show(folder: Path, console: Console, *, once: bool) -> None:
    """Start everything, play, and end everything."""
    with contextlib.ExitStack() as stack:
        meshd = Meshd(folder, 2)
        stack.callback(meshd.stop)
        meshd.start_ready()
        applied = meshd.meshctl("apply", "-f", str(HERE / "mesh.yaml"), "--yes")
        console.print(applied.stdout or applied.stderr, markup=False)
        port, server = front(meshd, folder, stack)
        instances = Instances(meshd.grpc, folder)
        stack.callback(instances.stop)
        for address in INSTANCES:
            instances.start(address)
        with Live(console=console, auto_refresh=False) as live:
            stage = Stage(port, server, live)
            report = play(stage, instances)
            while not once:
                report = play(stage, instances)
        console.print()
        console.print("\n".join(f"seen: {line}" for line in report))


def main() -> int:
    """Play the demo; 1 if something that should be seen was not."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--once", action="store_true", help="play it once and end")
    once = parser.parse_args().once
    signal.signal(signal.SIGTERM, _interrupt)
    console = Console()
    with tempfile.TemporaryDirectory(prefix="meshd-demo-") as name:
        folder = Path(name)
        try:
            show(folder, console, once=once)
        except KeyboardInterrupt:
            console.print("stopped")
        except (TimeoutError, RuntimeError) as error:
            console.print(f"failed: {error}", style="bold red", markup=False)
            for log in sorted(folder.glob("*.log")):
                tail = log.read_text(errors="replace").splitlines()[-15:]
                console.print(f"--- {log.name}", *tail, sep="\n", markup=False)
            return 1
    return 0


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
