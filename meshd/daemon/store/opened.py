"""The store that the settings name."""

from meshd.daemon.settings import CoreSettings
from meshd.daemon.store.base import Store
from meshd.daemon.store.embedded import EmbeddedStore

# Revisions of history and audit: registrations come and go in it too.
_KEEP = 100_000


async def open_store(settings: CoreSettings) -> Store:
    """The store; Unavailable if a file cannot be opened. What is elsewhere need not be reached."""
    if settings.store == "embedded":
        return await EmbeddedStore.open(settings.data / "store.db", keep_revisions=_KEEP)
    # Nobody who keeps a file loads what speaks to etcd.
    from meshd.daemon.store.etcd import EtcdStore

    return EtcdStore(settings.etcd, keep_revisions=_KEEP)
