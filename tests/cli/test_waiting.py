"""meshctl apply --wait: until every answerer of every core answers from the new revision."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.servers.etcd import Etcd
from tests.servers.processes import ROOT, Meshd, wait_until

pytestmark = pytest.mark.integration

QUICKSTART = (ROOT / "examples/quickstart/mesh.yaml").read_text()


@contextlib.contextmanager
def hung(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def document(folder: Path, most: int) -> str:
    path = folder / "mesh.yaml"
    path.write_text(QUICKSTART.replace("max_answers: 4", f"max_answers: {most}"))
    return str(path)


def apply(meshd: Meshd, path: str, *more: str) -> Any:
    done = meshd.meshctl("apply", "-f", path, "--yes", "--wait", "--json", *more)
    assert done.returncode == 0, done.stderr + done.stdout
    return json.loads(done.stdout)


def confirmed(meshd: Meshd) -> dict[str, int]:
    """What the answerers of all cores told, as one core sees it."""
    # A core that starts again cannot be asked.
    said = json.loads(meshd.meshctl("nodes", "--json").stdout).get("nodes", [])
    states = [each["state"].get("confirmed", {}) for each in said if "state" in each]
    return {name: int(revision) for state in states for name, revision in state.items()}


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Meshd]:
    """One core with two answerers."""
    (tmp_path / "meshd").mkdir()
    made = Meshd(tmp_path / "meshd", 2, "--node", "here")
    try:
        made.start_ready()
        yield made
    finally:
        made.stop()


def test_all_answerers_have_it_afterwards(pair: Meshd, tmp_path: Path) -> None:
    said = apply(pair, document(tmp_path, 4))
    assert said["answerers"] == {"here/0": 1, "here/1": 1}
    assert confirmed(pair) == {"here/0": 1, "here/1": 1}
    assert "here/0@1 here/1@1" in pair.meshctl("nodes").stdout
    # Nothing to do, and still all of them are asked.
    done = pair.meshctl("apply", "-f", document(tmp_path, 4), "--yes", "--wait")
    assert done.returncode == 0
    assert "nothing to do" in done.stdout
    assert "all 2 answerers answer from revision 1" in done.stdout


def test_who_only_watches_is_not_waited_for(pair: Meshd, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "meshd.cli.meshctl", "--server", pair.grpc, "watch"]
    watching = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert watching.stderr is not None
    try:
        assert "watching from revision" in watching.stderr.readline()
        assert "meshctl watch" in pair.meshctl("nodes").stdout
        assert len(apply(pair, document(tmp_path, 4))["answerers"]) == 2
    finally:
        watching.kill()
        watching.communicate()


def test_who_is_away_is_named(pair: Meshd, tmp_path: Path) -> None:
    apply(pair, document(tmp_path, 4))
    with hung(pair.answerer_pids[0]):
        late = pair.meshctl(
            "apply", "-f", document(tmp_path, 3), "--yes", "--wait", "--timeout", "3s"
        )
        assert late.returncode == 1
        assert "applied as revision 2" in late.stdout
        (complaint,) = late.stderr.splitlines()
        assert "not all answer from revision 2 within 3 s: here/" in complaint
        assert "(at revision 1)" in complaint
        assert complaint.count("here/") == 1
    assert set(apply(pair, document(tmp_path, 3))["answerers"].values()) == {2}


def test_a_core_that_starts_again_meanwhile(pair: Meshd, tmp_path: Path) -> None:
    """Who followed it before is waited for until it follows again."""
    apply(pair, document(tmp_path, 4))
    command = [sys.executable, "-m", "meshd.cli.meshctl", "--server", pair.grpc, "apply", "--yes"]
    flags = ["-f", document(tmp_path, 3), "--wait", "--timeout", "60s", "--json"]
    with hung(pair.answerer_pids[1]):
        waiting = subprocess.Popen([*command, *flags], stdout=subprocess.PIPE, text=True)
        wait_until("one has it", lambda: 2 in confirmed(pair).values(), 30)
        pair.kill_core()
        wait_until("the core is back", lambda: bool(pair.core_pid))
        wait_until("one follows again", lambda: list(confirmed(pair).values()) == [2], 30)
        # The other is not known to this core, but to who waits.
        time.sleep(1.0)
        assert waiting.poll() is None
    said, _ = waiting.communicate(timeout=70)
    assert waiting.returncode == 0
    assert json.loads(said)["answerers"] == {"here/0": 2, "here/1": 2}


def test_answerers_of_another_core_are_waited_for(
    two: tuple[Etcd, Meshd, Meshd], tmp_path: Path
) -> None:
    _, one, other = two
    said = apply(one, document(tmp_path, 4))
    assert len(said["answerers"]) == 2
    assert set(said["answerers"].values()) == {int(said["revision"])}
    (pid,) = other.answerer_pids
    with hung(pid):
        path = document(tmp_path, 3)
        late = one.meshctl("apply", "-f", path, "--yes", "--wait", "--timeout", "3s", "--json")
        assert late.returncode == 1
        assert "b/0 (at revision" in json.loads(late.stdout)["error"]
    with hung(other.core_pid):
        wait_until("it is not heard", lambda: "core b (not heard" in _late(one, path), 30)
    wait_until("all have it", lambda: "answers" not in _late(one, path), 30)


def _late(core: Meshd, path: str) -> str:
    return core.meshctl("apply", "-f", path, "--yes", "--wait", "--timeout", "1s").stderr
