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
from processes import HERE, Processes, find, free_port, wait_until
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

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


def play(stage: Stage, processes: Processes) -> list[str]:
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
    processes.kill(victim)
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
    name, version, pop = INSTANCES[address]
    processes.start_instance(name, version, pop, address)
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


def set_up(processes: Processes, console: Console) -> tuple[int, str]:
    """Start everything; returns the port to ask and whose it is."""
    processes.start_meshd()
    wait_until("meshd is ready", processes.is_ready)
    console.print(processes.meshctl("apply", "-f", str(HERE / "mesh.yaml"), "--yes"))
    for address, (name, version, pop) in INSTANCES.items():
        processes.start_instance(name, version, pop, address)
    if find("pdns_server"):
        port = free_port()
        processes.start_powerdns(port)
        return port, "PowerDNS, which asks meshd"
    console.print("PowerDNS is not installed: asking meshd's own DNS listener.")
    return processes.dns_port, "meshd itself"


def main() -> int:
    """Play the demo; 1 if something that should be seen was not."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--once", action="store_true", help="play it once and end")
    once = parser.parse_args().once
    signal.signal(signal.SIGTERM, _interrupt)
    console = Console()
    with tempfile.TemporaryDirectory(prefix="meshd-demo-") as folder:
        processes = Processes(Path(folder))
        try:
            port, server = set_up(processes, console)
            with Live(console=console, auto_refresh=False) as live:
                stage = Stage(port, server, live)
                report = play(stage, processes)
                while not once:
                    report = play(stage, processes)
            console.print("\n".join(f"seen: {line}" for line in report))
        except KeyboardInterrupt:
            console.print("stopped")
        except (TimeoutError, RuntimeError) as error:
            console.print(f"failed: {error}", style="bold red")
            for log in sorted(Path(folder).glob("*.log")):
                tail = log.read_text(errors="replace").splitlines()[-15:]
                console.print(f"--- {log.name}", *tail, sep="\n", markup=False)
            return 1
        finally:
            with contextlib.suppress(KeyboardInterrupt):
                processes.stop()
    return 0


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
