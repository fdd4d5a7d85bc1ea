"""meshctl rollout against a real core: begun, seen, moved by hand, waited for."""

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.servers.processes import Meshd, wait_until

pytestmark = pytest.mark.integration

DOCUMENT = """
zones: {mesh.internal: {ns: [{ns1.mesh.internal: [127.0.0.1]}], contact: a@mesh.internal}}
pops: {eu: {}, us: {}}
ranges: {10.1.0.0/16: eu, 10.2.0.0/16: us}
services:
  api:
    name: api.mesh.internal
    ports: {http: 80/tcp}
    version: "1.2"
    rollout: {steps: [10, 100], every: 1h, gates: []}
  split: {name: split.mesh.internal, ports: {http: 80/tcp}, version: {1.2: 50, 1.3: 50}}
instances:
  api-1: {service: api, version: 1.2.0, pop: eu, address: 10.1.0.1}
  api-2: {service: api, version: 1.3.0, pop: eu, address: 10.1.0.2}
  api-3: {service: api, version: 1.2.0, pop: us, address: 10.2.0.1}
  api-4: {service: api, version: 1.3.0, pop: us, address: 10.2.0.2}
"""


def done(meshd: Meshd, *words: str) -> str:
    result = meshd.meshctl("rollout", *words)
    assert result.returncode == 0, result.stderr + result.stdout
    return result.stdout


def said(meshd: Meshd, *words: str) -> Any:
    return json.loads(done(meshd, *words, "--json"))


@pytest.fixture
def core(tmp_path: Path) -> Any:
    made = Meshd(tmp_path, 1)
    try:
        made.start_ready()
        made.apply(DOCUMENT)
        yield made
    finally:
        made.stop()


def test_a_rollout_is_moved_by_hand(core: Meshd) -> None:
    text = done(core, "start", "api", "--to", "1.3.0", "--id", "build-7")
    assert text.startswith("build-7: begun, revision 2; step 1 of 2: 10 % of all clients")
    again = said(core, "start", "api", "--to", "1.3.0", "--id", "build-7")
    assert (again["is_new"], again["rollout"]["percent"]) == (False, 10)
    other = core.meshctl("rollout", "start", "api", "--to", "1.4.0")
    assert (other.returncode, "finish it or roll it back" in other.stderr) == (1, True)
    changed = core.meshctl("rollout", "start", "api", "--to", "1.4.0", "--id", "build-7")
    assert (changed.returncode, "is another one" in changed.stderr) == (1, True)
    assert "build-7: paused: lunch; step 1" in done(core, "pause", "api", "--reason", "lunch")
    twice = core.meshctl("rollout", "pause", "build-7")
    assert (twice.returncode, "is paused" in twice.stderr) == (1, True)
    assert said(core, "resume", "build-7")["rollout"]["phase"] == "running"
    assert "step 2 of 2: 100 % of all clients" in done(core, "promote", "api")
    assert done(core, "list").splitlines()[1].split()[:3] == ["api", "1.3.0", "running"]
    text = done(core, "rollback", "api", "--reason", "orders fail")
    assert "rolled back at 100 %: orders fail; nobody gets api 1.3.0" in text
    assert said(core, "list")["rollouts"] == []
    (over,) = said(core, "list", "--all")["rollouts"]
    assert (over["name"], over["phase"], over["percent"]) == ("build-7", "rolled-back", 0)
    text = done(core, "status", "build-7")
    for what in ("api to 1.3.0, all clients", "10 % for 1h -> 100 % for 1h", "gates: none", "@"):
        assert what in text
    assert "orders fail" in done(core, "history", "api")
    back = core.meshctl("rollout", "start", "api", "--to", "1.3.0", "--id", "build-7", "--wait")
    assert (back.returncode, "rolled back at 100 %" in back.stdout) == (1, True)


def test_it_is_done_and_waited_for(core: Meshd) -> None:
    flags = ("--steps", "10,100", "--every", "1s", "--no-gates", "--wait")
    text = done(core, "start", "api", "--to", "1.3.0", *flags)
    lines = [line.split("  ", 2)[2] for line in text.splitlines()]
    assert lines == [
        "step 1 of 2: 10 % of all clients get api 1.3.0, for 1s at least",
        "step 2 of 2: 100 % of all clients get api 1.3.0, for 1s at least",
        "done: all gates hold; 100 % of all clients get api 1.3.0",
    ]
    assert done(core, "watch", "api").count("\n") == 1


def test_all_in_its_scope_have_it(core: Meshd) -> None:
    """It goes no further by itself, and whoever waits for it is told so."""
    flags = ("--steps", "100", "--every", "1s", "--no-gates", "--pop", "eu")
    text = done(core, "start", "api", "--to", "1.3.0", *flags, "--wait")
    assert "pop eu: all have it and all gates hold" in text.splitlines()[-1]
    assert said(core, "status", "api")["phase"] == "paused"
    assert done(core, "watch", "api").count("\n") == 1
    assert said(core, "promote", "api")["rollout"]["phase"] == "done"


def test_promoted_to_its_end(core: Meshd) -> None:
    done(core, "start", "api", "--to", "1.3.0")
    assert said(core, "promote", "api", "--to-end")["rollout"]["phase"] == "done"


def test_the_service_says_what_flags_do_not(core: Meshd) -> None:
    half = said(core, "start", "api", "--to", "1.3.0", "--every", "2m")["rollout"]
    steps = half["course"]["steps"]
    assert [(step["percent"], step["hold_s"]) for step in steps] == [(10, 120), (100, 120)]
    assert half["course"]["gates"] == ["none"]


def test_a_plan_writes_nothing(core: Meshd) -> None:
    text = done(core, "plan", "api", "--to", "1.3.0", "--steps", "50,100", "--every", "1m")
    assert "api to 1.3.0, all clients; nothing was written" in text
    assert said(core, "list", "--all")["rollouts"] == []
    eu = [line.split() for line in text.splitlines() if " eu " in line]
    assert eu[0][:4] == ["1", "50", "%", "1m"]
    assert "api-2" in " ".join(eu[0])
    assert len(said(core, "plan", "api", "--to", "1.3.0")["steps"]) == 2


def test_what_is_wrong_is_listed(core: Meshd) -> None:
    words = ("--to", "new", "--steps", "5,1", "--gate", "fast", "--every", "soon", "--range", "x")
    wrong = core.meshctl("rollout", "start", "api", *words)
    assert wrong.returncode == 2
    for what in ("'new' is not a version", "must rise", "'fast' is no gate", "'soon'", "ranges"):
        assert what in wrong.stderr, what
    both = core.meshctl("rollout", "start", "api", "--to", "1.3", "--gate", "p99<=1s", "--no-gates")
    assert both.returncode == 2
    lost = core.meshctl(
        "rollout", "start", "api", "--to", "1.3", "--pop", "mars", "--range", "10.9.0.0/16"
    )
    assert lost.returncode == 1
    assert ("mars" in lost.stderr, "10.9.0.0/16" in lost.stderr) == (True, True)
    split = core.meshctl("rollout", "start", "split", "--to", "1.3.0")
    assert (split.returncode, "split by hand" in split.stderr) == (1, True)
    unknown: Sequence[tuple[str, ...]] = (
        ("start", "none", "--to", "1.3"),
        ("start", "none", "--to", "1.3", "--every", "1m"),
        ("status", "none"),
        ("watch", "none"),
        ("history", "none"),
        ("pause", "none"),
    )
    for each in unknown:
        gone = core.meshctl("rollout", *each)
        assert (gone.returncode, "none" in gone.stderr) == (1, True), each


def test_waiting_goes_on_while_the_core_dies(core: Meshd) -> None:
    """At each step; what was written and said stays, and no step is said twice."""
    words = ("start", "api", "--to", "1.3.0", "--steps", "10,20,100", "--every", "3s", "--wait")
    command = [sys.executable, "-m", "meshd.cli.meshctl", "--server", core.grpc, "rollout"]
    waiting = subprocess.Popen(
        [*command, *words, "--no-gates", "--json", "--timeout", "2m"],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert waiting.stdout is not None
    events = []
    try:
        for text in waiting.stdout:
            events.append(json.loads(text))
            if events[-1]["event"] in ("started", "step"):
                core.kill_core()
                wait_until("a core is back", lambda: bool(core.core_pid))
        assert waiting.wait(30) == 0
    finally:
        waiting.kill()
        waiting.communicate()
    steps = [each["rollout"]["step"] for each in events if each["event"] in ("started", "step")]
    assert steps == [0, 1, 2]
    assert events[-1]["event"] == "done"


def test_no_core_and_a_time_that_is_over(core: Meshd) -> None:
    began = time.monotonic()
    late = core.meshctl("rollout", "start", "api", "--to", "1.3.0", "--wait", "--timeout", "2s")
    assert late.returncode == 1
    assert "timed out after 2s, and the rollout goes on; it is running at step 1" in late.stderr
    assert time.monotonic() - began > 2
    core.stop()
    for words in (("start", "api", "--to", "1.3.0", "--wait"), ("list",), ("pause", "api")):
        assert core.meshctl("rollout", *words).returncode == 3
