"""The store in etcd keeps every promise, on the etcd that is installed and on a newer one."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator

import pytest

from meshd.daemon.settings import EtcdSettings
from meshd.daemon.store.base import Store
from meshd.daemon.store.etcd import EtcdStore
from tests.daemon.store.contract import StoreContract
from tests.daemon.store.drive import Clock, Opens
from tests.servers.etcd import Etcd, program
from tests.servers.newer_etcd import fetch

_PREFIXES = itertools.count()


class RealClock(Clock):
    """etcd counts by itself: for it, time has to pass."""

    async def advance(self, seconds: float) -> None:
        await super().advance(seconds)
        await asyncio.sleep(seconds)


@pytest.fixture(scope="module", params=["installed", "newer"])
def etcd(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Etcd]:
    binaries, why = fetch() if request.param == "newer" else (None, "")
    if program("etcd", binaries) is None or why:
        pytest.skip(why or "etcd-server is not installed")
    cluster = Etcd(tmp_path_factory.mktemp("etcd"), binaries=binaries)
    try:
        cluster.start_ready()
        yield cluster
    finally:
        cluster.stop()


def settings_of(etcd: Etcd) -> EtcdSettings:
    """Settings with a prefix that nobody used."""
    return EtcdSettings(endpoints=etcd.endpoints, prefix=f"/test{next(_PREFIXES)}")


class TestEtcdStore(StoreContract):
    @pytest.fixture
    def clock(self) -> Clock:
        return RealClock()

    @pytest.fixture
    async def opens(self, etcd: Etcd, clock: Clock) -> AsyncIterator[Opens]:
        self.etcd = etcd
        opened: list[EtcdStore] = []

        async def opens(keep_revisions: int = 10_000) -> EtcdStore:
            opened.append(EtcdStore(settings_of(etcd), clock, keep_revisions))
            return opened[-1]

        yield opens
        for store in opened:
            await store.close()

    async def forget(self, store: Store, revision: int) -> None:
        await asyncio.to_thread(self.etcd.etcdctl, "compact", str(revision + 1))
