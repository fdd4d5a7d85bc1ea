"""The servers that are measured: meshd, gdnsd, and PowerDNS with different things behind it."""

import subprocess
from pathlib import Path

from tests.bench.workload import POPS, ZONE, Workload, document, write_gdnsd
from tests.servers.fronts import PowerDns
from tests.servers.install import find
from tests.servers.processes import Meshd, Server, free_port, wait_until
from tests.servers.queries import Asker, addresses


def cpu_s(pid: int) -> float:
    """CPU seconds of a process and all its threads so far, to the nanosecond."""
    found = 0
    for task in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        found += int(task.read_text().split()[0])
    return found / 1e9


def answers(port: int) -> bool:
    """True if a service has addresses."""
    try:
        return len(addresses(Asker("127.0.0.1").ask(port, f"svc0.{ZONE}", timeout_s=0.5))) == 4
    except Exception:  # noqa: BLE001 - not yet, whatever the reason
        return False


def start_meshd(load: Workload, folder: Path) -> Meshd:
    """meshd with one answerer, a table, and the workload's topology."""
    meshd = Meshd(folder, 1, "--table", str(folder / "data" / "answers"))
    try:
        meshd.start_ready()
        meshd.apply(document(load), timeout_s=300)
        wait_until("meshd answers", lambda: answers(meshd.dns_port), 60)
    except BaseException:
        meshd.stop()
        raise
    return meshd


class Gdnsd(Server):
    """gdnsd with the workload's map, one UDP thread."""

    def __init__(self, load: Workload, folder: Path) -> None:
        self.port = free_port()
        write_gdnsd(load, folder, self.port)
        program = find("gdnsd")
        assert program is not None, "asked for only where it is installed"
        super().__init__("gdnsd", [program, "-c", folder, "start"], folder)

    def start_ready(self) -> None:
        """Start it and wait until it answers."""
        self.start()
        wait_until("gdnsd answers", lambda: not self.is_running or answers(self.port), 60)
        if not self.is_running:
            raise RuntimeError(f"gdnsd ended: {self.tail()}")


class Constant(Server):
    """A remote backend in C that says always the same."""

    def __init__(self, folder: Path) -> None:
        program = folder / "constant"
        source = Path(__file__).with_name("constant.c")
        subprocess.run(["cc", "-O2", "-pthread", "-o", program, source], check=True)
        self.bridge = folder / "constant.sock"
        super().__init__("constant", [program, self.bridge], folder)

    def start_ready(self) -> None:
        """Start it and wait until it listens."""
        self.start()
        wait_until("the constant responder listens", self.bridge.exists)


def powerdns(folder: Path, bridge: Path) -> PowerDns:
    """PowerDNS as shipped, in front of a bridge."""
    folder.mkdir()
    made = PowerDns(folder, bridge)
    made.start_ready()
    wait_until("PowerDNS answers", lambda: answers(made.port))
    return made


def powerdns_lua(load: Workload, folder: Path) -> PowerDns:
    """PowerDNS with LUA records, one shared state, deciding by the client's network."""
    folder.mkdir()
    records = [
        f"$ORIGIN {ZONE}.",
        "@ 60 IN SOA ns1 h 1 3600 600 86400 5",
        "@ 60 IN NS ns1",
        "ns1 60 IN A 127.0.0.1",
    ]
    for service in range(load.services):
        lists = [
            "{" + ",".join(f"'{load.instance(service, pop, n)}'" for n in range(4)) + "}"
            for pop in POPS
        ]
        code = (
            f"if netmask({{'10.0.0.0/9'}}) then return {lists[0]} "
            f"elseif netmask({{'10.128.0.0/9'}}) then return {lists[1]} else return {lists[2]} end"
        )
        records.append(f'svc{service} 60 IN LUA A ";{code}"')
    (folder / "zone").write_text("\n".join(records) + "\n")
    (folder / "named.conf").write_text(f'zone "{ZONE}" {{ type master; file "{folder}/zone"; }};\n')
    settings = {
        "launch": "bind",
        "bind-config": str(folder / "named.conf"),
        "enable-lua-records": "shared",
    }
    made = PowerDns(folder, folder / "unused", settings)
    made.start_ready()
    wait_until("PowerDNS answers", lambda: answers(made.port))
    return made
