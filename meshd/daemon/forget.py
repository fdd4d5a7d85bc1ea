"""Forgetting instances that came by themselves and stayed away.

Until then they are known and down; the last known instance of a service is never forgotten.
"""

import asyncio
import logging
import time

from meshd.core.errors import MeshError, Unavailable
from meshd.core.snapshot import Snapshot
from meshd.core.topology import Kind
from meshd.daemon.state import State
from meshd.daemon.store.base import Author, Delete, Expect, Store
from meshd.wire.records import key_of

log = logging.getLogger(__name__)

_AUTHOR = Author("meshd", "forget an instance that stayed away")


def absent(snapshot: Snapshot) -> frozenset[str]:
    """Registered instances that hold no lease, but the last one known of each service."""
    topology = snapshot.topology
    away = {
        instance.name
        for instance in topology.instances.values()
        if instance.registered and instance.name not in topology.presence
    }
    for roster in snapshot.rosters.values():
        if roster and roster <= away:
            away.discard(min(roster))
    return frozenset(away)


async def forget_absent(store: Store, state: State, after_s: float) -> None:
    """Delete instances that were absent for `after_s` seconds, for ever."""
    since: dict[str, float] = {}
    while True:
        await asyncio.sleep(min(10.0, after_s / 4))
        now = time.monotonic()
        away = absent(state.snapshot)
        since = {name: since.get(name, now) for name in away}
        for name, at in since.items():
            if now - at < after_s:
                continue
            try:
                # One that comes back at this moment stays.
                absence = Expect(key_of(Kind.PRESENCE, name), 0)
                await store.commit([Delete(key_of(Kind.INSTANCES, name))], _AUTHOR, [absence])
                log.info("instance forgotten: instance=%s", name)
            except Unavailable:
                # None of the others would be either.
                break
            except MeshError as error:
                log.warning("instance not forgotten: instance=%s error=%s", name, error)
