"""meshctl as a program against a real core: what it prints, and how it ends.

The tests of one module share a core and run in order, as a day with it would go.
"""

import json
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from meshd.client import BlockingRegistration
from tests.servers.processes import ROOT, Meshd, free_port, wait_until

pytestmark = pytest.mark.integration

QUICKSTART = str(ROOT / "examples/quickstart/mesh.yaml")
NAME = "api.mesh.internal"


def done(meshd: Meshd, *arguments: str) -> str:
    result = meshd.meshctl(*arguments)
    assert result.returncode == 0, result.stderr
    return result.stdout


def said(meshd: Meshd, *arguments: str) -> Any:
    return json.loads(done(meshd, *arguments, "--json"))


def test_help_everywhere() -> None:
    from meshd.cli.meshctl import main

    names = ("instance", "snapshot", "rollout", "experiment")
    groups = {"": main} | {name: main.commands[name] for name in names}
    for prefix, group in groups.items():
        for name in (*getattr(group, "commands", {}), ""):
            words = [word for word in (prefix, name) if word]
            command = [sys.executable, "-m", "meshd.cli.meshctl", *words, "--help"]
            result = subprocess.run(command, capture_output=True, text=True, check=False)
            assert result.returncode == 0
            if name and name not in groups:
                assert "Example:" in result.stdout, words


def test_plan_writes_nothing(meshd: Meshd) -> None:
    text = done(meshd, "plan", "-f", QUICKSTART)
    assert "+ services/api" in text
    assert "14 to create, on top of revision 0" in text
    assert said(meshd, "get", "services")["services"] == []
    assert done(meshd, "apply", "-f", QUICKSTART, "--dry-run") == text


def test_apply_asks_first(meshd: Meshd) -> None:
    result = meshd.meshctl("apply", "-f", QUICKSTART)
    assert result.returncode == 1
    assert "--yes" in result.stderr
    assert said(meshd, "get", "services")["revision"] == 0


def test_apply(meshd: Meshd) -> None:
    assert "applied as revision 1" in done(meshd, "apply", "-f", QUICKSTART, "--yes")
    assert "nothing to do" in done(meshd, "apply", "-f", QUICKSTART, "--yes")
    assert said(meshd, "plan", "-f", QUICKSTART)["edits"] == []


def test_five_mistakes_are_listed_and_nothing_is_written(meshd: Meshd) -> None:
    text = Path(QUICKSTART).read_text()
    for good, bad in (
        ("fallback: [us]", "fallback: [pluto]"),
        ("8080/tcp", "80800/tcp"),
        ("max_answers: 4", "max_answers: 40"),
        ("10.2.0.0/16: us", "10.2.0.1/16: us"),
        ("pop: us, address: 10.2.0.11", "pop: mars, address: 10.2.0.11"),
    ):
        assert good in text
        text = text.replace(good, bad)
    result = subprocess.run(
        [sys.executable, "-m", "meshd.cli.meshctl", "--server", meshd.grpc, "apply", "-f", "-"],
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    head, *faults = result.stderr.splitlines()
    assert head == "refused: 5 faults"
    marks = ("pluto", "80800", "max_answers: 40", "10.2.0.1/16", "mars")
    lines = enumerate(text.splitlines(), start=1)
    wrong = [number for number, line in lines if any(mark in line for mark in marks)]
    assert [int(line.split()[1].rstrip(":")) for line in faults] == wrong
    assert said(meshd, "get", "services")["revision"] == 1


def test_get_in_every_form(meshd: Meshd) -> None:
    table = done(meshd, "get", "instances")
    assert table.splitlines()[0].split()[:5] == ["name", "service", "version", "pop", "verdict"]
    assert len(table.splitlines()) == 6
    assert done(meshd, "get", "instance", "api-eu-1", "-o", "name") == "instances/api-eu-1\n"
    (instance,) = said(meshd, "get", "inst", "api-eu-1")["instances"]
    assert (instance["version"], instance["verdict"]) == ("1.2.0", "up")
    assert "ranges:" in done(meshd, "get", "ranges", "-o", "yaml")
    for kind in ("zones", "pops", "ranges", "svc", "overrides", "presence"):
        done(meshd, "get", kind)
    result = meshd.meshctl("get", "instances", "nobody")
    assert result.returncode == 1
    assert "nobody" in result.stderr


def test_export_is_a_document(meshd: Meshd, tmp_path: Path) -> None:
    text = done(meshd, "export")
    (tmp_path / "again.yaml").write_text(text)
    assert "nothing to do" in done(meshd, "apply", "-f", str(tmp_path / "again.yaml"), "--yes")
    assert set(said(meshd, "export")["document"]) >= {"zones", "pops", "services", "instances"}


def test_resolve_and_explain(meshd: Meshd) -> None:
    found = said(meshd, "resolve", NAME, "--client", "10.1.0.7")
    assert found["status"] == "found"
    assert {e["pop"] for e in found["endpoints"] if e["in_set"]} == {"eu"}
    assert f"TTL {found['ttl_s']} s" in done(meshd, "resolve", NAME, "--client", "10.1.0.7")
    text = done(meshd, "explain", NAME, "--client", "10.1.7.7")
    for word in (
        "10.1.0.0/16 > 10.1.7.0/24",
        "bucket",
        "arm",
        "TTL",
        "scope",
        "from range 10.1.7.0/24",
    ):
        assert word in text
    why = said(meshd, "explain", NAME, "--client", "10.1.7.7")
    assert why["selector"] == "{1.2: 95, 1.3: 5}"
    assert {line["instance"] for line in why["instances"]} == {
        "api-eu-1", "api-eu-2", "api-eu-3", "api-us-1", "api-us-2"
    }  # fmt: skip
    assert all(line["place"] or line["excluded"] for line in why["instances"])
    assert meshd.meshctl("resolve", "nothing.mesh.internal").returncode == 1
    assert meshd.meshctl("explain", NAME, "--client", "10.1.0.300").returncode == 1


def test_resolve_prints_records(meshd: Meshd) -> None:
    """As DNS gives them, in the same order; and what is said of what is not there."""
    found = said(meshd, "resolve", NAME, "--client", "10.1.0.7", "--type", "A")
    listed = [e["addresses"][0] for e in found["endpoints"] if e["in_set"]]
    assert found["answer"] == [f"{NAME}. {found['ttl_s']} IN A {each}" for each in listed]
    assert found["rcode"] == "NOERROR"
    srv = f"_http._tcp.{NAME}"
    text = done(meshd, "resolve", srv, "--client", "10.1.0.7", "--type", "SRV")
    assert f"answer      {srv}. {found['ttl_s']} IN SRV 10 " in text
    assert "additional  api-eu-" in text
    missing = meshd.meshctl("resolve", "nothing.mesh.internal", "--type", "TYPE28")
    assert missing.stdout.startswith("NXDOMAIN")
    assert " IN SOA " in missing.stdout
    assert missing.returncode == 1
    wrong = meshd.meshctl("resolve", NAME, "--type", "NONE-SUCH")
    assert "'NONE-SUCH' is no record type" in wrong.stderr
    assert wrong.returncode == 1


def test_instances_are_overruled(meshd: Meshd) -> None:
    for verb, verdict in (
        ("drain", "draining"),
        ("down", "forced down"),
        ("up", "forced up"),
        ("clear", "up"),
    ):
        done(meshd, "instance", verb, "api-eu-2", *(["--notice", "0s"] if verb == "drain" else []))
        (instance,) = said(meshd, "get", "instances", "api-eu-2")["instances"]
        assert instance["verdict"] == verdict
    done(meshd, "instance", "drain", "api-eu-2", "--notice", "0s")
    excluded = said(meshd, "explain", NAME, "--client", "10.1.0.7")
    (line,) = [each for each in excluded["instances"] if each["instance"] == "api-eu-2"]
    assert line["excluded"] == "verdict is draining"
    done(meshd, "instance", "clear", "api-eu-2")
    assert meshd.meshctl("instance", "drain", "nobody").returncode == 1


def test_a_drain_is_announced_and_says_when_it_is_safe(meshd: Meshd) -> None:
    text = done(meshd, "instance", "drain", "api-eu-2", "--notice", "200ms")
    assert "api-eu-2: forced drain, revision" in text
    assert "safe to stop at" in text
    entries = said(meshd, "history", "-n", "2")
    assert [entry["what"] for entry in entries] == [
        "instance drain api-eu-2", "instance drain api-eu-2: notice of 0.2 s"
    ]  # fmt: skip
    again = said(meshd, "instance", "drain", "api-eu-2")
    assert 0 < again["safe_in_s"] <= 62
    assert said(meshd, "history", "-n", "1")[0]["what"] == "instance drain api-eu-2"
    done(meshd, "instance", "clear", "api-eu-2")


def test_a_drain_that_is_interrupted_stays(meshd: Meshd) -> None:
    command = [sys.executable, "-m", "meshd.cli.meshctl", "--server", meshd.grpc]
    drain = [*command, "instance", "drain", "api-eu-2", "--notice", "60s"]
    draining = subprocess.Popen(drain, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        wait_until("it leaves", lambda: _verdict(meshd, "api-eu-2") == "leaving")
        # Until the override is written the interrupt would be another story.
        draining.send_signal(signal.SIGINT)
        _, complaint = draining.communicate(timeout=20)
    finally:
        draining.kill()
        draining.communicate()
    assert draining.returncode == 1
    assert "interrupted: api-eu-2 is still answered" in complaint
    assert _verdict(meshd, "api-eu-2") == "leaving"
    done(meshd, "instance", "clear", "api-eu-2")


def _verdict(meshd: Meshd, name: str) -> str:
    (instance,) = said(meshd, "get", "instances", name)["instances"]
    verdict: str = instance["verdict"]
    return verdict


def test_overrides_by_pattern_and_for_a_time(meshd: Meshd) -> None:
    refused = meshd.meshctl("instance", "down", "api-eu-*")
    assert (refused.returncode, "3 of 5 ready instances" in refused.stderr) == (1, True)
    text = done(meshd, "instance", "down", "api-eu-*", "--for", "15s", "--force")
    assert "api-eu-*: forced down for 15 s (3 instances now)" in text
    table = done(meshd, "get", "overrides")
    assert "expires" in table
    (override,) = said(meshd, "get", "overrides")["overrides"]
    assert 0 < override["expires_in_s"] <= 15
    assert _verdict(meshd, "api-eu-3") == "forced down"
    wait_until("it expired", lambda: _verdict(meshd, "api-eu-3") == "up", 60)
    assert said(meshd, "get", "overrides")["overrides"] == []
    typo = meshd.meshctl("instance", "up", "apj-*")
    assert (typo.returncode, "no instance matches 'apj-*' now" in typo.stderr) == (1, True)
    assert "(0 instances now)" in done(meshd, "instance", "up", "apj-*", "--force")
    done(meshd, "instance", "clear", "apj-*")
    for words in (["NAME"], ["api-eu-1", "--for", "soon"]):
        assert meshd.meshctl("instance", "up", *words).returncode == 2
    assert meshd.meshctl("instance", "up", "api-eu-1", "--for", "25h").returncode == 1


def test_drain_of_all_says_that_it_is_not_safe(meshd: Meshd) -> None:
    words = ("instance", "drain", "api-*", "--notice", "0s", "--force")
    result = meshd.meshctl(*words, "--wait")
    assert result.returncode == 1
    assert "nothing else of its service is ready" in result.stderr
    assert "does not become safe to stop" in result.stderr
    assert said(meshd, *words)["safe_at"] is None
    done(meshd, "instance", "clear", "api-*")
    nobody = meshd.meshctl("instance", "drain", "nobody-*")
    assert (nobody.returncode, "no instance is called" in nobody.stderr) == (1, True)


def test_top(meshd: Meshd) -> None:
    table = done(meshd, "top", "--once")
    assert table.splitlines()[0].split()[:5] == ["service", "pop", "instance", "version", "verdict"]
    assert len(table.splitlines()) == 6
    (service,) = said(meshd, "top", "--once", "--service", "api")["services"]
    shares = {"eu": 0.0, "us": 0.0}
    for line in service["instances"]:
        shares[line["pop"]] += line["share"]
    assert shares == {"eu": 1.0, "us": 1.0}
    assert meshd.meshctl("top", "--once", "--service", "none").returncode == 1
    command = [sys.executable, "-m", "meshd.cli.meshctl", "--server", meshd.grpc, "top", "--json"]
    topping = subprocess.Popen([*command, "--every", "200ms"], stdout=subprocess.PIPE, text=True)
    assert topping.stdout is not None
    try:
        for _ in range(3):
            assert json.loads(topping.stdout.readline())["services"]
        topping.send_signal(signal.SIGINT)
        assert topping.wait(10) == 0
    finally:
        topping.kill()
        topping.communicate()


def test_instances_are_added_and_removed(meshd: Meshd) -> None:
    new = ("--service", "api", "--version", "1.2.5", "--pop", "eu", "--address", "10.1.0.99")
    done(meshd, "instance", "add", "api-eu-9", *new, "--port", "http=8099", "--capacity", "0.5")
    (instance,) = said(meshd, "get", "instances", "api-eu-9")["instances"]
    assert (instance["ports"], instance["capacity"]) == ({"http": 8099}, 0.5)
    assert said(meshd, "instance", "remove", "api-eu-9")["done"] == "removed"
    wrong = meshd.meshctl("instance", "add", "x", *new[:-1], "nowhere")
    assert wrong.returncode == 2
    lost = meshd.meshctl("instance", "add", "x", *new[:4], "--pop", "mars", *new[-2:])
    assert (lost.returncode, "mars" in lost.stderr) == (1, True)


def test_unsafe_needs_force(meshd: Meshd, tmp_path: Path) -> None:
    document = tmp_path / "empty.yaml"
    document.write_text("instances: {}\n")
    result = meshd.meshctl("apply", "-f", str(document), "--yes")
    assert result.returncode == 1
    assert "would lose its last 5 instances" in result.stderr
    assert len(said(meshd, "get", "instances")["instances"]) == 5
    assert "applied" in done(meshd, "apply", "-f", str(document), "--yes", "--force")
    assert "applied" in done(meshd, "apply", "-f", QUICKSTART, "--yes")


def test_history_tells_who_did_what(meshd: Meshd) -> None:
    entries = said(meshd, "history", "-n", "3")
    assert [entry["what"] for entry in entries][:2] == ["apply", "apply"]
    assert all("@" in entry["who"] for entry in entries)
    revisions = [int(entry["revision"]) for entry in entries]
    assert revisions == sorted(revisions, reverse=True)
    drained = [
        e for e in said(meshd, "history", "-n", "100") if e["what"] == "instance drain api-eu-2"
    ]
    (edit,) = drained[0]["edits"]
    assert (edit["kind"], edit["name"], edit["after"]["override"]["force"]) == (
        "overrides", "api-eu-2", "drain"
    )  # fmt: skip
    assert "instance drain api-eu-2" in done(meshd, "history", "-n", "100")


def test_watch_prints_changes_as_they_come(meshd: Meshd) -> None:
    command = [
        sys.executable,
        "-m",
        "meshd.cli.meshctl",
        "--server",
        meshd.grpc,
        "watch",
        "--once",
        "4",
        "--json",
    ]
    watching = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert watching.stdout and watching.stderr
    try:
        timer = threading.Timer(20, watching.kill)
        timer.start()
        assert "watching from revision" in watching.stderr.readline()
        with BlockingRegistration(
            meshd.grpc,
            name="api-eu-8",
            service="api",
            version="1.2.0",
            addresses=["10.1.0.88"],
            load=0.5,
        ):
            lines = [json.loads(watching.stdout.readline()) for _ in range(4)]
        assert {(line["kind"], line["name"]) for line in lines} == {
            ("instances", "api-eu-8"), ("presence", "api-eu-8"), ("signals", "api-eu-8")
        }  # fmt: skip
        assert lines[3]["says"] == "load 50%, up"
        assert watching.wait(10) == 0
    finally:
        timer.cancel()
        watching.kill()
        watching.wait()
        watching.stdout.close()
        watching.stderr.close()


def test_nobody_there(meshd: Meshd) -> None:
    command = [
        sys.executable,
        "-m",
        "meshd.cli.meshctl",
        "--server",
        f"127.0.0.1:{free_port()}",
        "--timeout",
        "2",
    ]
    for words in (["get", "pops"], ["plan", "-f", QUICKSTART], ["resolve", NAME], ["watch"]):
        result = subprocess.run(
            [*command, *words], capture_output=True, text=True, check=False, timeout=30
        )
        assert result.returncode == 3, words
        assert "cannot reach meshd" in result.stderr
    result = subprocess.run(
        [*command, "get", "pops", "--json"], capture_output=True, text=True, check=False
    )
    assert json.loads(result.stdout)["exit"] == 3


def test_usage(meshd: Meshd) -> None:
    for words in (["get", "things"], ["apply"], ["nonsense"], ["instance", "add", "x"]):
        assert meshd.meshctl(*words).returncode == 2
