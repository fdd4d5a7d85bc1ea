"""meshctl instance run with a real child through a real core, whoever is killed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.servers.processes import ROOT, Meshd, children, free_port, wait_until
from tests.servers.queries import Asker, addresses

pytestmark = pytest.mark.integration

ADDRESS = "127.0.7.1"
CHILD = """
import http.server, signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
http.server.ThreadingHTTPServer((sys.argv[1], int(sys.argv[2])),
                                http.server.SimpleHTTPRequestHandler).serve_forever()
"""


@pytest.fixture(scope="module", autouse=True)
def topology(meshd: Meshd) -> None:
    text = (ROOT / "examples/quickstart/mesh.yaml").read_text()
    meshd.apply(text.replace("ttl: {min: 5, max: 60}", "ttl: {min: 1, max: 3}"))


class Run:
    """A run of a child as one instance."""

    def __init__(self, meshd: Meshd, name: str, log: Path, *more: str, folder: Path = ROOT) -> None:
        self.meshd, self.name, self.log = meshd, name, log
        self.port = free_port()
        options = ["--service", "api", "--version", "1.2.0", "--pop", "eu", "--address", ADDRESS]
        child = ["--", sys.executable, "-c", CHILD, ADDRESS, str(self.port)]
        # The first core is never there.
        cores = f"127.0.0.1:{free_port()},{meshd.grpc}"
        command = [
            sys.executable, "-m", "meshd.cli.meshctl", "--server", cores, "instance", "run",
            name, *options, "--port", f"http={self.port}", *more, *child,
        ]  # fmt: skip
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        with log.open("wb") as out:
            self.process = subprocess.Popen(command, stderr=out, cwd=folder, env=environment)

    def verdict(self) -> str:
        """What the core holds of it; empty if nothing."""
        done = self.meshd.meshctl("get", "instances", "--json")
        found = [i for i in json.loads(done.stdout)["instances"] if i["name"] == self.name]
        return str(found[0]["verdict"]) if found else ""

    def presence(self) -> str:
        """Its presence, with the epoch."""
        return self.meshd.meshctl("get", "presence", self.name).stdout

    def until(self, verdict: str) -> None:
        wait_until(f"{self.name} is {verdict or 'gone'}", lambda: self.verdict() == verdict)

    @property
    def child(self) -> int:
        (pid,) = children(self.process.pid)
        return pid


@contextmanager
def running(meshd: Meshd, name: str, log: Path, *more: str, folder: Path = ROOT) -> Iterator[Run]:
    run = Run(meshd, name, log, *more, folder=folder)
    child = 0
    try:
        run.until("up")
        child = run.child
        yield run
    finally:
        run.process.kill()
        run.process.wait()
        if child and f"{run.port}" in _command_line(child):
            os.kill(child, signal.SIGKILL)


def _command_line(pid: int) -> str:
    path = Path(f"/proc/{pid}/cmdline")
    return path.read_text() if path.exists() else ""


def test_sigterm_drains_first_and_ends_as_the_command_does(meshd: Meshd, tmp_path: Path) -> None:
    with running(meshd, "run-1", tmp_path / "log") as run:
        began = time.monotonic()
        run.process.terminate()
        run.until("draining")
        assert "127.0.7.1" in _command_line(run.child), "it serves while it drains"
        assert run.process.wait(20) == 7
        assert time.monotonic() - began > 2.0, "the answers of 3 s have run out first"
        run.until("")


def test_a_second_signal_skips_the_drain(meshd: Meshd, tmp_path: Path) -> None:
    with running(meshd, "run-2", tmp_path / "log", "--drain-timeout", "10m") as run:
        run.process.send_signal(signal.SIGINT)
        run.until("draining")
        run.process.terminate()
        assert run.process.wait(2.5) == 7


def test_drain_timeout_bounds_it(meshd: Meshd, tmp_path: Path) -> None:
    with running(meshd, "run-3", tmp_path / "log", "--drain-timeout", "100ms") as run:
        run.process.terminate()
        assert run.process.wait(2.5) == 7


def test_a_command_that_dies_is_down_at_once(meshd: Meshd, tmp_path: Path) -> None:
    with running(meshd, "run-4", tmp_path / "log", "--lease", "60s") as run:
        os.kill(run.child, signal.SIGKILL)
        assert run.process.wait(10) == 128 + signal.SIGKILL
        run.until("down")


def test_kill_9_of_the_runner_is_down_at_once(meshd: Meshd, tmp_path: Path) -> None:
    with running(meshd, "run-5", tmp_path / "log", "--lease", "60s") as run:
        run.process.kill()
        run.until("down")


def test_a_stopped_runner_is_down_within_its_lease(meshd: Meshd, tmp_path: Path) -> None:
    with running(meshd, "run-6", tmp_path / "log", "--lease", "2s") as run:
        run.process.send_signal(signal.SIGSTOP)
        run.until("down")
        run.process.send_signal(signal.SIGCONT)
        run.until("up")


def test_a_core_that_is_killed_changes_no_answer(meshd: Meshd, tmp_path: Path) -> None:
    """It comes again from its store, and the process with its old epoch."""
    with running(meshd, "run-11", tmp_path / "log") as run:
        name, asker = "run-11.instance.api.mesh.internal", Asker("127.0.0.1")
        before, registered = run.presence(), run.log.read_text().count("registered at")
        meshd.kill_core()
        end = time.monotonic() + 8.0
        while time.monotonic() < end:
            assert addresses(asker.ask(meshd.dns_port, name)) == [ADDRESS]
            time.sleep(0.02)
        wait_until("it is back", meshd.is_ready)
        assert registered == 1
        assert run.presence() == before, "the epoch is the same"
        assert run.verdict() == "up"
        entries = json.loads(meshd.meshctl("history", "-n", "5", "--json").stdout)
        assert [e["what"].split()[0] for e in entries[:2]] == ["register", "register"]


def test_the_load_comes_from_a_url(meshd: Meshd, tmp_path: Path) -> None:
    (tmp_path / "load").write_text("0.75\n")
    port = free_port()
    serving = subprocess.Popen(
        [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.7.2"],
        cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        url = f"http://127.0.7.2:{port}/load"
        with running(meshd, "run-7", tmp_path / "log", "--load-from", url):
            wait_until(
                "its load is known",
                lambda: "75%" in meshd.meshctl("get", "instances", "run-7").stdout,
            )
    finally:
        serving.kill()
        serving.wait()


def test_it_is_registered_once_its_port_accepts(meshd: Meshd, tmp_path: Path) -> None:
    other = free_port()
    run = Run(meshd, "run-8", tmp_path / "log", "--ready-port", str(other))
    try:
        wait_until("the child runs", lambda: len(children(run.process.pid)) == 1)
        time.sleep(1.0)
        assert run.verdict() == ""
        run.process.terminate()
        assert run.process.wait(10) in (7, 128 + signal.SIGTERM)
    finally:
        run.process.kill()
        run.process.wait()


def test_clear_errors(meshd: Meshd) -> None:
    base = ["instance", "run", "run-9", "--service", "api", "--version", "1.2.0"]
    port = ["--port", f"http={free_port()}"]
    lost = meshd.meshctl(*base, *port, "--", "no-such-command")
    assert (lost.returncode, "no-such-command" in lost.stderr) == (127, True)
    assert meshd.meshctl(*base, "--", "true").returncode == 2
    assert meshd.meshctl(*base, "--port", "8080", "--", "true").returncode == 2
    assert meshd.meshctl(*base, *port, "--lease", "long", "--", "true").returncode == 2
    assert meshd.meshctl(*base, *port, "--", "false").returncode == 1


def test_what_the_core_refuses_ends_the_command(meshd: Meshd, tmp_path: Path) -> None:
    run = Run(meshd, "run-10", tmp_path / "log", "--pop", "mars", "--version", "new")
    try:
        assert run.process.wait(20) == 1
        said = run.log.read_text()
        assert ("2 faults" in said, "mars" in said, "'new'" in said) == (True, True, True)
    finally:
        run.process.kill()
        run.process.wait()


FIGHTER = """
import sys, time
from meshd.client import BlockingRegistration
with BlockingRegistration(sys.argv[1], name="fought-over", service="api", version="1.2.0",
                          pop="eu", addresses=[sys.argv[2]], lease_s=1.0) as registration:
    print("in", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("first_to_die", [0, 1])
def test_two_processes_fight_for_a_name(meshd: Meshd, first_to_die: int) -> None:
    """The owner changes once, whoever dies; the newer one alone decides whether it is up."""
    fighters = [
        subprocess.Popen(
            [sys.executable, "-c", FIGHTER, meshd.grpc, address],
            stdout=subprocess.PIPE, text=True, cwd=ROOT,
        )
        for address in ("127.0.7.3", "127.0.7.4")
    ]  # fmt: skip
    try:
        for fighter in fighters:
            assert fighter.stdout is not None
            assert fighter.stdout.readline() == "in\n"
        before = _owners(meshd)
        time.sleep(10.0)
        assert _owners(meshd) == before
        assert len(before) == 2, "each took it once"
        newer = before[-1]
        at = {"127.0.7.3": 0, "127.0.7.4": 1}[newer]
        dies = at if first_to_die else 1 - at
        fighters[dies].kill()
        want = "down" if dies == at else "up"
        wait_until(f"it is {want}", lambda: _verdict(meshd) == want)
        time.sleep(2.0)
        assert _verdict(meshd) == want, "the replaced one never comes again"
        assert _owners(meshd) == before
    finally:
        for fighter in fighters:
            fighter.kill()
            fighter.wait()
            assert fighter.stdout is not None
            fighter.stdout.close()
        meshd.meshctl("instance", "remove", "fought-over", "--force")


def _owners(meshd: Meshd) -> list[str]:
    """The addresses that were written under the name since it is there, oldest first."""
    entries = json.loads(meshd.meshctl("history", "-n", "50", "--json").stdout)
    found: list[str] = []
    for entry in entries:
        for edit in entry["edits"]:
            if (edit["kind"], edit["name"]) == ("instances", "fought-over"):
                if "after" not in edit or not edit["after"]:
                    return found[::-1]
                found.append(edit["after"]["instance"]["addresses"][0])
    return found[::-1]


def _verdict(meshd: Meshd) -> str:
    done = meshd.meshctl("get", "instances", "fought-over", "--json")
    return str(json.loads(done.stdout)["instances"][0]["verdict"])


def test_where_no_core_is_known_the_address_must_be_said() -> None:
    """Not 127.0.0.1: nobody elsewhere would reach that."""
    done = subprocess.run(
        [sys.executable, "-m", "meshd.cli.meshctl", "--server", "no.invalid:7700,nor.invalid:7700",
         "instance", "run", "a", "--service", "api", "--version", "1",
         "--port", "http=80", "--", "true"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "say --address" in done.stderr
