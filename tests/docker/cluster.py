"""The cluster of examples/cluster, for tests that break it."""

import io
import subprocess
import sys
import tarfile
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import dns.message
import docker
import grpc

from meshd.v1 import topology_pb2, topology_pb2_grpc
from tests.docker.compose import Endpoint, read
from tests.docker.containers import Containers, free_subnets, remove_left
from tests.docker.images import TAG, TOOLS, Say
from tests.servers.processes import ROOT, wait_until
from tests.servers.queries import Asker, addresses

EXAMPLE = ROOT / "examples/cluster"
NAME = "api.mesh.internal"
ETCDS = ("etcd1", "etcd2", "etcd3")
CORES = ("core1", "core2", "core3")
# How a client can ask on each host: container and port.
HOSTS = {
    "answer1": {"native1": ("answer1", 5300), "powerdns": ("powerdns", 53)},
    "answer2": {"native2": ("answer2", 5300), "unbound": ("unbound", 53),
                "dnsdist": ("dnsdist", 53)},
}  # fmt: skip
WAYS = {way: where for ways in HOSTS.values() for way, where in ways.items()}
_SUBNETS = "10.213."
_RESTORE = (
    "etcdctl snapshot restore /tmp/snapshot --name $ETCD_NAME --data-dir /data/made "
    "--initial-cluster $ETCD_INITIAL_CLUSTER --initial-cluster-token {token} "
    "--initial-advertise-peer-urls $ETCD_INITIAL_ADVERTISE_PEER_URLS; mv /data/made/member /data/"
)
_READY_S = 120.0


class Cluster(Containers):
    """Three etcd, three cores, two hosts that answer, instances and a client.

    `folder` takes the files of the example; `changes` replaces text in them.
    """

    def __init__(
        self, engine: docker.DockerClient, folder: Path, changes: Mapping[str, str] | None = None
    ) -> None:
        remove_left(engine)
        self._changes = {_SUBNETS: free_subnets(engine), **(changes or {})}
        for file in EXAMPLE.iterdir():
            (folder / file.name).write_text(self.changed(file.read_text()))
        super().__init__(engine, read(folder / "compose.yaml", {"TAG": TAG}))
        self._cut: set[str] = set()
        self._renewals = 0

    def changed(self, text: str) -> str:
        """A text of the example with the addresses that the cluster has."""
        for old, new in self._changes.items():
            text = text.replace(old, new)
        return text

    def up(self, say: Say) -> None:
        """Start everything and wait until all ways answer."""
        say(f"starting {len(self.project.services)} containers")
        self.create()
        for name in (*ETCDS, *CORES):
            say(f"waiting for {name}")
            self.wait_healthy(name)
        for way in WAYS:
            say(f"waiting for {way}")
            wait_until(f"{way} has all instances", partial(self._is_complete, way), _READY_S)

    def _is_complete(self, way: str) -> bool:
        """True if clients of both pops get the instances of their own."""
        return sorted(self.answer(way)) == self.instances("eu") and sorted(
            self.answer(way, ecs="10.1.0.0/24")
        ) == self.instances("us")

    def instances(self, pop: str) -> list[str]:
        """The addresses of a pop's instances of `api`."""
        names = [name for name in self.project.services if name.startswith(f"api-{pop}-")]
        return sorted(self.addresses(name)["instances"] for name in names)

    def is_healthy(self, name: str) -> bool:
        """True if an etcd has a leader, or a core its data."""
        health = {"etcd": ":2379/health", "core": ":7780/readyz"}[name[:4]]
        try:
            self.http(name, health)
        except OSError:
            return False
        return True

    def wait_healthy(self, *names: str, timeout_s: float = _READY_S) -> None:
        """Wait until etcds have a leader, cores their data."""
        for name in names:
            wait_until(f"{name} is healthy", partial(self.is_healthy, name), timeout_s)

    def http(self, name: str, what: str) -> str:
        """GET `:PORT/PATH` of a container; OSError unless the answer is 200."""
        with urllib.request.urlopen(f"http://{self.address(name)}{what}", timeout=3) as reply:
            return str(reply.read().decode())

    # Asking.

    def ask(
        self, way: str, name: str = NAME, kind: str = "A", *, ecs: str = "", tcp: bool = False,
        timeout_s: float = 3.0,
    ) -> dns.message.Message:  # fmt: skip
        """Ask from this machine, as a client of a subnet; dns.exception.Timeout if none answers."""
        container, port = WAYS[way]
        server = self.addresses(container)["clients"]
        asker = Asker("0.0.0.0", ecs)
        return asker.ask(port, name, kind, tcp=tcp, timeout_s=timeout_s, server=server)

    def answer(self, way: str, name: str = NAME, ecs: str = "") -> list[str]:
        """The addresses of an answer, best first; none if it failed or did not come."""
        try:
            return addresses(self.ask(way, name, ecs=ecs))
        except (OSError, dns.exception.DNSException):
            return []

    def dig(self, way: str, *arguments: str) -> str:
        """What dig says in the client's container."""
        container, port = WAYS[way]
        server = self.addresses(container)["clients"]
        return self.run("client", "dig", f"@{server}", "-p", str(port), *arguments)

    # Changing.

    def target(self, core: str) -> str:
        """HOST:PORT of a core's gRPC, as this machine reaches it."""
        return f"{self.address(core)}:7700"

    @contextmanager
    def channel(self, core: str) -> Iterator[grpc.Channel]:
        """A channel to a core."""
        options = (("grpc.max_receive_message_length", 64 << 20),)
        with grpc.insecure_channel(self.target(core), options=options) as channel:
            yield channel

    def apply(self, core: str, text: str, *, force: bool = False, timeout_s: float = 10.0) -> int:
        """Apply a document; returns the revision. grpc.RpcError if it is refused."""
        request = topology_pb2.ApplyRequest(document=text, author="test", force=force)
        with self.channel(core) as channel:
            stub = topology_pb2_grpc.TopologyStub(channel)
            return int(stub.Apply(request, timeout=timeout_s).revision)

    def meshctl(self, core: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run meshctl of this machine against a core."""
        command = [sys.executable, "-m", "meshd.cli.meshctl", "--server", self.target(core)]
        return subprocess.run(
            [*command, *arguments], capture_output=True, text=True, check=False, cwd=ROOT,
            timeout=60,
        )  # fmt: skip

    # Breaking.

    def cut(self, one: str, other: str) -> None:
        """Lose every packet between two containers, both ways, until `heal`."""
        drop = "iptables -w -A {} {} {} -j DROP"
        self._in_network_of(one, "\n".join(
            drop.format(chain, way, address)
            for address in self.addresses(other).values()
            for chain, way in (("INPUT", "-s"), ("OUTPUT", "-d"))
        ))  # fmt: skip
        self._cut.add(one)

    def heal(self) -> None:
        """Let all packets pass again."""
        for name in self._cut:
            # One that was started anew has forgotten it.
            if self[name].status == "running":
                self._in_network_of(name, "iptables -w -F")
        self._cut.clear()

    def renew_etcd(self, snapshot: Path | None = None) -> None:
        """Start etcd anew as another cluster, empty or with what a snapshot of it holds."""
        self._renewals += 1
        token = f"renewed-{self._renewals}"
        for member in ETCDS:
            self.discard(member, wipe=True)
        for member in ETCDS:
            environment = self.project.services[member].environment
            if snapshot is not None:
                self._restore(member, snapshot.read_bytes(), token)
            self.begin(member, environment={**environment, "ETCD_INITIAL_CLUSTER_TOKEN": token})

    def _restore(self, member: str, snapshot: bytes, token: str) -> None:
        """Fill the data of a member that is not there."""
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            info = tarfile.TarInfo("snapshot")
            info.size = len(snapshot)
            archive.addfile(info, io.BytesIO(snapshot))
        made = self._make(member, {"command": ["sh", "-ec", _RESTORE.format(token=token)]})
        made.put_archive("/tmp", packed.getvalue())
        made.start()
        code = made.wait(timeout=60)["StatusCode"]
        if code:
            raise RuntimeError(f"{member} was not restored: {self.logs(member)}")
        self.discard(member)

    def skew(self, core: str, clock: str) -> None:
        """Start a core anew with a clock that is wrong by so much, as in `+10m`; empty: right."""
        self.discard(core)
        # Timers go on as they did: only the time of day is wrong.
        wrong = {
            "LD_PRELOAD": "/usr/$LIB/faketime/libfaketimeMT.so.1",
            "FAKETIME": clock,
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        self.begin(core, **({"image": TOOLS, "environment": wrong} if clock else {}))

    def start_twin(self, core: str) -> str:
        """Start another core that calls itself like one that is there; its container."""
        service = self.project.services[core]
        last = "29"
        networks = {
            name: Endpoint(ipv4_address=f"{str(end.ipv4_address).rpartition('.')[0]}.{last}")  # type: ignore[arg-type]
            for name, end in service.networks.items()
        }
        assert service.command is not None, "a core is told who it is"
        command = [
            word.replace(f"--advertise={core}", "--advertise=twin") for word in service.command
        ]
        changes = {"networks": networks, "command": command, "volumes": ["twin:/var/lib/meshd"]}
        self.project.services["twin"] = service.model_copy(update=changes)
        self.begin("twin")
        return "twin"

    def _in_network_of(self, name: str, script: str) -> None:
        self.engine.containers.run(
            TOOLS, ["sh", "-ec", script], network_mode=f"container:{self[name].id}",
            cap_add=["NET_ADMIN"], user="root", remove=True, labels=self._labels,
        )  # fmt: skip
