"""meshctl doctor: finds nothing wrong with what we ship, and each thing that is wrong."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.integration.mutants import MUTANTS
from tests.integration.ways import NEEDED, Way, Ways, elsewhere_pool, forward
from tests.servers.between import LineRewriter, UdpBetween
from tests.servers.fronts import Dnsdist, Front, PowerDns, unbound_subnetcache
from tests.servers.install import find
from tests.servers.processes import Meshd, free_port
from tests.servers.queries import Asker

pytestmark = pytest.mark.integration

CHECKS = ["reach", "own list", "subnet", "mixed up", "order", "TTL", "scope", "negative", "SRV",
          "HTTPS", "case"]  # fmt: skip


def examined(meshd: Meshd, port: int, *options: str) -> tuple[int, dict[str, dict[str, str]]]:
    """The exit code, and the findings by check."""
    done = meshd.meshctl("doctor", f"127.0.0.1:{port}", "--json", *options)
    assert done.returncode in (0, 1, 3), done.stderr
    said = json.loads(done.stdout)
    return done.returncode, {finding["check"]: finding for finding in said["findings"]}


def failed(findings: dict[str, dict[str, str]]) -> list[str]:
    return [check for check, finding in findings.items() if finding["level"] == "FAIL"]


@pytest.mark.parametrize("way", list(NEEDED), indirect=True)
def test_what_we_ship_is_healthy(way: Way, ways: Ways) -> None:
    code, findings = examined(ways.meshd, way.port)
    assert list(findings) == CHECKS
    levels = {check: finding["level"] for check, finding in findings.items()}
    # A resolver may hold what other tests asked for.
    held = [levels.pop(check) for check in ("TTL", "scope")]
    assert set(levels.values()) == {"ok"}, [f for f in findings.values() if f["level"] != "ok"]
    assert set(held) <= ({"ok", "note"} if way.is_resolver else {"ok"})
    assert code == 0


@pytest.mark.parametrize("way", ["unbound subnetcache"], indirect=True)
def test_what_is_kept_for_a_wider_subnet(way: Way, ways: Ways) -> None:
    """Right by RFC 7871, so it is a note."""
    Asker("127.0.1.9", "10.2.0.0/16").ask(way.port, "api.mesh.internal")
    code, findings = examined(ways.meshd, way.port, "--subnet", "10.2.0.0/24")
    assert findings["scope"]["level"] == "note"
    assert "wider" in findings["scope"]["text"]
    assert code == 0


@pytest.mark.parametrize("name", list(MUTANTS))
def test_an_unsafe_setting_is_named(ways: Ways, folder: Path, name: str) -> None:
    """K11, from outside."""
    mutant = MUTANTS[name]
    for program in mutant.programs:
        if not find(program):
            pytest.skip(f"{program} is not installed here")
    with started(mutant.make(ways, folder)) as front:
        code, findings = examined(ways.meshd, front.port)
    assert mutant.doctor in failed(findings), findings
    assert findings[mutant.doctor]["mend"]
    assert code == 1


@contextmanager
def started(front: Front) -> Iterator[Front]:
    try:
        front.start_ready()
        yield front
    finally:
        front.stop()


def dnsdist_with(rule: str) -> Callable[[Ways, Path], Front]:
    return lambda ways, folder: Dnsdist(
        folder, ways.meshd.dns_port, None, elsewhere_pool(ways.elsewhere.port) + "\n" + rule
    )


class HalfScoped(PowerDns):
    """PowerDNS whose rows claim to hold for more clients than they do."""

    def __init__(self, ways: Ways, folder: Path) -> None:
        def halve(request: dict[str, Any], result: Any) -> Any:
            if request["method"] != "lookup":
                return result
            return [{**row, "scopeMask": row["scopeMask"] // 2} for row in result]

        self._between = LineRewriter(folder / "between.sock", ways.meshd.bridge, halve)
        super().__init__(folder, self._between.path)

    def stop(self) -> int:
        code = super().stop()
        self._between.stop()
        return code


SPOILED: dict[str, tuple[str, Callable[[Ways, Path], Front]]] = {
    "TTL": (
        "unbound",
        lambda ways, folder: unbound_subnetcache(
            folder, ways.meshd.dns_port, "    cache-min-ttl: 300\n" + forward(ways.elsewhere.port)
        ),
    ),
    "scope": ("pdns_server", HalfScoped),
    "negative": (
        "dnsdist",
        dnsdist_with('addAction(RegexRule("^meshd-doctor"), RCodeAction(DNSRCode.NXDOMAIN))'),
    ),
    "SRV": ("dnsdist", dnsdist_with("addAction(QTypeRule(33), RCodeAction(DNSRCode.NXDOMAIN))")),
    "HTTPS": ("dnsdist", dnsdist_with("addAction(QTypeRule(65), RCodeAction(DNSRCode.NOERROR))")),
}


@pytest.mark.parametrize("check", list(SPOILED))
def test_only_what_is_wrong_is_said(ways: Ways, folder: Path, check: str) -> None:
    program, make = SPOILED[check]
    if not find(program):
        pytest.skip(f"{program} is not installed here")
    with started(make(ways, folder)) as front:
        code, findings = examined(ways.meshd, front.port)
    # A minimum TTL is one of negative answers as well.
    assert failed(findings) == (["TTL", "negative"] if check == "TTL" else [check]), findings
    assert code == 1


def test_a_name_that_comes_back_changed(ways: Ways) -> None:
    """And no TCP: that does not keep it from looking at the rest."""
    between = UdpBetween(
        ways.meshd.dns_port, rewrite=lambda data: data[:12] + data[12:31].lower() + data[31:]
    )
    try:
        code, findings = examined(ways.meshd, between.port, "--source", "127.0.0.1")
    finally:
        between.stop()
    assert failed(findings)[0] == "reach"
    assert "case" in failed(findings)
    assert list(findings) == CHECKS
    assert code == 1


def test_nobody_there(ways: Ways) -> None:
    code, findings = examined(ways.meshd, free_port())
    assert list(findings) == failed(findings) == ["reach"]
    assert code == 3


def test_one_line_a_finding(ways: Ways) -> None:
    done = ways.meshd.meshctl("doctor", f"127.0.0.1:{ways.meshd.dns_port}")
    head, *lines = done.stdout.splitlines()
    assert "api.mesh.internal" in head
    assert [line[5:15].strip() for line in lines] == CHECKS
    assert {line[:5].strip() for line in lines} == {"ok"}


def test_clients_of_ones_own(ways: Ways) -> None:
    done = ways.meshd.meshctl(
        "doctor", f"127.0.0.1:{ways.meshd.dns_port}", "--json", "--name", "api.myservice.com",
        "--source", "127.0.2.77", "--subnet", "10.1.7.0/24", "--subnet", "10.2.0.0/16",
    )  # fmt: skip
    said = json.loads(done.stdout)
    assert said["name"] == "api.myservice.com."
    assert said["clients"] == ["127.0.2.77", "subnet 10.1.7.0/24", "subnet 10.2.0.0/16"]
    levels = {finding["check"]: finding["level"] for finding in said["findings"]}
    # One instance in each Pop: no order, and no port https.
    assert levels.pop("order") == "-"
    assert set(levels.values()) == {"ok"}


def test_no_subnets(ways: Ways) -> None:
    code, findings = examined(ways.meshd, ways.meshd.dns_port, "--subnet", "none")
    assert [findings[check]["level"] for check in ("subnet", "scope")] == ["-", "-"]
    assert code == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["127.0.0.1:x"], "is not HOST or HOST:PORT"),
        (["127.0.0.1:0"], "is not HOST or HOST:PORT"),
        (["127.0.0.1", "--source", "nowhere"], "nowhere"),
        (["127.0.0.1", "--subnet", "10.1.2.3/16"], "10.1.0.0/16"),
        (["none.invalid"], "none.invalid"),
    ],
)
def test_wrong_usage(ways: Ways, arguments: list[str], said: str) -> None:
    done = ways.meshd.meshctl("doctor", *arguments)
    assert done.returncode == 2
    assert said in done.stderr


def test_names_that_cannot_be_asked_for(ways: Ways) -> None:
    for name, said in (("none.mesh.internal", "has no address"), ("a..b", "not a DNS name")):
        done = ways.meshd.meshctl("doctor", "127.0.0.1", "--name", name)
        assert done.returncode in (1, 2)
        assert said in done.stderr
