"""The cluster is one: what any core takes is in the answers of every way on every host."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from statistics import quantiles

from meshd import __version__
from tests.docker.cluster import CORES, WAYS, Cluster

NAME = "written.mesh.internal"
_WRITES = 120
# Two answerers share a port: that ten questions miss one of them is one chance in a thousand.
_IN_A_ROW = 10
# Far beyond what is promised (0.5 s): only that it arrives is tested, how fast is printed.
_ARRIVES_S = 20.0


def document(cluster: Cluster, address: str) -> str:
    """The topology of the example, and a service of one instance at an address."""
    example = (cluster.project.folder / "mesh.yaml").read_text()
    return f"""{example}
  written:
    name: {NAME}
    ports: {{http: 8080/tcp}}
instances:
  written-1: {{service: written, version: 1.0.0, pop: eu, address: {address}}}
"""


def test_instances_register_themselves(cluster: Cluster) -> None:
    for way in WAYS:
        assert sorted(cluster.answer(way)) == cluster.instances("eu")
        # Whoever is in no range of the example is near the others.
        assert sorted(cluster.answer(way, ecs="10.1.0.0/24")) == cluster.instances("us")


def test_every_core_knows_the_others(cluster: Cluster) -> None:
    for core in CORES:
        told = json.loads(cluster.meshctl(core, "nodes", "--json").stdout)["nodes"]
        assert sorted(each["node"]["name"] for each in told) == list(CORES)
        assert {each["node"]["version"] for each in told} == {__version__}


def test_a_client_reaches_an_instance_by_its_name(cluster: Cluster) -> None:
    url = "http://api.mesh.internal:8080/"
    assert "Directory listing" in cluster.run("client", "curl", "-fsS", "-m", "5", url)


def arrival(cluster: Cluster, way: str, address: str) -> float:
    """When all answerers behind a way were seen to have a new address.

    Each question comes from another port, hence to any of them.
    """
    give_up = time.monotonic() + _ARRIVES_S
    right, since = 0, 0.0
    while right < _IN_A_ROW:
        assert time.monotonic() < give_up, f"{way} does not have {address}"
        if cluster.answer(way, NAME) == [address]:
            since = since if right else time.monotonic()
            right += 1
        else:
            right = 0
        time.sleep(0.001)
    return since


def test_a_write_through_any_core_is_in_all_answers(cluster: Cluster, figures: list[str]) -> None:
    took: list[dict[str, float]] = []
    with ThreadPoolExecutor(len(WAYS)) as threads:
        for number, core in zip(range(_WRITES), cycle(CORES), strict=False):
            address = f"10.9.{number >> 8}.{number & 255}"
            text = document(cluster, address)
            began = time.monotonic()
            arrivals = {way: threads.submit(arrival, cluster, way, address) for way in WAYS}
            cluster.apply(core, text, force=True)
            took.append({way: each.result() - began for way, each in arrivals.items()})
    # The first has to make the name known, which some servers keep as unknown for seconds.
    del took[0]
    for way in WAYS:
        figures.append(f"{way:>10}: {line([each[way] for each in took])}")
    figures.append(f"{'all':>10}: {line([max(each.values()) for each in took])}")


def line(seconds: list[float]) -> str:
    """Quantiles of many measurements."""
    cuts = quantiles(seconds, n=100)
    return (
        f"a write through any core is in its answers after {cuts[49] * 1000:.0f} ms (p50), "
        f"{cuts[98] * 1000:.0f} ms (p99), {max(seconds) * 1000:.0f} ms (max of {len(seconds)})"
    )
