"""The store that the settings name, and what it tells Prometheus."""

from collections.abc import Sequence

from prometheus_client.registry import Collector

from meshd.daemon.settings import CoreSettings
from meshd.daemon.store.base import Store
from meshd.daemon.store.embedded import EmbeddedStore

# Revisions of history and audit: registrations come and go in it too.
_KEEP = 100_000


async def open_store(settings: CoreSettings) -> tuple[Store, Sequence[Collector]]:
    """The store; Unavailable if a file cannot be opened. What is elsewhere need not be reached."""
    if settings.store == "embedded":
        return await EmbeddedStore.open(settings.data / "store.db", keep_revisions=_KEEP), ()
    # Nobody who keeps a file loads what speaks to etcd.
    from meshd.daemon.store.etcd import EtcdStore
    from meshd.daemon.store.etcd_metrics import EtcdCollector

    store = EtcdStore(settings.etcd, keep_revisions=_KEEP)
    return store, [EtcdCollector(store)]
