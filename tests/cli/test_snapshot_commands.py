"""meshctl snapshot: saved from a real core, looked into, and restored into another one.

The tests of one module share a core and run in order.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from meshd.client import BlockingRegistration
from meshd.wire.archive import parse_archive
from tests.servers.processes import ROOT, Meshd, wait_until

pytestmark = pytest.mark.integration

QUICKSTART = (ROOT / "examples/quickstart/mesh.yaml").read_text()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("snapshots") / "mesh.snapshot"


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Meshd]:
    """meshd with another, empty store."""
    made = Meshd(tmp_path)
    try:
        made.start_ready()
        yield made
    finally:
        made.stop()


def done(meshd: Meshd, *arguments: str) -> str:
    result = meshd.meshctl(*arguments)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def held(meshd: Meshd) -> dict[str, Any]:
    """All that a core holds, but for what is no decision of anybody."""
    kinds = ("zones", "pops", "ranges", "services", "instances", "overrides")
    found = {kind: json.loads(done(meshd, "get", kind, "--json"))[kind] for kind in kinds}
    found["instances"] = [i for i in found["instances"] if not i["registered"]]
    return {
        kind: sorted(({**r, "verdict": "", "expires_in_s": 0} for r in records), key=repr)
        for kind, records in found.items()
    }


def test_save(meshd: Meshd, file: Path) -> None:
    meshd.apply(QUICKSTART)
    done(meshd, "instance", "down", "api-eu-2")
    done(meshd, "instance", "down", "api-us-*", "--for", "10m", "--force")
    with BlockingRegistration(
        meshd.grpc, name="live", service="api", version="1.2.0", addresses=["10.1.0.99"]
    ) as registration:
        wait_until("it is registered", lambda: registration.state == "registered")
        said = done(meshd, "snapshot", "save", str(file))
        assert "17 records" in said
        assert "1 overrides that expire were left out" in said
    archive = parse_archive(file.read_bytes())
    assert f"saved revision {archive.revision}:" in said
    assert archive.revision >= 4
    assert len(archive.store_id) == 32
    assert file.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_show(meshd: Meshd, file: Path) -> None:
    said = json.loads(done(meshd, "snapshot", "show", str(file), "--json"))
    assert said["records"] == {
        "zones": 1, "pops": 2, "ranges": 5, "services": 1, "instances": 6, "overrides": 1,
        "presence": 1, "rollouts": 0, "experiments": 0,
    }  # fmt: skip
    assert said["registered"] == 1
    # No core is asked.
    text = done(meshd, "--server", "127.0.0.1:1", "snapshot", "show", str(file))
    assert "1 instances registered themselves" in text
    document = done(meshd, "snapshot", "show", str(file), "-o", "yaml")
    assert "nothing to do" in done(meshd, "plan", "-f", _written(file, document))


def _written(file: Path, document: str) -> str:
    path = file.parent / "mesh.yaml"
    path.write_text(document)
    return str(path)


def test_nothing_to_do(meshd: Meshd, file: Path) -> None:
    assert "nothing to do" in done(meshd, "snapshot", "restore", str(file))
    # The override that expires was not saved, and is not deleted.
    assert "api-us-*" in done(meshd, "get", "overrides")


def test_what_changed_is_put_back_in_one_commit(meshd: Meshd, file: Path) -> None:
    before = held(meshd)
    meshd.apply(QUICKSTART.replace("max_answers: 4", "max_answers: 1") + "\n", force=True)
    done(meshd, "instance", "remove", "api-eu-3", "--force")
    done(meshd, "instance", "clear", "api-eu-2")
    changed = held(meshd)
    assert changed != before
    result = meshd.meshctl("snapshot", "restore", str(file))
    assert result.returncode == 1
    assert "--yes" in result.stderr
    for sign in ("~ services/api", "+ instances/api-eu-3", "+ overrides/api-eu-2"):
        assert sign in result.stdout
    assert result.stdout == done(meshd, "snapshot", "restore", str(file), "--dry-run")
    assert held(meshd) == changed
    assert "restored as revision" in done(meshd, "snapshot", "restore", str(file), "--yes")
    assert held(meshd) == before
    entry = json.loads(done(meshd, "history", "-n", "1", "--json"))[0]
    assert entry["what"].startswith("snapshot restore: revision ")
    assert {edit["name"] for edit in entry["edits"]} == {"api", "api-eu-3", "api-eu-2"}


def test_into_an_empty_store(meshd: Meshd, other: Meshd, file: Path) -> None:
    done(other, "snapshot", "restore", str(file), "--yes")
    wanted = held(meshd)
    wanted["overrides"] = [o for o in wanted["overrides"] if o["instance"] == "api-eu-2"]
    assert held(other) == wanted


def test_unsafe_needs_force(meshd: Meshd, other: Meshd, file: Path) -> None:
    other.apply(QUICKSTART.replace("api-us-1:", "api-us-9:"))
    empty = file.parent / "empty"
    with_none = Meshd(file.parent)
    try:
        with_none.start_ready()
        done(with_none, "snapshot", "save", str(empty))
    finally:
        with_none.stop()
    result = other.meshctl("snapshot", "restore", str(empty), "--yes")
    assert result.returncode == 1
    assert "service api would be deleted with 5 instances" in result.stderr
    done(other, "snapshot", "restore", str(empty), "--yes", "--force")
    assert held(other)["services"] == []


def test_bad_files_are_refused(meshd: Meshd, file: Path, tmp_path: Path) -> None:
    revision = json.loads(done(meshd, "get", "pops", "--json"))["revision"]
    data = file.read_bytes()
    bad = tmp_path / "bad"
    for content, said in (
        (data[:-40], "is damaged"),
        (data[:200] + b"\0" + data[201:], "is damaged"),
        (data.replace(b"snapshot 1", b"snapshot 7", 1), "a newer meshd wrote it"),
        (QUICKSTART.encode(), "is no snapshot of meshd"),
    ):
        bad.write_bytes(content)
        for command in (("restore", "--yes", "--force"), ("show",)):
            result = meshd.meshctl("snapshot", command[0], str(bad), *command[1:])
            assert result.returncode == 1
            assert said in result.stderr
    assert "No such file" in meshd.meshctl("snapshot", "restore", str(tmp_path / "none")).stderr
    assert json.loads(done(meshd, "get", "pops", "--json"))["revision"] == revision


def test_nothing_half_written(meshd: Meshd, file: Path, tmp_path: Path) -> None:
    data = file.read_bytes()
    result = meshd.meshctl("--server", "127.0.0.1:1", "snapshot", "save", str(file))
    assert result.returncode == 3
    assert file.read_bytes() == data
    result = meshd.meshctl("snapshot", "save", str(tmp_path / "none" / "file"))
    assert (result.returncode, "No such file" in result.stderr) == (1, True)
    assert list(tmp_path.iterdir()) == []
    done(meshd, "snapshot", "save", str(file))
    assert parse_archive(file.read_bytes()).revision > parse_archive(data).revision
