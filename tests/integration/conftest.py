"""meshd and PowerDNS, started once for the tests that only ask."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.topology import running
from tests.integration.ways import Way, Ways
from tests.servers.fronts import PowerDns
from tests.servers.install import find
from tests.servers.processes import Meshd


@pytest.fixture(scope="session")
def ways(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ways]:
    """All ways in, started as they are asked for."""
    made = Ways(lambda name: tmp_path_factory.mktemp(name.replace(",", "").replace(" ", "-")))
    try:
        yield made
    finally:
        made.stop()


@pytest.fixture
def way(request: pytest.FixtureRequest, ways: Ways) -> Way:
    """One way in, by its name."""
    return ways.get(request.param)


@pytest.fixture(scope="module")
def meshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Meshd]:
    """meshd with two answerers and the document of topology.py applied."""
    with running(tmp_path_factory.mktemp("meshd")) as made:
        yield made


@pytest.fixture(scope="module")
def powerdns(meshd: Meshd, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PowerDns]:
    """PowerDNS in front of `meshd`, configured as shipped."""
    need_powerdns()
    made = PowerDns(tmp_path_factory.mktemp("powerdns"), meshd.bridge)
    try:
        made.start_ready()
        yield made
    finally:
        made.stop()


def need_powerdns() -> None:
    """Skip, and say why, where PowerDNS is not installed and could not be."""
    if not find("pdns_server"):
        pytest.skip("PowerDNS is not installed here (Debian: pdns-server pdns-backend-remote)")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder for servers of one test; unix sockets need short paths."""
    assert len(str(tmp_path)) < 90, "the bridge's path would be too long for a unix socket"
    return tmp_path
