"""New names through PowerDNS: at once with the purge hook, after the cache's time without."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dns.exception
import pytest

from tests.integration.topology import DOCUMENT
from tests.servers.fronts import PowerDns
from tests.servers.install import find
from tests.servers.processes import Meshd, wait_until
from tests.servers.queries import Asker

pytestmark = pytest.mark.integration

NEW = "api-eu-9.instance.api.mesh.internal"
ADD = (
    "instance", "add", "api-eu-9", "--service", "api", "--version", "1.2.0", "--pop", "eu",
    "--address", "10.1.0.99",
)  # fmt: skip


@contextmanager
def powerdns(folder: Path, keeps_s: int, *more: str) -> Iterator[tuple[Meshd, PowerDns]]:
    if not find("pdns_server") or not find("pdns_control"):
        pytest.skip("PowerDNS is not installed here (Debian: pdns-server pdns-backend-remote)")
    meshd = Meshd(folder, 2, *more)
    front: PowerDns | None = None
    try:
        meshd.start_ready()
        meshd.apply(DOCUMENT)
        settings = {"negquery-cache-ttl": str(keeps_s)}
        front = PowerDns(folder, meshd.bridge, settings)
        front.start()
        wait_until("PowerDNS answers", lambda: is_there(front, "api.mesh.internal"))
        yield meshd, front
    finally:
        if front is not None:
            front.stop()
        meshd.stop()


def is_there(front: PowerDns | None, name: str) -> bool:
    assert front is not None
    try:
        return bool(Asker("127.0.1.9").ask(front.port, name).answer)
    except (OSError, dns.exception.Timeout):
        return False


def test_with_the_hook_a_new_name_is_there_at_once(tmp_path: Path) -> None:
    control = f"pdns_control --config-dir={tmp_path}/pdns --socket-dir={tmp_path}/pdns"
    with powerdns(tmp_path, 600, "--purge", f"{control} purge {{name}}$") as (meshd, front):
        assert not is_there(front, NEW)
        assert meshd.meshctl(*ADD).returncode == 0
        wait_until("the new name", lambda: is_there(front, NEW))


def test_without_the_hook_it_is_there_after_the_cache_time(tmp_path: Path) -> None:
    with powerdns(tmp_path, 5) as (meshd, front):
        assert not is_there(front, NEW)
        assert meshd.meshctl(*ADD).returncode == 0
        wait_until("the new name", lambda: is_there(front, NEW), 15)


def test_without_the_hook_a_long_cache_hides_it(tmp_path: Path) -> None:
    """That the first test can fail."""
    with powerdns(tmp_path, 600) as (meshd, front):
        assert not is_there(front, NEW)
        assert meshd.meshctl(*ADD).returncode == 0
        time.sleep(4)
        assert not is_there(front, NEW)
