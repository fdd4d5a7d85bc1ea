"""The tests of test_clients.py can see a wrong PowerDNS: each unsafe setting turns up."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.integration.conftest import need_powerdns
from tests.servers.fronts import PowerDns
from tests.servers.processes import Meshd
from tests.servers.queries import Asker, addresses

pytestmark = pytest.mark.integration


@contextmanager
def mutated(meshd: Meshd, folder: Path, settings: Mapping[str, str]) -> Iterator[int]:
    need_powerdns()
    server = PowerDns(folder, meshd.bridge, settings)
    try:
        server.start_ready()
        yield server.port
    finally:
        server.stop()


def orders(port: int, asker: Asker) -> set[tuple[str, ...]]:
    return {tuple(addresses(asker.ask(port, "api.mesh.internal"))) for _ in range(20)}


def test_shuffling_is_seen(meshd: Meshd, folder: Path) -> None:
    with mutated(meshd, folder, {"no-shuffle": "no"}) as port:
        assert len(orders(port, Asker("127.0.1.9"))) > 1


def test_ignored_ecs_is_seen(meshd: Meshd, folder: Path) -> None:
    with mutated(meshd, folder, {"edns-subnet-processing": "no"}) as port:
        by_source = orders(port, Asker("127.0.1.9"))
        assert orders(port, Asker("127.0.1.9", "10.2.2.0/24")) == by_source
        assert all(address.startswith("10.1.") for order in by_source for address in order)


def test_scoped_rows_survive_even_unsafe_caches(meshd: Meshd, folder: Path) -> None:
    """With scopeMask on every row, not even the caches' defaults give one client's to another."""
    settings = {"cache-ttl": "20", "query-cache-ttl": "20", "consistent-backends": "yes"}
    with mutated(meshd, folder, settings) as port:
        for _ in range(3):
            eu, us = (orders(port, Asker(source)) for source in ("127.0.1.9", "127.0.2.9"))
            assert all(address.startswith("10.1.") for order in eu for address in order)
            assert all(address.startswith("10.2.") for order in us for address in order)
