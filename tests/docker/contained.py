"""The nodes of the cluster in containers, for the rows that break them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.docker.cluster import CORES, ETCDS, Cluster
from tests.docker.nodes import HOSTS, PATIENCE_MS, QUOTA, Nodes
from tests.docker.probe import INSTANCES_TEXT, SERVICES_TEXT, Way
from tests.servers.processes import ROOT


def prepare(cluster: Cluster) -> None:
    """What the rows need and the example does not, before the cluster is started."""
    services = cluster.project.services
    patient = {
        "unbound": ("unbound/meshd_unbound.toml", "/etc/unbound/meshd_unbound.toml",
                    "timeout-ms = 50", f"timeout-ms = {PATIENCE_MS}"),
        "powerdns": ("powerdns/meshd.conf", "/etc/powerdns/pdns.d/meshd.conf",
                     "timeout=200", f"timeout={PATIENCE_MS}"),
    }  # fmt: skip
    for name, (shipped, place, old, new) in patient.items():
        text = (ROOT / "integrations" / shipped).read_text()
        assert old in text
        made = cluster.project.folder / Path(shipped).name
        made.write_text(text.replace(old, new))
        _change(cluster, name, volumes=[*services[name].volumes, f"./{made.name}:{place}:ro"])
    for core in CORES:
        others = ",".join(f"{each}:7700" for each in CORES if each != core)
        more = ["--dns=0.0.0.0:5300", "--ecs-from=10.0.0.0/8", f"--core={others}"]
        command = [*(services[core].command or ()), *more]
        _change(cluster, core, command=command)
    for member in ETCDS:
        quota = {"ETCD_QUOTA_BACKEND_BYTES": str(QUOTA)}
        _change(cluster, member, environment={**services[member].environment, **quota})


def _change(cluster: Cluster, name: str, **update: Any) -> None:
    services = cluster.project.services
    services[name] = services[name].model_copy(update=update)


class Contained(Nodes):
    """The cluster in an engine on this machine: its processes can be signalled from here."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        native = [Way(f"{node} udp", node, self._dns(node), 5300) for node in (*CORES, *HOSTS)]
        self.ways = (
            *native,
            Way("answer1 tcp", "answer1", self._dns("answer1"), 5300, tcp=True),
            Way("powerdns", "answer1", self._dns("powerdns"), 53),
            Way("unbound", "answer2", self._dns("unbound"), 53),
            Way("dnsdist", "answer2", self._dns("dnsdist"), 53),
        )

    def _dns(self, node: str) -> str:
        """Where a node is asked: in a network whose clients are in the pop `eu`."""
        found = self.cluster.addresses(node)
        return found.get("clients") or found["instances"]

    def addresses(self, node: str) -> Sequence[str]:
        """Those in all of its networks."""
        return tuple(self.cluster.addresses(node).values())

    def document(self) -> str:
        """The topology of the example, and what is written here."""
        example = (self.cluster.project.folder / "mesh.yaml").read_text()
        return f"{example}{SERVICES_TEXT}{INSTANCES_TEXT}"

    def pid(self, node: str) -> int:
        """The first process of the container."""
        return self.cluster.pid(node)

    def is_running(self, node: str) -> bool:
        """True until it ended."""
        return bool(self.cluster[node].status == "running")

    def start(self, node: str) -> None:
        """Start its container."""
        self.cluster.start(node)

    def kill(self, node: str) -> None:
        """Kill its container."""
        self.cluster.kill(node)

    def pause(self, node: str) -> None:
        """Freeze its container."""
        self.cluster.pause(node)

    def resume(self, node: str) -> None:
        """Let it go on."""
        self.cluster.unpause(node)

    def renew_etcd(self, restored: Path | None = None) -> None:
        """New containers with empty volumes, or with what a snapshot holds."""
        self.cluster.renew_etcd(restored)

    def start_twin(self, name: str) -> str:
        """A container beside the others, with a volume of its own."""
        return self.cluster.start_twin(name)

    def skew(self, core: str, clock: str) -> None:
        """The same container with a clock that is wrong."""
        self.cluster.skew(core, clock)

    def build(self) -> None:
        """The topology of the rows, once it can be written."""
        self.apply(CORES[0], self.document())
