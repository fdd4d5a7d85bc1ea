"""meshctl migrate between real stores."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshd.client import BlockingRegistration
from tests.servers.etcd import Etcd, program
from tests.servers.processes import ROOT, Meshd, wait_until

pytestmark = pytest.mark.integration

QUICKSTART = (ROOT / "examples/quickstart/mesh.yaml").read_text()
KINDS = ("zones", "pops", "ranges", "services", "instances")


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcd]:
    if program("etcd") is None:
        pytest.skip("etcd-server is not installed")
    made = Etcd(tmp_path_factory.mktemp("etcd"))
    try:
        made.start_ready()
        yield made
    finally:
        made.stop()


@pytest.fixture
def filled(tmp_path: Path) -> Meshd:
    """A stopped meshd whose store holds a topology, overrides and an instance that registered."""
    made = Meshd(tmp_path)
    try:
        made.start()
        wait_until("meshd is ready", made.is_ready, 60)
        made.apply(QUICKSTART)
        for words in (("api-eu-2",), ("api-us-*", "--for", "10m", "--force")):
            assert made.meshctl("instance", "down", *words).returncode == 0
        with BlockingRegistration(
            made.grpc, name="live", service="api", version="1.2.0", addresses=["10.1.0.99"]
        ) as registration:
            wait_until("it is registered", lambda: registration.state == "registered")
            made.stop()
    finally:
        made.kill()
    return made


def migrate(meshd: Meshd, *arguments: object) -> subprocess.CompletedProcess[str]:
    return meshd.meshctl("migrate", *map(str, arguments))


def held(meshd: Meshd) -> dict[str, str]:
    """What a core holds and nothing ends by itself."""
    found = {kind: meshd.meshctl("get", kind, "-o", "yaml").stdout for kind in KINDS}
    found["overrides"] = meshd.meshctl("get", "overrides", "-o", "name").stdout
    found["overrides"] = found["overrides"].replace("overrides/api-us-*\n", "")
    return found


def started(folder: Path, *flags: str) -> Meshd:
    """A core that runs."""
    folder.mkdir(exist_ok=True)
    made = Meshd(folder, 1, *flags)
    made.start()
    wait_until("meshd is ready", made.is_ready, 60)
    return made


def test_from_file_to_file(filled: Meshd, tmp_path: Path) -> None:
    source = filled.data / "store.db"
    bytes_before = source.read_bytes()
    target = tmp_path / "new" / "data"
    result = migrate(filled, "--from", filled.data, "--to", target)
    assert result.returncode == 1
    assert "--yes" in result.stderr
    result = migrate(filled, "--from", filled.data, "--to", target, "--yes")
    assert result.returncode == 0, result.stderr
    assert "6 instances, 1 overrides, 2 pops, 5 ranges, 1 services, 1 zones" in result.stdout
    assert "a lease ends them: 1 overrides, 1 presence" in result.stdout
    assert f"start cores with --data {target}" in result.stdout
    assert source.read_bytes() == bytes_before
    was, now = started(tmp_path), started(tmp_path / "new")
    try:
        wanted = held(was)
        assert held(now) == wanted
        assert "live:" in wanted["instances"]
        assert "api-eu-2" in wanted["overrides"]
        said = json.loads(now.meshctl("history", "--json").stdout)[0]["what"]
        assert said.startswith("migrate: revision ")
        # The one that registered itself does so again.
        with BlockingRegistration(
            now.grpc, name="live", service="api", version="1.2.0", addresses=["10.1.0.99"]
        ) as registration:
            wait_until("it is registered", lambda: registration.state == "registered")
        assert now.apply(QUICKSTART.replace("max_answers: 4", "max_answers: 3")) > 1
    finally:
        was.stop()
        now.stop()


def test_what_is_refused(filled: Meshd, tmp_path: Path) -> None:
    data, other = filled.data, tmp_path / "other"
    for arguments, said in (
        (("--from", tmp_path / "none", "--to", other), "there is no store at"),
        (("--from", data, "--to", "etcd:"), "etcd"),
        (("--from", data, "--to", "etcd:e1,e2:x", "--etcd-user", "u"), "go together"),
    ):
        result = migrate(filled, *arguments, "--yes")
        assert (result.returncode, said in result.stderr) == (1, True), result.stderr
    assert not (tmp_path / "none").exists()
    assert not other.exists()
    core = started(tmp_path)
    try:
        result = migrate(core, "--from", core.data, "--to", other, "--yes")
        assert (result.returncode, "in use by process" in result.stderr) == (1, True)
    finally:
        core.stop()


def test_a_target_that_is_not_empty(filled: Meshd, tmp_path: Path) -> None:
    other = started(tmp_path / "other")
    other.apply("pops: {mars: {}}")
    other.stop()
    result = migrate(filled, "--from", filled.data, "--to", other.data, "--yes")
    assert (result.returncode, "holds 1 records already" in result.stderr) == (1, True)
    result = migrate(filled, "--from", filled.data, "--to", other.data, "--yes", "--force")
    assert result.returncode == 0, result.stderr
    other.start_ready()
    try:
        assert "mars" not in other.meshctl("get", "pops").stdout
        assert "eu" in other.meshctl("get", "pops").stdout
    finally:
        other.stop()


def test_to_etcd_and_back(filled: Meshd, etcd: Etcd, tmp_path: Path) -> None:
    place = f"etcd:{','.join(etcd.endpoints)}"
    result = migrate(filled, "--from", filled.data, "--to", place, "--yes")
    assert result.returncode == 0, result.stderr
    assert f"start cores with --store etcd --etcd {etcd.endpoints[0]}" in result.stdout
    again = migrate(filled, "--from", filled.data, "--to", place, "--yes")
    assert (again.returncode, "records already" in again.stderr) == (1, True)
    # Under another prefix it is another store.
    aside = migrate(filled, "--from", place, "--to", tmp_path / "none", "--etcd-prefix", "/x/")
    assert "nothing" in aside.stdout
    back = tmp_path / "back" / "data"
    result = migrate(filled, "--from", place, "--to", back, "--yes", "--json")
    assert json.loads(result.stdout)["copied"] == {
        "zones": 1, "pops": 2, "ranges": 5, "services": 1, "instances": 6, "overrides": 1,
    }  # fmt: skip
    flags = ("--store", "etcd", "--etcd", ",".join(etcd.endpoints), "--node", "n1")
    was, now, third = (
        started(tmp_path), started(tmp_path / "back"), started(tmp_path / "third", *flags),
    )  # fmt: skip
    try:
        assert held(third) == held(now) == held(was)
        arguments = ("--from", place, "--to", tmp_path / "late", "--yes", "--force")
        wait_until("it is a member", lambda: "n1" in third.meshctl("nodes").stdout)
        result = migrate(filled, *arguments)
        assert (result.returncode, "cores run on it: n1;" in result.stderr) == (1, True)
    finally:
        was.stop()
        now.stop()
        third.stop()


def test_etcd_that_is_away(filled: Meshd, etcd: Etcd, tmp_path: Path) -> None:
    member = etcd.members[0]
    member.pause()
    try:
        place = f"etcd:{member.endpoint}"
        result = migrate(filled, "--from", filled.data, "--to", place, "--yes", "--force")
    finally:
        member.resume()
    assert result.returncode == 1
    assert member.endpoint in result.stderr
