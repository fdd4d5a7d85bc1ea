"""The core that moves a rollout dies at each step: each is made once, in order, by somebody."""

import os
import signal
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import grpc
import pytest

from meshd.core.vantage import decider
from meshd.v1 import records_pb2, rollout_pb2, rollout_pb2_grpc, topology_pb2, topology_pb2_grpc
from tests.integration.test_several_cores import Core
from tests.servers.etcd import Etcd, program
from tests.servers.processes import Meshd, wait_until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

PERCENTS = (1, 5, 25, 50, 100)
HOLD_S = 2.0
DOCUMENT = """
zones: {mesh.internal: {ns: [{ns1.mesh.internal: [127.0.0.1]}], contact: a@mesh.internal}}
pops: {eu: {}}
ranges: {0.0.0.0/0: eu}
services: {api: {name: api.mesh.internal, ports: {http: 80/tcp}, version: 1.2.0}}
instances:
  old: {service: api, version: 1.2.0, pop: eu, address: 10.1.0.1}
  new: {service: api, version: 1.3.0, pop: eu, address: 10.1.0.2}
"""
WANTED = [
    "rollout api begun",
    *(f"rollout r step {step}: {PERCENTS[step - 1]} %" for step in range(2, 6)),
    "rollout r done: done: all gates hold",
]


def begin(core: Meshd) -> None:
    course = records_pb2.Course(
        steps=[records_pb2.Step(percent=percent, hold_s=HOLD_S) for percent in PERCENTS],
        gates=["none"],
    )
    request = rollout_pb2.StartRequest(
        service="api", to="1.3.0", id="r", course=course, author="test"
    )
    with core.channel() as channel:
        rollout_pb2_grpc.RolloutsStub(channel).Start(request, timeout=10)


def place(core: Meshd) -> tuple[str, int]:
    """Phase and step as a core has them; ("", -1) while it cannot be asked."""
    try:
        with core.channel() as channel:
            stub = rollout_pb2_grpc.RolloutsStub(channel)
            (found,) = stub.List(rollout_pb2.ListRequest(service="api"), timeout=2).rollouts
    except grpc.RpcError:
        return "", -1
    return found.phase, found.step


def is_past(cores: Sequence[Meshd], step: int) -> bool:
    """True if a core says that a step is over."""
    return any(phase == "done" or at > step for phase, at in map(place, cores))


def is_another(core: Meshd, pid: int) -> bool:
    return core.core_pid not in (0, pid)


def audit(core: Meshd) -> list[str]:
    """What was written of the rollout, the oldest first, but for what was only noted."""
    with core.channel() as channel:
        stub = topology_pb2_grpc.TopologyStub(channel)
        entries = stub.History(topology_pb2.HistoryRequest(limit=500), timeout=10).entries
    return [
        entry.what
        for entry in reversed(entries)
        if any(edit.kind == "rollouts" for edit in entry.edits) and not entry.what.endswith("noted")
    ]


def selector(core: Meshd) -> str:
    with core.channel() as channel:
        request = topology_pb2.GetRequest(kinds=["services"], name="api")
        (page,) = topology_pb2_grpc.TopologyStub(channel).Get(request, timeout=10)
    return str(page.records[0].service.selector)


def test_it_goes_on_after_each_restart(tmp_path: Path) -> None:
    core = Meshd(tmp_path, 1)
    try:
        core.start_ready()
        core.apply(DOCUMENT)
        begin(core)
        for step in range(len(PERCENTS)):
            before = core.core_pid
            os.kill(before, signal.SIGKILL)
            wait_until("another core", partial(is_another, core, before))
            wait_until(f"step {step} is over", partial(is_past, [core], step), 60)
        assert place(core) == ("done", len(PERCENTS) - 1)
        assert audit(core) == WANTED
        assert selector(core) == "1.3.0"
    finally:
        core.stop()


@pytest.mark.skipif(
    program("etcd") is None, reason="etcd is not installed here (Debian: etcd-server)"
)
def test_it_goes_on_elsewhere_and_hung_cores_come_too_late(tmp_path: Path) -> None:
    """Their clocks are ten minutes apart; who decides is killed, at the next step it hangs."""
    etcd = Etcd(tmp_path / "etcd")
    names = {"a": 0, "b": 600, "c": -600}
    cores = {name: Core(tmp_path / name, etcd, name, wrong_s) for name, wrong_s in names.items()}
    try:
        etcd.start_ready()
        for core in cores.values():
            core.start()
        for core in cores.values():
            wait_until("a core is ready", core.is_ready)
        cores["a"].apply(DOCUMENT)
        begin(cores["a"])
        for step in range(len(PERCENTS)):
            victim = cores[decider("api", [*cores])]
            others = [core for core in cores.values() if core is not victim]
            if step % 2:
                victim.signal(signal.SIGSTOP)
            else:
                victim.kill()
            wait_until(f"step {step} is over", partial(is_past, others, step), 60)
            if step % 2:
                victim.signal(signal.SIGCONT)
            else:
                victim.start()
                wait_until("it is back", victim.is_ready)
        some = cores["b"]
        wait_until("all know", lambda: {place(each) for each in cores.values()} == {("done", 4)})
        assert audit(some) == WANTED
        assert selector(some) == "1.3.0"
    finally:
        for core in cores.values():
            if core.is_running:
                core.signal(signal.SIGCONT)
            core.stop()
        etcd.stop()
