"""meshctl nodes and accept-store, against all that cores may say, and against two of them."""

import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from meshd.v1 import cluster_pb2 as pb
from meshd.v1 import cluster_pb2_grpc
from tests.servers.etcd import Etcd
from tests.servers.processes import ROOT, Meshd, free_port, wait_until

EMPTY = "the store is empty and new: meshctl accept-store takes it"


def status(name: str, **state: Any) -> pb.NodeStatus:
    node = pb.Node(name=name, address=f"{name}:7700", version="0.1", session="s")
    return pb.NodeStatus(node=node, state=pb.NodeState(**state) if state else None)


class Cluster(cluster_pb2_grpc.ClusterServicer):
    """Three cores: one is asked, one lags and waits for a word, one was never heard."""

    def __init__(self) -> None:
        asked = status("a", revision=12, store_age_s=0.2, services=2, answerers=["x", "y"])
        asked.is_asked = True
        late = status("b", revision=9, instances=4, alarm=EMPTY)
        late.heard_age_s = 0.5
        self.reply = pb.NodesResponse(
            store="etcd", store_id="cafe", nodes=[status("c"), late, asked]
        )
        self.accepted: list[str] = []
        self.others_wait = self.is_away = False

    def Nodes(self, request: pb.NodesRequest, context: Any) -> pb.NodesResponse:  # noqa: N802
        return self.reply

    def AcceptStore(  # noqa: N802
        self, request: pb.AcceptStoreRequest, context: Any
    ) -> pb.AcceptStoreResponse:
        if self.is_away:
            context.abort(grpc.StatusCode.UNAVAILABLE, "no quorum")
        if not any(each.state.alarm for each in self.reply.nodes):
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "there is nothing to accept")
        self.accepted.append(request.author)
        for each in self.reply.nodes:
            each.state.alarm = EMPTY if self.others_wait and not each.is_asked else ""
        return pb.AcceptStoreResponse(store_id="beef", revision=3)


@pytest.fixture
def cluster() -> Iterator[tuple[Cluster, str]]:
    """The servicer, and where it is."""
    servicer = Cluster()
    with ThreadPoolExecutor(2) as pool:
        server = grpc.server(pool)
        cluster_pb2_grpc.add_ClusterServicer_to_server(servicer, server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        yield servicer, f"127.0.0.1:{port}"
        server.stop(None).wait()


def meshctl(address: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "meshd.cli.meshctl", "--server", address, *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=30, stdin=subprocess.DEVNULL
    )


def test_nodes_as_a_table(cluster: tuple[Cluster, str]) -> None:
    done = meshctl(cluster[1], "nodes")
    # An alarm is shown, and is no failure of the question.
    assert (done.returncode, done.stderr) == (0, "")
    head, *rows, caption = [line.split() for line in done.stdout.splitlines()]
    assert head[:5] == ["node", "address", "meshd", "revision", "lag"]
    assert rows[0] == ["a", "*", "a:7700", "0.1", "12", "0", "0.2", "s", "-", "0", "0", "2",
                       "x", "y", "-"]  # fmt: skip
    assert rows[1][:8] == ["b", "b:7700", "0.1", "9", "3", "never", "0.5", "s"]
    assert " ".join(rows[1][-len(EMPTY.split()) :]) == EMPTY
    assert rows[2][:7] == ["c", "c:7700", "0.1", "-", "-", "-", "never"]
    assert " ".join(caption) == "3 cores, store etcd cafe, newest revision 12"


def test_the_first_core_that_is_there_is_asked(cluster: tuple[Cluster, str]) -> None:
    done = meshctl(f"127.0.0.1:{free_port()},{cluster[1]},127.0.0.1:{free_port()}", "nodes")
    assert (done.returncode, "store etcd cafe" in done.stdout) == (0, True)
    nobody = f"127.0.0.1:{free_port()},127.0.0.1:{free_port()}"
    done = meshctl(nobody, "nodes")
    assert (done.returncode, "cannot reach meshd at" in done.stderr) == (3, True)
    assert meshctl(",", "nodes").returncode == 2


def test_nodes_as_json(cluster: tuple[Cluster, str]) -> None:
    said = json.loads(meshctl(cluster[1], "nodes", "--json").stdout)
    assert {each["node"]["name"]: each["lag"] for each in said["nodes"]} == {
        "a": 0,
        "b": 3,
        "c": None,
    }
    assert said["nodes"][1]["state"]["alarm"] == EMPTY


def test_nodes_again_and_again(cluster: tuple[Cluster, str]) -> None:
    command = [sys.executable, "-m", "meshd.cli.meshctl", "--server", cluster[1]]
    with subprocess.Popen(
        [*command, "nodes", "--watch", "--json"], stdout=subprocess.PIPE, text=True
    ) as watching:
        assert watching.stdout is not None
        try:
            first = json.loads(watching.stdout.readline())
            cluster[0].reply.nodes[1].state.revision = 12
            second = json.loads(watching.stdout.readline())
        finally:
            watching.kill()
    assert [first["nodes"][1]["lag"], second["nodes"][1]["lag"]] == [3, 0]


def test_a_store_is_accepted_once_somebody_said_so(cluster: tuple[Cluster, str]) -> None:
    servicer, address = cluster
    done = meshctl(address, "accept-store")
    assert done.returncode == 1
    assert f"b (b:7700): {EMPTY}" in done.stdout
    assert "--yes" in done.stderr
    assert servicer.accepted == []
    done = meshctl(address, "accept-store", "--yes")
    assert (done.returncode, done.stderr) == (0, "")
    assert "accepted: store beef at revision 3" in done.stdout
    assert len(servicer.accepted) == 1
    assert "@" in servicer.accepted[0]
    done = meshctl(address, "accept-store", "--yes", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["error"] == "there is nothing to accept"
    servicer.is_away = True
    done = meshctl(address, "accept-store", "--yes")
    assert (done.returncode, done.stderr) == (3, f"meshctl: meshd at {address}: no quorum\n")


def test_who_still_waits_is_named(cluster: tuple[Cluster, str]) -> None:
    servicer, address = cluster
    servicer.others_wait = True
    done = meshctl(address, "accept-store", "--yes", "--json")
    assert json.loads(done.stdout)["waiting"] == ["b (b:7700)", "c (c:7700)"]
    done = meshctl(address, "accept-store", "--yes")
    assert "still waiting: b (b:7700), c (c:7700); they take the store when" in done.stdout


def seen(core: Meshd) -> dict[str, Any]:
    """What a core says of each node."""
    said = json.loads(core.meshctl("nodes", "--json").stdout)
    return {each["node"]["name"]: each for each in said["nodes"]}


@pytest.mark.integration
def test_a_wiped_store_and_two_cores(two: tuple[Etcd, Meshd, Meshd], tmp_path: Path) -> None:
    etcd, one, other = two
    one.apply((ROOT / "examples/quickstart/mesh.yaml").read_text())
    wait_until("both have it", lambda: {n["lag"] for n in seen(other).values()} == {0}, 30)
    nodes = seen(other)
    assert {name: each["node"]["address"] for name, each in nodes.items()} == {
        "a": one.grpc,
        "b": other.grpc,
    }
    assert [nodes[name]["is_asked"] for name in "ab"] == [False, True]
    wait_until("one decides", lambda: sum(_decided(other)) == 1, 30)
    etcd.wipe()
    wait_until("both see it", lambda: all(_alarms(one)) and all(_alarms(other)), 60)
    file = str(tmp_path / "held")
    assert "14 records" in other.meshctl("snapshot", "save", file).stdout
    refused = one.meshctl("instance", "down", "api-eu-1")
    assert (refused.returncode, "accept-store" in refused.stderr) == (3, True)
    assert "accepted" in one.meshctl("accept-store", "--yes").stdout
    done = one.meshctl("snapshot", "restore", file, "--yes")
    assert done.returncode == 0, done.stderr
    wait_until("nobody waits", lambda: not any(_alarms(one) + _alarms(other)), 60)
    assert "api-eu-1" in other.meshctl("get", "instances").stdout


def _alarms(core: Meshd) -> list[str]:
    return [each.get("state", {}).get("alarm", "?") for each in seen(core).values()]


def _decided(core: Meshd) -> list[int]:
    return [each.get("state", {}).get("services", 0) for each in seen(core).values()]
