"""What the README and the examples say is done, word for word but for the ports."""

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.servers.install import find
from tests.servers.processes import ROOT, free_port

pytestmark = pytest.mark.integration


def blocks() -> list[str]:
    return re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


def test_readme_try_it(tmp_path: Path) -> None:
    """Each line of "Try it", in a folder of its own, on free ports."""
    if not find("dig"):
        pytest.skip("dig is not installed here (Debian: bind9-dnsutils)")
    (block,) = [block for block in blocks() if "meshd serve" in block]
    assert block.startswith("pip install -e '.[server]'\n"), "the environment has done that"
    ports = {name: str(free_port()) for name in ("dns", "grpc", "http")}
    flags = " ".join(f"--{name} 127.0.0.1:{port}" for name, port in ports.items())
    script = block.partition("\n")[2].replace("-p 5300", f"-p {ports['dns']}")
    script = script.replace(
        "meshd serve &", f"meshd serve {flags} >meshd.log 2>&1 &\npid=$!\nready"
    )
    wait = "meshctl get zones >/dev/null 2>&1 && return; sleep 0.1"
    ready = f"ready() {{ for _ in $(seq 100); do {wait}; done; }}"
    whole = f"set -e\n{ready}\ntrap 'kill $pid; wait $pid || true' EXIT\n{script}"
    shutil.copytree(ROOT / "examples/quickstart", tmp_path / "examples/quickstart")
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "MESHCTL_SERVER": f"127.0.0.1:{ports['grpc']}",
    }
    done = subprocess.run(
        ["bash", "-c", whole], cwd=tmp_path, env=environment, capture_output=True, text=True,
        check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for expected in ("applied as revision 1", "10.1.0.1", "10.2.0.1", "bucket", "forced drain"):
        assert expected in done.stdout


def run_demo() -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "examples.demo.demo", "--once"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_demo() -> None:
    done = run_demo()
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("seen: ") == 4
    assert ("PowerDNS, which asks meshd" in done.stdout) == bool(find("pdns_server"))


def test_demo_without_powerdns_and_dig(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine that has only Python: meshd's own listener, asked by dnspython."""
    monkeypatch.setenv("MESHD_DEMO_WITHOUT", "pdns_server,dig")
    done = run_demo()
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("seen: ") == 4
    assert "PowerDNS is not installed" in done.stdout


def test_demo_cleans_up_after_an_interrupt() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "examples.demo.demo"], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    time.sleep(6)
    process.terminate()
    try:
        output, _ = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 0
    assert "stopped" in output
    left = subprocess.run(
        ["pgrep", "-f", "meshd-demo-"], capture_output=True, text=True, check=False
    )
    assert left.stdout == ""
