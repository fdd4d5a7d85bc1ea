"""The cluster without containers: each node is processes in a network namespace of its own."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import grpc

from tests.docker.nodes import CORES, ETCDS, HOSTS, INSTANCES, PATIENCE_MS, QUOTA, Nodes
from tests.docker.probe import INSTANCES_TEXT, NAMES, SERVICES_TEXT, TEXT, Way
from tests.servers.fronts import Dnsdist, PowerDns, unbound_module
from tests.servers.install import find
from tests.servers.processes import Server, children, wait_until

# As each run calls its own, which are known by the process that made them.
_MARK = "mt"
_BRIDGE = f"{_MARK}{os.getpid()}"
_HOSTS = {
    **{name: 11 + at for at, name in enumerate(ETCDS)},
    **{name: 21 + at for at, name in enumerate(CORES)},
    **{name: 31 + at for at, name in enumerate(HOSTS)},
    "twin": 41,
    **{name: 51 + at for at, name in enumerate(INSTANCES)},
}
_MEMORY = Path("/dev/shm")
# Words before the command of a node: ip netns exec NAME.
_INSIDE = 4


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=20)


def _let_pass(action: str, bridge: str) -> None:
    """A docker engine lets this kernel drop what passes between ports of a bridge."""
    rule = ["FORWARD", "-i", bridge, "-o", bridge, "-j", "ACCEPT"]
    subprocess.run(["iptables", "-w", action, *rule], check=True, capture_output=True, timeout=20)


def _listed(*arguments: str) -> list[dict[str, Any]]:
    told = subprocess.run(
        ["ip", "-j", *arguments], check=True, capture_output=True, text=True, timeout=20
    )
    found: list[dict[str, Any]] = json.loads(told.stdout or "[]")
    return found


def _free_net() -> str:
    """`10.N.0`, to which this machine has no route yet."""
    taken = {str(route["dst"]).split(".")[1] for route in _listed("route") if "." in route["dst"]}
    return next(f"10.{number}.0" for number in range(150, 200) if str(number) not in taken)


def _remove(bridge: str) -> None:
    """Take away the namespaces of a run."""
    for each in _listed("netns"):
        if each["name"].startswith(f"{bridge}-"):
            _ip("netns", "del", each["name"])
    with suppress(subprocess.CalledProcessError):
        _let_pass("-D", bridge)
    with suppress(subprocess.CalledProcessError):
        _ip("link", "del", bridge)


def _remove_left() -> None:
    """Take away what runs left that are no more."""
    for bridge in {each["name"].partition("-")[0] for each in _listed("netns")}:
        pid = bridge.removeprefix(_MARK)
        if bridge != pid and pid.isdigit() and not Path(f"/proc/{pid}").exists():
            _remove(bridge)


def _is_known(way: Way) -> bool:
    return way.ask(NAMES[0]).rcode == "NOERROR"


def why_not() -> str:
    """Why namespaces cannot be had here; empty if they can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    missing = [name for name in ("ip", "iptables", "nsenter", "etcd", "etcdctl") if not find(name)]
    if missing:
        return f"not installed: {', '.join(missing)}"
    try:
        _ip("netns", "add", f"{_BRIDGE}-try")
        _ip("netns", "del", f"{_BRIDGE}-try")
    except subprocess.CalledProcessError as error:
        return f"no network namespace can be made: {error.stderr.decode().strip()}"
    return ""


class Namespaces(Nodes):
    """The cluster on one bridge; processes are ended by their ids, namespaces go at the end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        where = _MEMORY if os.access(_MEMORY, os.W_OK) else folder
        # etcd waits for its disk at each write.
        self._disks = Path(tempfile.mkdtemp(prefix="meshd-cluster-", dir=where))
        self._servers: dict[str, list[Server]] = {}
        self._generation = 0
        self._net = _free_net()

    def addresses(self, node: str) -> Sequence[str]:
        """Its one address."""
        return (f"{self._net}.{_HOSTS[node]}",)

    def pid(self, node: str) -> int:
        """The first process of the node."""
        return self._servers[node][0].pid

    def pids(self, node: str) -> list[int]:
        """Those of its DNS servers too."""
        found = [server.pid for server in self._servers[node] if server.is_running]
        for pid in found:
            found.extend(children(pid))
        return found

    def is_running(self, node: str) -> bool:
        """True if one of its processes runs."""
        return any(server.is_running for server in self._servers[node])

    def start(self, node: str) -> None:
        """Start all that belongs to a node."""
        for server in self._servers[node]:
            if not server.is_running:
                server.start()

    def build(self) -> None:
        """Start everything and wait until it is ready."""
        _remove_left()
        _ip("link", "add", _BRIDGE, "type", "bridge")
        _ip("addr", "add", f"{self._net}.1/24", "dev", _BRIDGE)
        _ip("link", "set", _BRIDGE, "up")
        _let_pass("-I", _BRIDGE)
        for node in _HOSTS:
            self._add_namespace(node)
        self._make()
        for member in ETCDS:
            self.start(member)
        for member in ETCDS:
            wait_until(f"{member} is healthy", partial(self.is_healthy, member), 60)
        for node in (*CORES, *HOSTS):
            self._servers[node][0].start()
        wait_until("the document is applied", self._is_applied, 60)
        for host in HOSTS:
            way = next(way for way in self.ways if way.host == host)
            # PowerDNS ends at once if there is no zone.
            wait_until(f"{host} answers", partial(_is_known, way), 60)
            self.start(host)
        for node in INSTANCES:
            self.start(node)

    def _is_applied(self) -> bool:
        try:
            return self.apply(next(iter(self.cores)), f"{TEXT}{SERVICES_TEXT}{INSTANCES_TEXT}") > 0
        except grpc.RpcError:
            return False

    def _add_namespace(self, node: str) -> None:
        name, link = f"{_BRIDGE}-{node}", f"{_BRIDGE}v{_HOSTS[node]}"
        _ip("netns", "add", name)
        _ip("link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", name)
        _ip("link", "set", link, "master", _BRIDGE, "up")
        _ip("-n", name, "addr", "add", f"{self.addresses(node)[0]}/24", "dev", "eth0")
        for device in ("eth0", "lo"):
            _ip("-n", name, "link", "set", device, "up")

    def _add(self, node: str, server: Server) -> None:
        server._command[:0] = ["ip", "netns", "exec", f"{_BRIDGE}-{node}"]
        self._servers.setdefault(node, []).append(server)

    def _folder(self, name: str) -> Path:
        made = self.folder / name
        made.mkdir(exist_ok=True)
        return made

    def _make(self) -> None:
        for member in ETCDS:
            self._add(member, Server(member, self._etcd(member), self._folder(member)))
        for core in CORES:
            self.add_core(core, core)
        everywhere = ",".join(self.cores.values())
        for node in INSTANCES:
            command = [sys.executable, "-m", "tests.docker.instance", node,
                       self.addresses(node)[0], everywhere]  # fmt: skip
            self._add(node, Server(node, command, self._folder(node)))
        for host in HOSTS:
            data = self._folder(host) / "data"
            more = ["--core", everywhere, "--table", str(data / "answers")]
            self._add(host, self._meshd("answer", host, more))
        bridge = self.folder / "answer1/data/bridge.sock"
        settings = {
            "local-address": self.addresses("answer1")[0],
            "remote-connection-string": f"unix:path={bridge},timeout={PATIENCE_MS}",
        }
        powerdns = PowerDns(self._folder("powerdns"), bridge, settings)
        self._add("answer1", powerdns)
        address = self.addresses("answer2")[0]
        unbound = unbound_module(
            self._folder("unbound"),
            self.folder / "answer2/data/bridge.sock",
            f"    interface: {address}\n    access-control: {self._net}.0/24 allow_snoop\n",
            {"timeout-ms = 50": f"timeout-ms = {PATIENCE_MS}"},
        )
        dnsdist = Dnsdist(
            self._folder("dnsdist"),
            5300,
            self.folder / "answer2/data/answers",
            f'addLocal("{address}:5353")\nsetACL({{"{self._net}.0/24"}})',
        )
        self._add("answer2", unbound)
        self._add("answer2", dnsdist)
        native = [Way(f"{node} udp", node, self.addresses(node)[0], 5300) for node in CORES + HOSTS]
        first, second = self.addresses("answer1")[0], address
        self.ways = (
            *native,
            Way("answer1 tcp", "answer1", first, 5300, tcp=True),
            Way("powerdns", "answer1", first, powerdns.port),
            Way("unbound", "answer2", second, unbound.port),
            Way("dnsdist", "answer2", second, 5353),
        )
        self.single = frozenset(way.name for way in self.ways)

    def start_twin(self, name: str) -> str:
        """Start another core that calls itself like one that runs; the node that it is."""
        self.add_core("twin", name)
        self.start("twin")
        return "twin"

    def skew(self, core: str, clock: str) -> None:
        """Start a core anew with a clock that is wrong by so much, as in `+10m`; empty: right."""
        self.kill(core)
        (server,) = self._servers[core]
        server._environment.pop("LD_PRELOAD", None)
        if clock:
            (library,) = Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")
            server._environment |= {
                "LD_PRELOAD": str(library),
                "FAKETIME": clock,
                "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            }
        self.start(core)

    def add_core(self, node: str, name: str) -> None:
        """A core at a node; `name` is what it calls itself."""
        where = self.addresses(node)[0]
        etcd = ",".join(f"{self.addresses(member)[0]}:2379" for member in ETCDS)
        others = ",".join(at for core, at in self.cores.items() if core != name)
        more = ["--store", "etcd", "--etcd", etcd, "--grpc", f"{where}:7700", "--insecure",
                "--http", f"{where}:7780", "--core", others]  # fmt: skip
        self._add(node, self._meshd("serve", node, more, name))

    def _meshd(self, role: str, node: str, more: Sequence[str], name: str = "") -> Server:
        where = self.addresses(node)[0]
        folder = self._folder(node)
        command = [sys.executable, "-m", "meshd.cli.meshd", role, "--data", str(folder / "data"),
                   "--node", name or node, "--dns", f"127.0.0.1:5300,{where}:5300",
                   "--answerers", "1", "--ecs-from", f"{self._net}.0/24"]  # fmt: skip
        return Server(node, [*command, *more], folder)

    def _etcd(self, member: str) -> list[str]:
        program = find("etcd")
        assert program is not None
        at = {each: f"http://{self.addresses(each)[0]}" for each in ETCDS}
        return [program, "--name", member, "--data-dir", str(self._disks / member),
                "--listen-client-urls", f"{at[member]}:2379",
                "--advertise-client-urls", f"{at[member]}:2379",
                "--listen-peer-urls", f"{at[member]}:2380",
                "--initial-advertise-peer-urls", f"{at[member]}:2380",
                f"--quota-backend-bytes={QUOTA}", "--logger", "zap", "--log-outputs", "stderr",
                *self._initial()]  # fmt: skip

    def _initial(self) -> list[str]:
        peers = ",".join(f"{each}=http://{self.addresses(each)[0]}:2380" for each in ETCDS)
        token = f"{self._disks.name}-{self._generation}"
        return ["--initial-cluster", peers, "--initial-cluster-token", token]

    def stop(self) -> None:
        """End everything."""
        for node in self._servers:
            for server in self._servers[node]:
                self._end(server)
        _remove(_BRIDGE)
        shutil.rmtree(self._disks, ignore_errors=True)

    def _end(self, server: Server) -> None:
        if not server.is_running:
            return
        for pid in [server.pid, *children(server.pid)]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        server.stop()

    def renew_etcd(self, restored: Path | None = None) -> None:
        """End etcd and start it as another cluster, empty or with what a snapshot holds."""
        for member in ETCDS:
            self.kill(member)
            shutil.rmtree(self._disks / member)
        self._generation += 1
        for member in ETCDS:
            if restored:
                self._restore(member, restored)
            (server,) = self._servers[member]
            server._command[_INSIDE:] = self._etcd(member)
            self.start(member)

    def _restore(self, member: str, snapshot: Path) -> None:
        program = find("etcdutl") or find("etcdctl") or ""
        peer = ["--initial-advertise-peer-urls", f"http://{self.addresses(member)[0]}:2380"]
        command = [program, "snapshot", "restore", str(snapshot), "--name", member,
                   "--data-dir", str(self._disks / member), *self._initial(), *peer]  # fmt: skip
        environment = {**os.environ, "ETCDCTL_API": "3"}
        subprocess.run(command, env=environment, check=True, timeout=60, capture_output=True)
