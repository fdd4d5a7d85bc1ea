"""From a change to the answer: how long until clients are answered differently."""

import itertools
import time
from pathlib import Path
from statistics import quantiles

from meshd.core.model import Force, Override
from meshd.v1 import topology_pb2, topology_pb2_grpc
from meshd.wire.messages import record_to_message
from tests.bench.measure import Row
from tests.integration.topology import running
from tests.servers.processes import Meshd
from tests.servers.queries import Asker, addresses

_ASKER = Asker("127.0.1.9")
_NAME = "api.mesh.internal"
_CHANGES = 200


def change_rows(folder: Path) -> list[Row]:
    """An instance forced down and freed by turns, each seen in answers of the DNS listener."""
    with running(folder) as meshd, meshd.channel() as channel:
        stub = topology_pb2_grpc.TopologyStub(channel)
        took = sorted(_seen_after(meshd, stub, n % 2 == 0) for n in range(_CHANGES))
    cuts = quantiles(took, n=100)
    p50, p99 = cuts[49] * 1000, cuts[98] * 1000
    detail = f"p50 {p50:.0f} ms, p99 {p99:.0f} ms of {_CHANGES} changes"
    return [Row("change to answer, p99 : 250 ms", p99 / 250, "<= 1", p99 <= 250, detail)]


def _seen_after(meshd: Meshd, stub: topology_pb2_grpc.TopologyStub, down: bool) -> float:
    """Seconds from the request to the first answer that shows it, at each answerer's turn."""
    edit = topology_pb2.Edit(kind="overrides", name="api-eu-1")
    if down:
        edit.record.CopyFrom(record_to_message(Override("api-eu-1", Force.DOWN)))
    began = time.perf_counter()
    stub.Commit(topology_pb2.CommitRequest(edits=[edit], author="bench"), timeout=10)
    for _ in itertools.count():
        found = addresses(_ASKER.ask(meshd.dns_port, _NAME))
        if ("10.1.0.1" in found) != down:
            break
    return time.perf_counter() - began
