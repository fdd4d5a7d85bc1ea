"""Real cores for meshctl to talk to: one, or two over one etcd."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.servers.etcd import Etcd, program
from tests.servers.processes import Meshd, wait_until


@pytest.fixture(scope="module")
def meshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Meshd]:
    """meshd with an empty store."""
    made = Meshd(tmp_path_factory.mktemp("meshd"))
    try:
        made.start_ready()
        yield made
    finally:
        made.stop()


@pytest.fixture
def two(tmp_path: Path) -> Iterator[tuple[Etcd, Meshd, Meshd]]:
    """Two real cores over one etcd."""
    if program("etcd") is None:
        pytest.skip("etcd is not installed here (Debian: etcd-server)")
    with ExitStack() as stack:
        etcd = Etcd(tmp_path / "etcd")
        stack.callback(etcd.stop)
        etcd.start_ready()
        cores = []
        for name in ("a", "b"):
            (tmp_path / name).mkdir()
            flags = ("--store", "etcd", "--etcd", ",".join(etcd.endpoints), "--node", name)
            cores.append(Meshd(tmp_path / name, 1, *flags))
            stack.callback(cores[-1].stop)
            cores[-1].start()
        for core in cores:
            wait_until("meshd is ready", core.is_ready, 60)
        yield etcd, cores[0], cores[1]
