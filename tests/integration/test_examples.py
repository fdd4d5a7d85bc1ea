"""What the README and the examples say is done, word for word but for the ports."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.servers.install import find
from tests.servers.processes import ROOT, free_port, wait_until

pytestmark = pytest.mark.integration


def blocks() -> list[str]:
    return re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


def played(folder: Path, script: str) -> str:
    """What a script with `meshd serve` prints, in a folder of its own, on free ports."""
    ports = {name: str(free_port()) for name in ("dns", "grpc", "http")}
    flags = " ".join(f"--{name} 127.0.0.1:{port}" for name, port in ports.items())
    script = script.replace("-p 5300", f"-p {ports['dns']}").replace("7780", ports["http"])
    script = script.replace(
        "meshd serve &", f"meshd serve {flags} >meshd.log 2>&1 &\npid=$!\nready"
    )
    wait = "meshctl get zones >/dev/null 2>&1 && return; sleep 0.1"
    ready = f"ready() {{ for _ in $(seq 100); do {wait}; done; }}"
    whole = f"set -e\n{ready}\ntrap 'kill $pid; wait $pid || true' EXIT\n{script}"
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "MESHCTL_SERVER": f"127.0.0.1:{ports['grpc']}",
    }
    done = subprocess.run(
        ["bash", "-c", whole], cwd=folder, env=environment, capture_output=True, text=True,
        check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_readme_try_it(tmp_path: Path) -> None:
    """Each line of "Try it"."""
    if not find("dig"):
        pytest.skip("dig is not installed here (Debian: bind9-dnsutils)")
    (block,) = [block for block in blocks() if "meshd serve &" in block]
    assert block.startswith("pip install -e '.[server]'\n"), "the environment has done that"
    shutil.copytree(ROOT / "examples/quickstart", tmp_path / "examples/quickstart")
    said = played(tmp_path, block.partition("\n")[2])
    for expected in ("applied as revision 1", "10.1.0.1", "10.2.0.1", "bucket", "safe to stop at"):
        assert expected in said


def test_readme_operating_it(tmp_path: Path) -> None:
    """Each line of "Operating it", with TTLs that end while the test waits."""
    (block,) = [block for block in blocks() if "meshctl top" in block]
    text = (ROOT / "examples/quickstart/mesh.yaml").read_text()
    (tmp_path / "mesh.yaml").write_text(re.sub(r"ttl: \{[^}]*\}", "ttl: {min: 1, max: 3}", text))
    begin = "meshd serve &\nmeshctl apply -f mesh.yaml --yes\n"
    said = played(tmp_path, begin + block)
    for expected in (
        "api-eu-1: forced drain",
        "safe to stop at",
        "api-us-*: forced down for 600 s (2 instances now)",
        "api-us-*: not forced any more",
        "draining",
        '"ready": true',
        "meshd_store_away 0.0",
    ):
        assert expected in said, said


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
    # A folder of its own, so that only this demo's processes are looked for, not somebody else's
    # on the same machine; a short one, as it holds unix sockets.
    with tempfile.TemporaryDirectory(prefix="d-") as folder:
        process = subprocess.Popen(
            [sys.executable, "-m", "examples.demo.demo"],
            cwd=ROOT, stdout=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": folder},
        )  # fmt: skip
        try:
            # In the middle of it, not before it listens for signals or has anything to clean up.
            wait_until("meshd runs", lambda: "meshd.answerer" in _running_in(folder))
            process.terminate()
            output, _ = process.communicate(timeout=30)
        finally:
            process.kill()
        assert process.returncode == 0
        assert "stopped" in output
        assert _running_in(folder) == ""
        assert os.listdir(folder) == []


def _running_in(folder: str) -> str:
    """Command lines that name a folder."""
    done = subprocess.run(["pgrep", "-af", folder], capture_output=True, text=True, check=False)
    return done.stdout
