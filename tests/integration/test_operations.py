"""What examples/operations says: rules of alerts, metrics, flags of etcd, commands."""

import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import yaml

from meshd.cli.meshctl import main as meshctl
from meshd.cli.meshd import main as meshd_command
from tests.servers.etcd import Etcd, program
from tests.servers.processes import ROOT, Meshd, wait_until

pytestmark = pytest.mark.integration

FOLDER = ROOT / "examples/operations"
PAGE = (FOLDER / "README.md").read_text()
GROUPS = yaml.safe_load((FOLDER / "alerts.yaml").read_text())["groups"]
RULES = [rule for group in GROUPS for rule in group["rules"]]
QUICKSTART = (ROOT / "examples/quickstart/mesh.yaml").read_text()


def named(prefix: str, text: str) -> set[str]:
    """The metrics with a prefix that a text names."""
    return set(re.findall(rf"\b{prefix}_[a-z_]+[a-z]\b", text))


def scraped(url: str) -> set[str]:
    """The metrics that are told there, series and families."""
    with urllib.request.urlopen(url, timeout=10) as reply:
        text = reply.read().decode()
    return set(re.findall(r"^(?:# TYPE )?([a-z_]+)", text, re.MULTILINE))


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcd]:
    """etcd with the flags that the page says."""
    if program("etcd") is None:
        pytest.skip("etcd is not installed here (Debian: etcd-server)")
    flags = re.findall(r"--(?:quota|auto)[^ ]+", PAGE)
    assert len(flags) == 3
    made = Etcd(tmp_path_factory.mktemp("etcd"), flags=flags)
    try:
        made.start_ready()
        yield made
    finally:
        made.stop()


def test_rules_are_whole() -> None:
    assert len({rule["alert"] for rule in RULES}) == len(RULES) > 10
    for rule in RULES:
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}, rule
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"]["summary"]
        assert re.fullmatch(r"\d+[sm]", rule.get("for", "1m"))
        assert rule["expr"].count("(") == rule["expr"].count(")")


def test_a_core_has_the_metrics(etcd: Etcd, tmp_path: Path) -> None:
    meshd = Meshd(tmp_path, 1, "--store", "etcd", "--etcd", ",".join(etcd.endpoints))
    try:
        meshd.start()
        wait_until("meshd is ready", meshd.is_ready, 60)
        meshd.apply(QUICKSTART, timeout_s=30)
        told = scraped(f"http://{meshd.http}/metrics")
    finally:
        meshd.stop()
    wanted = named("meshd", " ".join(rule["expr"] for rule in RULES)) | named("meshd", PAGE)
    assert wanted
    assert wanted - told == set()


def test_etcd_has_the_metrics(etcd: Etcd) -> None:
    told = scraped(f"http://{etcd.endpoints[0]}/metrics")
    wanted = named("etcd", " ".join(rule["expr"] for rule in RULES)) | named("etcd", PAGE)
    assert wanted - told == set()


def test_commands_have_the_flags() -> None:
    groups: dict[str, click.Group] = {"meshd": meshd_command, "meshctl": meshctl}
    blocks = re.findall(r"```sh\n(.*?)```", PAGE + (ROOT / "README.md").read_text(), re.DOTALL)
    text = "".join(blocks).replace("\\\n", " ")
    lines = [line.split("#")[0].split(" -- ")[0].split() for line in text.splitlines()]
    lines = [line for line in lines if line and line[0] in groups]
    assert len(lines) > 20
    for line in lines:
        command: click.Command = groups[line[0]]
        known = {option for each in command.params for option in each.opts}
        for word in line[1:]:
            if isinstance(command, click.Group) and word in command.commands:
                command = command.commands[word]
                known |= {option for each in command.params for option in each.opts}
            elif word.startswith("-"):
                assert word in known, line
        assert not isinstance(command, click.Group), line
