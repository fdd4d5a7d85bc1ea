"""Waiting for a rollout, against all that cores may say, and against cores that go away."""

import json
import queue
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
import pytest

from meshd.cli import rollout_watch
from meshd.cli.connect import Server
from meshd.cli.rollout_watch import Watching, end_with
from meshd.v1 import records_pb2 as pb
from meshd.v1 import rollout_pb2, rollout_pb2_grpc
from tests.servers.processes import free_port


def seen(phase: str, step: int = 0, *figures: str, reason: str = "") -> pb.Rollout:
    """A rollout of three steps."""
    steps = [pb.Step(percent=percent, hold_s=60) for percent in (1, 25, 100)]
    return pb.Rollout(
        name="build-7", service="api", to="1.3.0", course=pb.Course(steps=steps), phase=phase,
        step=step, figures=figures, reason=reason, order=1,
    )  # fmt: skip


class Core(rollout_pb2_grpc.RolloutsServicer):
    """A core that says what it is told to, and then is quiet or ends the stream."""

    def __init__(self) -> None:
        self.says: list[tuple[int, pb.Rollout]] = []
        self.is_unknown = self.is_quiet = False
        self.asked: queue.Queue[str] = queue.Queue()

    def Watch(  # noqa: N802
        self, request: rollout_pb2.WatchRequest, context: Any
    ) -> Iterator[rollout_pb2.WatchResponse]:
        self.asked.put(request.id)
        if self.is_unknown:
            context.abort(grpc.StatusCode.NOT_FOUND, f"no rollout is called {request.id}")
        for revision, rollout in self.says:
            yield rollout_pb2.WatchResponse(rollout=rollout, revision=revision)
        if self.is_quiet:
            ended = threading.Event()
            context.add_callback(ended.set)
            ended.wait(30)


@contextmanager
def serving(core: Core, port: int) -> Iterator[str]:
    with ThreadPoolExecutor(4) as pool:
        server = grpc.server(pool, options=(("grpc.so_reuseport", 0),))
        rollout_pb2_grpc.add_RolloutsServicer_to_server(core, server)
        server.add_insecure_port(f"127.0.0.1:{port}")
        server.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            server.stop(None).wait()


def ended(
    addresses: Sequence[str], *, timeout_s: float = 20.0, patience_s: float = 10.0,
    as_json: bool = False, known: pb.Rollout | None = None,
) -> int:  # fmt: skip
    """How a wait for build-7 ends."""
    watching = Watching(Server(tuple(addresses), 1.0), "build-7", timeout_s, as_json, patience_s)
    if known is not None:
        watching.take(known, 1, "started")
    try:
        end_with(watching)
    except SystemExit as end:
        return int(end.code or 0)
    return 0


UP = [(5, seen("running")), (6, seen("running", 0, "success 99.9 %")), (7, seen("running", 1))]


def test_a_line_for_each_event(capsys: pytest.CaptureFixture[str]) -> None:
    core = Core()
    core.says = [
        *UP,
        (7, UP[-1][1]),
        (8, seen("paused", 1, reason="paused: lunch")),
        (9, seen("running", 1)),
        (10, seen("done", 2, "success 99.8 %", reason="done: all gates hold")),
    ]
    with serving(core, free_port()) as address:
        assert ended([address], known=seen("running")) == 0
    lines = [line.split("  ", 2)[2] for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        "step 1 of 3: 1 % of all clients get api 1.3.0, for 1m at least",
        "figures of step 1 of 3: success 99.9 %",
        "step 2 of 3: 25 % of all clients get api 1.3.0, for 1m at least",
        "paused: lunch; step 2 of 3: 25 % of all clients get api 1.3.0",
        "step 2 of 3: 25 % of all clients get api 1.3.0, for 1m at least",
        "figures of step 3 of 3: success 99.8 %",
        "done: all gates hold; 100 % of all clients get api 1.3.0",
    ]


def test_an_object_for_each_event(capsys: pytest.CaptureFixture[str]) -> None:
    core = Core()
    bad = seen("rolled-back", 1, "success 94 %, 12 reporters", reason="success below 99 %")
    core.says = [*UP, (9, bad)]
    with serving(core, free_port()) as address:
        assert ended([address], as_json=True) == 1
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [each["event"] for each in said] == [
        "found",
        "figures",
        "step",
        "figures",
        "rolled-back",
    ]
    assert [each["revision"] for each in said] == [5, 6, 7, 9, 9]
    assert [each["rollout"]["percent"] for each in said] == [1, 1, 25, 0, 0]
    assert said[-1]["rollout"]["reason"] == "success below 99 %"


def test_what_is_over_already_ends_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        ended(["127.0.0.1:1"], known=seen("rolled-back", 1, reason="rolled back at 25 %: gate p99"))
        == 1
    )
    assert "rolled back at 25 %: gate p99; nobody gets api 1.3.0" in capsys.readouterr().out
    assert ended(["127.0.0.1:1"], known=seen("done", 2)) == 0


def test_another_core_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    """The first dies; one that is behind says nothing new; the last one knows the end."""
    first, behind, last = Core(), Core(), Core()
    first.says, first.is_quiet = UP, True
    behind.says, last.says = UP[:1], [(9, seen("done", 2))]
    ports = [free_port() for _ in range(3)]
    with ThreadPoolExecutor(1) as waiting, serving(behind, ports[1]):
        with serving(first, ports[0]):
            end = waiting.submit(ended, [f"127.0.0.1:{port}" for port in ports])
            assert first.asked.get(timeout=10) == "build-7"
            time.sleep(0.3)
        assert behind.asked.get(timeout=10) == "build-7"
        with serving(last, ports[2]):
            assert end.result(30) == 0
    said = capsys.readouterr().out
    assert said.count("step 1 of 3") == 2
    assert said.count("step 2 of 3") == 1
    assert "done; 100 %" in said


def test_a_core_that_starts_again_is_waited_for(capsys: pytest.CaptureFixture[str]) -> None:
    core, port = Core(), free_port()
    core.says, core.is_quiet = UP, True
    with ThreadPoolExecutor(1) as waiting:
        with serving(core, port):
            end = waiting.submit(ended, [f"127.0.0.1:{port}"])
            assert core.asked.get(timeout=10) == "build-7"
            time.sleep(0.3)
        time.sleep(1.5)
        core.says, core.is_quiet = [(9, seen("done", 2))], False
        with serving(core, port):
            assert end.result(30) == 0
    said = capsys.readouterr().out
    assert said.count("waiting") == said.count("is there again") == 1


def test_nobody_is_there_for_too_long(capsys: pytest.CaptureFixture[str]) -> None:
    nobody = [f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"]
    assert ended(nobody, patience_s=1.0, known=seen("running", 1)) == 3
    complaint = capsys.readouterr().err
    assert "no core was reached for" in complaint
    assert "it is running at step 2 of 3: 25 % of all clients" in complaint


@pytest.mark.parametrize("as_json", [False, True])
def test_it_takes_too_long(capsys: pytest.CaptureFixture[str], as_json: bool) -> None:
    core = Core()
    core.says, core.is_quiet = UP, True
    with serving(core, free_port()) as address:
        assert ended([address], timeout_s=1.5, as_json=as_json) == 1
    said = capsys.readouterr()
    late = json.loads(said.out.splitlines()[-1])["text"] if as_json else said.err
    assert "timed out after 1.5s, and the rollout goes on" in late
    assert "step 2 of 3" in late


def test_a_core_that_hangs_is_left_for_another(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollout_watch, "_QUIET_S", 0.5)
    quiet, other = Core(), Core()
    quiet.is_quiet = True
    other.says = [(9, seen("done", 2))]
    with serving(quiet, free_port()) as one, serving(other, free_port()) as two:
        assert ended([one, two], known=seen("running")) == 0
    assert "done; 100 %" in capsys.readouterr().out


def test_what_no_core_knows_any_more(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another core may not have it yet; in the end it is gone."""
    monkeypatch.setattr(rollout_watch, "_BEHIND_S", 1.0)
    core, other = Core(), Core()
    core.is_unknown = True
    other.says = [(9, seen("done", 2))]
    with serving(core, free_port()) as one, serving(other, free_port()) as two:
        assert ended([one, two], known=seen("running")) == 0
        assert ended([one], known=seen("running")) == 1
        assert "no rollout is called build-7" in capsys.readouterr().err
        # One that was never seen is none.
        assert ended([one]) == 1
