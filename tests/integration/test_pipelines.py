"""examples/pipelines: the shell of each page, against a real meshd, its instances and reporters.

A good version goes to all clients and the old one is stopped; a bad one comes back.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from meshd.v1 import reporter_pb2 as pb
from meshd.v1 import reporter_pb2_grpc, topology_pb2
from tests.servers.processes import ROOT, Meshd, free_port, wait_until

pytestmark = pytest.mark.integration

FOLDER = ROOT / "examples/pipelines"
PAGE = (FOLDER / "README.md").read_text()
TOKEN = "0123456789abcdef"
# What the page says stands once in the topology; quicker, and with one reporter for all.
(ONCE,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
QUICK = {"steps": [25, 100], "every": "1s", "gates": ["success>=95%"], "min_outcomes": 100,
         "min_reporters": 1}  # fmt: skip
START = """#!/bin/sh
set -eu
for n in 1 2; do
    name=api-$(echo "$1" | tr . -)-$n
    if [ -e "$name.pid" ]; then continue; fi
    port=$(cat port)
    address=127.79.$(echo "$1" | cut -d. -f2).$n
    nohup meshctl instance run "$name" --service api --version "$1" --pop eu \\
        --address "$address" --port "http=$port" --drain-timeout 1s -- \\
        python -m http.server "$port" --bind "$address" >"$name.log" 2>&1 &
    echo $! >"$name.pid"
done
for n in $(seq 200); do
    if [ "$(meshctl get instances --json | grep -c "\\"version\\": \\"$1\\"")" = 2 ]; then exit; fi
    sleep 0.1
done
exit 1
"""
STOP = '#!/bin/sh\nkill "$(cat "$1.pid")"\n'


def github() -> tuple[list[str], list[str]]:
    """The steps of a job, and what is done if it is cancelled."""
    (job,) = yaml.safe_load((FOLDER / "github.yml").read_text())["jobs"].values()
    steps = [step for step in job["steps"] if "run" in step]
    usual = [step["run"] for step in steps if "if" not in step]
    return usual, [step["run"] for step in steps if step.get("if") == "cancelled()"]


def gitlab() -> tuple[list[str], list[str]]:
    return yaml.safe_load((FOLDER / "gitlab-ci.yml").read_text())["deploy"]["script"], []


def jenkins() -> tuple[list[str], list[str]]:
    stages, post = (FOLDER / "Jenkinsfile").read_text().split("    post {")
    shell = re.compile(r"^ +sh '(.*)'$", re.MULTILINE)
    return shell.findall(stages), shell.findall(post)


KINDS = {
    "github": (github, {"GITHUB_RUN_ID": "7"}),
    "gitlab": (gitlab, {"CI_PIPELINE_ID": "7"}),
    "jenkins": (jenkins, {"BUILD_NUMBER": "7"}),
}


class Reporters:
    """Three reporters, to whom the calls of some versions fail."""

    def __init__(self, meshd: Meshd) -> None:
        self.bad: set[str] = set()
        self._meshd = meshd
        self._over = threading.Event()

    @contextlib.contextmanager
    def reporting(self) -> Iterator["Reporters"]:
        with self._meshd.channel() as channel:
            stub = reporter_pb2_grpc.ReporterStub(channel)
            calls = [stub.Report(self._batches(f"r{n}")) for n in range(3)]
            try:
                yield self
            finally:
                self._over.set()
                for call in calls:
                    call.cancel()

    def _batches(self, name: str) -> Iterator[pb.ReportRequest]:
        while not self._over.is_set():
            outcomes = [
                pb.Outcomes(
                    instance=instance, attempts=100, failures=20 * (version in self.bad),
                    latency={40: 80},
                )
                for instance, version in versions(self._meshd).items()
            ]  # fmt: skip
            yield pb.ReportRequest(reporter=name, window_s=2, outcomes=outcomes)
            self._over.wait(2)


def versions(meshd: Meshd) -> dict[str, str]:
    """Instance -> version, as the store has them."""
    with meshd.stubs() as (topology, *_):
        request = topology_pb2.GetRequest(kinds=["instances"])
        pages = list(topology.Get(request, timeout=10))
    return {each.instance.name: each.instance.version for page in pages for each in page.records}


class Pipeline:
    """A folder as a runner has it, with instances of 1.2.0 in place."""

    def __init__(self, folder: Path, meshd: Meshd, kind: str) -> None:
        self.meshd = meshd
        self.folder = folder
        read, ids = KINDS[kind]
        self.steps, self.cancelled = read()
        self._environment = {
            **os.environ, **ids, "MESHCTL_SERVER": meshd.grpc, "STOP": "./stop.sh",
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "TIMEOUT": "60s",
        }  # fmt: skip
        shutil.copy(FOLDER / "deploy.sh", folder)
        for name, text in (("start.sh", START), ("stop.sh", STOP), ("port", str(free_port()))):
            (folder / name).write_text(text)
            (folder / name).chmod(0o755)

    def sh(self, script: str, **more: str) -> subprocess.CompletedProcess[str]:
        """What a runner does with a step."""
        return subprocess.run(
            ["sh", "-e", "-c", script], cwd=self.folder, env={**self._environment, **more},
            capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip

    def run(self, version: str) -> subprocess.CompletedProcess[str]:
        """A whole run: its steps until one fails."""
        steps = [step for step in self.steps if not step.startswith("pip install")]
        assert len(steps) >= 2
        for step in steps:
            done = self.sh(step, VERSION=version)
            if done.returncode:
                break
        return done

    def rollouts(self) -> list[Any]:
        """The rollouts, newest first, but for the baseline."""
        done = self.sh("meshctl rollout history api --json")
        assert done.returncode == 0, done.stderr
        return [
            each for each in json.loads(done.stdout)["rollouts"] if "initial" not in each["name"]
        ]

    def end(self) -> None:
        """End what start.sh started."""
        for file in self.folder.glob("*.pid"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(file.read_text()), signal.SIGKILL)


def document() -> str:
    """The page's service, and what it needs around it."""
    made = yaml.safe_load(ONCE)
    service = made["services"]["api"]
    assert service["rollout"].keys() == {*QUICK, "on_gate_missing"}
    service["rollout"] = QUICK
    service["ttl"] = {"min": "1s", "max": "2s"}
    return yaml.safe_dump(made) + (
        "zones: {mesh.internal: {ns: [{ns1.mesh.internal: [127.0.0.1]}], contact: a@b.c}}\n"
        "pops: {eu: {}}\n"
        "ranges: {0.0.0.0/0: eu}\n"
    )


@pytest.fixture
def meshd(tmp_path: Path) -> Iterator[Meshd]:
    token = tmp_path / "token"
    token.write_text(TOKEN + "\n")
    made = Meshd(tmp_path, 1, "--deploy-token-file", str(token), "--probe-allow", "127.0.0.0/8")
    try:
        made.start_ready()
        made.apply(document())
        yield made
    finally:
        made.stop()


@pytest.fixture
def pipeline(
    request: pytest.FixtureRequest, tmp_path: Path, meshd: Meshd
) -> Iterator[tuple[Pipeline, Reporters]]:
    (tmp_path / "job").mkdir()
    made = Pipeline(tmp_path / "job", meshd, getattr(request, "param", "gitlab"))
    try:
        started = made.sh("./start.sh 1.2.0")
        assert started.returncode == 0, started.stderr
        wait_until("there is a baseline", lambda: "initial" in made.sh(
            "meshctl rollout history api").stdout)  # fmt: skip
        with Reporters(meshd).reporting() as reporters:
            yield made, reporters
    finally:
        made.end()


def answered(meshd: Meshd) -> set[str]:
    said = meshd.meshctl("resolve", "api.mesh.internal", "--client", "10.1.0.7", "--json")
    return {each["version"] for each in json.loads(said.stdout)["endpoints"] if each["in_set"]}


@pytest.mark.parametrize("pipeline", KINDS, indirect=True)
def test_a_good_version_and_a_bad_one(pipeline: tuple[Pipeline, Reporters], meshd: Meshd) -> None:
    job, reporters = pipeline
    done = job.run("1.3.0")
    assert done.returncode == 0, done.stdout + done.stderr
    for said in ("step 1 of 2: 25 % of all clients get api 1.3.0", "100 % of all clients", "drain"):
        assert said in done.stdout
    assert answered(meshd) == {"1.3.0"}
    wait_until("the old ones are gone", lambda: set(versions(meshd).values()) == {"1.3.0"})
    (rollout,) = job.rollouts()
    # The job is run again: it is the same rollout.
    again = job.run("1.3.0")
    assert again.returncode == 0, again.stdout + again.stderr
    assert [each["name"] for each in job.rollouts()] == [rollout["name"]]
    reporters.bad = {"1.4.0"}
    (job.folder / "deploy.sh").write_text(
        (job.folder / "deploy.sh").read_text().replace("id=$3", "id=$3-bad")
    )
    bad = job.run("1.4.0")
    assert bad.returncode == 1, bad.stdout + bad.stderr
    last = bad.stdout.splitlines()[-1]
    assert "rolled back at 25 %: gate success>=95%" in last
    assert "reporter" in last
    assert answered(meshd) == {"1.3.0"}
    assert set(versions(meshd).values()) == {"1.3.0", "1.4.0"}
    assert job.run("1.4.0").returncode == 1
    assert len(job.rollouts()) == 2


@pytest.mark.parametrize("pipeline", ["github", "jenkins"], indirect=True)
def test_a_cancelled_job_pauses_its_rollout(pipeline: tuple[Pipeline, Reporters]) -> None:
    job, _ = pipeline
    assert job.sh("./start.sh 1.3.0").returncode == 0
    assert job.sh("meshctl rollout start api --to 1.3.0 --every 1h").returncode == 0
    (step,) = job.cancelled
    done = job.sh(step)
    assert done.returncode == 0, done.stderr
    (rollout,) = job.rollouts()
    assert (rollout["phase"], "cancelled" in rollout["reason"] or "aborted" in rollout["reason"]) \
        == ("paused", True)  # fmt: skip


def blocks() -> Sequence[str]:
    return re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)


def test_each_time_and_back(pipeline: tuple[Pipeline, Reporters], meshd: Meshd) -> None:
    """Every other command of the page."""
    job, _ = pipeline
    assert job.sh("./start.sh 1.3.0").returncode == 0
    each_time, drain, _ = blocks()
    done = job.sh(each_time)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "done: all gates hold" in done.stdout
    assert answered(meshd) == {"1.3.0"}
    (back,) = re.findall(r"`(meshctl rollout start api --to 1.2.0 .*?)`", PAGE)
    done = job.sh(back)
    assert done.returncode == 0, done.stdout + done.stderr
    assert answered(meshd) == {"1.2.0"}
    done = job.sh(drain.replace("api-eu-1", "api-1-2-0-1"))
    assert done.returncode == 0, done.stdout + done.stderr
    wait_until("it is gone", lambda: "api-1-2-0-1" not in versions(meshd))


def test_no_core_is_tried_again(pipeline: tuple[Pipeline, Reporters]) -> None:
    job, _ = pipeline
    script = (job.folder / "deploy.sh").read_text()
    (job.folder / "deploy.sh").write_text(script.replace("sleep 5", "echo again >>tries"))
    done = job.sh("./deploy.sh api 1.3.0 x", MESHCTL_SERVER=f"127.0.0.1:{free_port()}")
    assert done.returncode == 3
    assert (job.folder / "tries").read_text() == "again\n" * 4
    usage = job.sh("./deploy.sh api")
    assert (usage.returncode, "deploy.sh SERVICE VERSION ID" in usage.stderr) == (2, True)


def test_without_meshctl(pipeline: tuple[Pipeline, Reporters], meshd: Meshd) -> None:
    if not shutil.which("curl"):
        pytest.skip("curl is not installed here")
    job, _ = pipeline
    assert job.sh("./start.sh 1.3.0").returncode == 0
    *_, block = blocks()
    begin, show = block.replace("127.0.0.1:7780", meshd.http).split("\ncurl")
    done = job.sh(begin.replace('"5m"', '"1s"'), TOKEN=TOKEN)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["is_new"]

    def phase() -> str:
        said = job.sh(f"curl{show}", TOKEN=TOKEN)
        assert said.returncode == 0, said.stderr
        found: str = json.loads(said.stdout)["phase"]
        return found

    wait_until("it is done", lambda: phase() == "done", 60)
    assert job.sh(f"curl{show}", TOKEN="another").returncode == 22
