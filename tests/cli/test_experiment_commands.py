"""meshctl experiment, against a real core: what is written, and what is refused."""

import json
from typing import Any

import pytest

from tests.servers.processes import ROOT, Meshd

pytestmark = pytest.mark.integration

ARMS = ("--service", "api", "--arm", "a=1.2:50", "--arm", "b=1.3:50%")


def done(meshd: Meshd, *words: str) -> str:
    result = meshd.meshctl("experiment", *words)
    assert result.returncode == 0, result.stderr
    return result.stdout


def said(meshd: Meshd, *words: str) -> Any:
    return json.loads(done(meshd, *words, "--json"))


@pytest.fixture(scope="module")
def core(meshd: Meshd) -> Meshd:
    meshd.apply((ROOT / "examples/quickstart/mesh.yaml").read_text())
    return meshd


def test_an_experiment_begins_once_and_ends(core: Meshd) -> None:
    text = done(core, "start", "cart", *ARMS, "--pop", "eu", "--range", "10.2.0.0/16")
    assert text.startswith("cart: begun, revision 2; api: a 50 % 1.2, b 50 % 1.3 of pop eu, range")
    made = said(core, "status", "cart")
    assert [(arm["name"], arm["selector"], arm["percent"]) for arm in made["arms"]] == [
        ("a", "1.2", 50.0), ("b", "1.3", 50.0)
    ]  # fmt: skip
    assert made["scope"] == {"pops": ["eu"], "ranges": ["10.2.0.0/16"]}
    assert "@" in made["author"]
    again = said(core, "start", "cart", *ARMS, "--pop", "eu", "--range", "10.2.0.0/16")
    assert (again["done"], again["revision"]) == ("was begun before", 2)
    other = core.meshctl("experiment", "start", "cart", *ARMS)
    assert (other.returncode, "is there already, and differs" in other.stderr) == (1, True)
    assert said(core, "stop", "cart")["done"] == "ended"
    assert said(core, "list")["experiments"] == []
    gone = core.meshctl("experiment", "stop", "cart")
    assert (gone.returncode, "cart" in gone.stderr) == (1, True)


def test_each_takes_clients_after_those_before(core: Meshd) -> None:
    done(core, "start", "one", "--service", "api", "--arm", "a=1.2:10")
    done(core, "start", "two", "--service", "api", "--arm", "a=1.3:12.5")
    found = said(core, "list", "--service", "api")["experiments"]
    assert [(each["name"], each["order"]) for each in found] == [("one", 1), ("two", 2)]
    assert done(core, "list").splitlines()[2].startswith("two")
    assert "87.5 % are not in it" in done(core, "status", "two")
    entries = json.loads(core.meshctl("history", "-n", "2", "--json").stdout)
    assert [entry["what"] for entry in entries] == ["experiment start two", "experiment start one"]
    for name in ("one", "two"):
        done(core, "stop", name)


def test_all_mistakes_in_the_flags_are_listed(core: Meshd) -> None:
    arms = ("--arm", "a=1.2", "--arm", "B=1.3:50", "--arm", "c={1: 1, 2: 2}:5", "--arm", "d=1.4:0")
    wrong = core.meshctl("experiment", "start", "Cart", "--service", "api", *arms)
    assert wrong.returncode == 2
    for what in ("'a=1.2' is no arm", "'B' is no name of an arm", "no split", "above 0", "'Cart'"):
        assert what in wrong.stderr, what
    much = core.meshctl("experiment", "start", "cart", *ARMS, "--arm", "c=1.4:1")
    assert (much.returncode, "more than 100 %" in much.stderr) == (2, True)
    assert said(core, "list")["experiments"] == []
