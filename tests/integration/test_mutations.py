"""The kit can see a wrong server: each unsafe setting makes it complain (K11)."""

import time
from pathlib import Path

import pytest

from tests.integration.judge import ASKERS, Expected, complaints, expected_of, storm
from tests.integration.mutants import MUTANTS
from tests.integration.ways import Way, Ways, forward
from tests.servers.between import TcpBetween
from tests.servers.fronts import PowerDns, unbound_subnetcache
from tests.servers.install import find
from tests.servers.queries import addresses

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def expected(ways: Ways) -> Expected:
    """What each asker should get."""
    return expected_of(ways.meshd)


@pytest.mark.parametrize("name", list(MUTANTS))
def test_an_unsafe_setting_is_seen(ways: Ways, expected: Expected, folder: Path, name: str) -> None:
    mutant = MUTANTS[name]
    for program in mutant.programs:
        if not find(program):
            pytest.skip(f"{program} is not installed here")
    front = mutant.make(ways, folder)
    try:
        front.start_ready()
        assert complaints(front.port, expected) != []
    finally:
        front.stop()


@pytest.mark.parametrize("way", ["powerdns"], indirect=True)
def test_scoped_rows_survive_even_unsafe_caches(
    way: Way, ways: Ways, expected: Expected, folder: Path
) -> None:
    """With scopeMask on every row, not even the caches' defaults give one client's to another."""
    settings = {"cache-ttl": "20", "query-cache-ttl": "20", "consistent-backends": "yes"}
    front = PowerDns(folder, ways.meshd.bridge, settings)
    try:
        front.start_ready()
        assert complaints(front.port, expected) == []
    finally:
        front.stop()


@pytest.mark.parametrize("way", ["unbound subnetcache"], indirect=True)
def test_a_slow_meshd_brings_nobody_together(
    way: Way, ways: Ways, expected: Expected, folder: Path
) -> None:
    """K3: while one client's question waits for 150 ms, another's is not added to it."""
    slow = TcpBetween(ways.meshd.dns_port, 0.15)
    front = unbound_subnetcache(folder, slow.port, forward(ways.elsewhere.port))
    pairs = [[("source eu", "A")], [("source us", "A")], [("ecs eu", "A")], [("ecs us", "A")]]
    try:
        front.start_ready()
        assert storm(front.port, expected, pairs) == []
    finally:
        front.stop()
        slow.stop()


def test_the_slow_port_is_slow(ways: Ways) -> None:
    slow = TcpBetween(ways.meshd.dns_port, 0.15)
    try:
        began = time.monotonic()
        reply = ASKERS["source eu"].ask(slow.port, "api.mesh.internal", tcp=True)
        assert time.monotonic() - began >= 0.15
        # It connects from elsewhere: whose list this is does not matter here.
        assert len(addresses(reply)) == 4
    finally:
        slow.stop()
