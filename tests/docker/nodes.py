"""The nodes of a cluster, of whatever they are made: what a fault test does to them."""

import json
import os
import signal
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import grpc

from meshd.v1 import cluster_pb2, cluster_pb2_grpc, topology_pb2, topology_pb2_grpc
from tests.docker.probe import Way
from tests.servers.install import find
from tests.servers.processes import ROOT, children, command_line, wait_until

ETCDS = ("etcd1", "etcd2", "etcd3")
CORES = ("core1", "core2", "core3")
HOSTS = ("answer1", "answer2")
# Of the service `api`; they register themselves.
INSTANCES = ("api-eu-1", "api-eu-2")
# So small that a test can fill it.
QUOTA = 32 << 20
# How long DNS servers wait for meshd. Shipped is less: so many processes on few CPUs take longer,
# fault or no fault, and the question here is whether there is an answer and which.
PATIENCE_MS = 1000


class Nodes(ABC):
    """Three etcd, three cores and two answer hosts, reachable from here by their addresses."""

    ways: Sequence[Way]
    # Those behind which is one process.
    single: frozenset[str] = frozenset()

    @abstractmethod
    def addresses(self, node: str) -> Sequence[str]:
        """The addresses of a node, the one first at which it is reached from here."""

    @abstractmethod
    def pid(self, node: str) -> int:
        """The first process of a node, as it is numbered here."""

    @abstractmethod
    def start(self, node: str) -> None:
        """Start a node that was killed, with the data it had."""

    @abstractmethod
    def renew_etcd(self, restored: Path | None = None) -> None:
        """End etcd and start it as another cluster, empty or with what a snapshot holds."""

    @abstractmethod
    def start_twin(self, name: str) -> str:
        """Start another core that calls itself like one that runs; the node that it is."""

    @abstractmethod
    def skew(self, core: str, clock: str) -> None:
        """Start a core anew with a clock that is wrong by so much, as in `+10m`; empty: right."""

    @property
    def steady(self) -> Mapping[str, frozenset[str]]:
        """What registered itself."""
        return {"api": frozenset(self.addresses(node)[0] for node in INSTANCES)}

    @property
    def cores(self) -> Mapping[str, str]:
        """Core -> where its gRPC is."""
        return {core: f"{self.addresses(core)[0]}:7700" for core in CORES}

    def pids(self, node: str) -> list[int]:
        """All processes of a node, the first one first."""
        found = [self.pid(node)]
        for pid in found:
            found.extend(children(pid))
        return found

    def signal(self, node: str, number: int, module: str = "") -> None:
        """Signal all processes of a node, or only those that run a module."""
        for pid in self.pids(node):
            if f"-m {module} " in command_line(pid) or not module:
                # A child may end with its parent.
                with suppress(ProcessLookupError):
                    os.kill(pid, number)

    def pause(self, node: str) -> None:
        """Let a node hang, all of it."""
        self.signal(node, signal.SIGSTOP)

    def resume(self, node: str) -> None:
        """Let it go on."""
        self.signal(node, signal.SIGCONT)

    def kill(self, node: str) -> None:
        """End a node as a power cut would."""
        self.signal(node, signal.SIGKILL)
        wait_until(f"{node} has gone", lambda: not self.is_running(node))

    @abstractmethod
    def is_running(self, node: str) -> bool:
        """True until it ended."""

    @contextmanager
    def gone(self, *nodes: str) -> Iterator[None]:
        """Nodes are without power in the block."""
        for node in nodes:
            self.kill(node)
        try:
            yield
        finally:
            for node in nodes:
                self.start(node)

    @contextmanager
    def paused(self, *nodes: str) -> Iterator[None]:
        """Nodes hang in the block, all of each."""
        for node in nodes:
            self.pause(node)
        try:
            yield
        finally:
            for node in nodes:
                self.resume(node)

    @contextmanager
    def hanging(self, core: str) -> Iterator[None]:
        """The core of a node hangs in the block; its answerers go on."""
        self.signal(core, signal.SIGSTOP, "meshd.daemon")
        try:
            yield
        finally:
            self.signal(core, signal.SIGCONT, "meshd.daemon")

    @contextmanager
    def apart(self, some: Sequence[str], others: Sequence[str]) -> Iterator[None]:
        """Nothing passes between some nodes and others in the block, in either direction."""
        for node in some:
            for address in (each for other in others for each in self.addresses(other)):
                for chain, end in (("INPUT", "-s"), ("OUTPUT", "-d")):
                    self._iptables(node, "-A", chain, end, address, "-j", "DROP")
        try:
            yield
        finally:
            for node in some:
                self._iptables(node, "-F")

    def _iptables(self, node: str, *arguments: str) -> None:
        inside = ["nsenter", "-t", str(self.pid(node)), "-n"]
        subprocess.run([*inside, "iptables", "-w", *arguments], check=True, timeout=20)

    def etcdctl(self, *arguments: str, members: Sequence[str] = ETCDS, given: str = "") -> str:
        """What etcdctl says; `given` is its input."""
        where = ",".join(f"{self.addresses(member)[0]}:2379" for member in members)
        program = find("etcdctl")
        assert program is not None
        command = [program, f"--endpoints={where}", "--command-timeout=10s", *arguments]
        environment = {**os.environ, "ETCDCTL_API": "3"}
        done = subprocess.run(
            command, env=environment, input=given, capture_output=True, text=True, check=False,
            timeout=60,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"etcdctl {arguments}: {done.stderr.strip()[-500:]}")
        return done.stdout

    def is_healthy(self, member: str) -> bool:
        """True if an etcd serves reads and writes."""
        try:
            self.etcdctl("endpoint", "health", members=[member])
        except RuntimeError:
            return False
        return True

    def leader(self) -> str:
        """The etcd that leads, waited for."""
        found: list[str] = []

        def look() -> bool:
            found[:] = [member for member in ETCDS if self._leads(member)]
            return len(found) == 1

        wait_until("etcd has one leader", look, 30)
        return found[0]

    def _leads(self, member: str) -> bool:
        try:
            told = self.etcdctl("endpoint", "status", "-w", "json", members=[member])
        except RuntimeError:
            return False
        status = json.loads(told)[0]["Status"]
        return bool(status["leader"] == status["header"]["member_id"])

    @contextmanager
    def filled_up(self) -> Iterator[None]:
        """The quota of etcd is used up in the block; then an operator makes room."""
        try:
            for number in range(2 * QUOTA >> 20):
                self.etcdctl("put", f"/junk/{number}", given="x" * (1 << 20))
        except RuntimeError as error:
            assert "space exceeded" in str(error), error
        else:
            raise AssertionError("etcd takes more than its quota")
        try:
            yield
        finally:
            self.etcdctl("del", "/junk/", "--prefix")
            self.etcdctl("compact", str(self.revision()))
            self.etcdctl("defrag")
            self.etcdctl("alarm", "disarm")

    def revision(self) -> int:
        """The newest revision of etcd."""
        return int(json.loads(self.etcdctl("get", "-", "-w", "json"))["header"]["revision"])

    def meshctl(self, core: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run meshctl against a core."""
        server = f"{self.addresses(core)[0]}:7700"
        command = [sys.executable, "-m", "meshd.cli.meshctl", "--server", server, *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=60
        )

    def must(self, core: str, *arguments: str) -> str:
        """What meshctl says; it has to succeed."""
        done = self.meshctl(core, *arguments)
        assert done.returncode == 0, f"meshctl {arguments}: {done.stdout}{done.stderr}"
        return done.stdout

    @contextmanager
    def channel(self, core: str) -> Iterator[grpc.Channel]:
        """A channel to a core."""
        options = (("grpc.max_receive_message_length", 64 << 20),)
        with grpc.insecure_channel(self.cores[core], options=options) as channel:
            yield channel

    def state(self, core: str) -> cluster_pb2.NodeState:
        """How a core is, as it says itself."""
        where = f"{self.addresses(core)[0]}:7700"
        with grpc.insecure_channel(where) as channel:
            request = cluster_pb2.NodesRequest()
            reply = cluster_pb2_grpc.ClusterStub(channel).Nodes(request, timeout=5)
        found: cluster_pb2.NodeState = next(each.state for each in reply.nodes if each.is_asked)
        return found

    def apply(self, core: str, document: str) -> int:
        """Apply a document through a core; the revision."""
        request = topology_pb2.ApplyRequest(document=document, author="test", force=True)
        with self.channel(core) as channel:
            return int(topology_pb2_grpc.TopologyStub(channel).Apply(request, timeout=10).revision)
