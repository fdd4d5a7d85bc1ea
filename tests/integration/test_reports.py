"""What clients report, from a stream to a DNS answer, through the processes as they are."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import pytest

from meshd.v1 import reporter_pb2 as pb
from meshd.v1 import reporter_pb2_grpc
from tests.servers.processes import Meshd, wait_until
from tests.servers.queries import Asker, addresses

pytestmark = pytest.mark.integration

NAMES = [f"api-{n}" for n in range(1, 5)]
DOCUMENT = """
zones: {mesh.internal: {ns: [{ns1.mesh.internal: [127.0.0.1]}], contact: a@mesh.internal}}
pops: {eu: {}}
ranges: {0.0.0.0/0: eu}
services: {api: {name: api.mesh.internal, ports: {http: 80/tcp}}}
instances:
""" + "".join(
    f"  {name}: {{service: api, version: 1.2.0, pop: eu, address: 10.1.0.{n}}}\n"
    for n, name in enumerate(NAMES, start=1)
)


@pytest.fixture
def meshd(tmp_path: Path) -> Iterator[Meshd]:
    made = Meshd(tmp_path, 1)
    made.start_ready()
    made.apply(DOCUMENT)
    yield made
    made.stop()


def batches(name: str, failing: str) -> Iterator[Any]:
    """A reporter to whom all calls to one instance fail."""
    while True:
        outcomes = [
            pb.Outcomes(instance=each, attempts=20, failures=20 * (each == failing))
            for each in NAMES
        ]
        yield pb.ReportRequest(reporter=name, window_s=2, outcomes=outcomes)
        time.sleep(2)


def report(channel: grpc.Channel, failing: str) -> Sequence[Any]:
    """Three reporters that go on until they are cancelled."""
    stub = reporter_pb2_grpc.ReporterStub(channel)
    return [stub.Report(batches(f"r{n}", failing)) for n in range(3)]


def answered(meshd: Meshd) -> set[str]:
    return set(addresses(Asker("127.0.0.1").ask(meshd.dns_port, "api.mesh.internal")))


def test_what_clients_see_fail_is_answered_no_more(meshd: Meshd) -> None:
    all_four = {f"10.1.0.{n}" for n in range(1, 5)}
    wait_until("all are answered", lambda: answered(meshd) == all_four)
    with meshd.channel() as channel:
        calls = report(channel, "api-2")
        wait_until("it is out", lambda: answered(meshd) == all_four - {"10.1.0.2"})
        # Out whatever becomes of the core: the answerer has it, and the next core too.
        meshd.kill_core()
        assert answered(meshd) == all_four - {"10.1.0.2"}
        for call in calls:
            call.cancel()
    wait_until("a core is back", meshd.is_ready)
    wait_until("it comes back by itself", lambda: answered(meshd) == all_four)
    shown = meshd.meshctl("top", "--once").stdout
    assert "success" in shown
