"""The store in etcd: replicated, shared by all cores that name the same prefix.

A revision is etcd's own: it grows by each commit, but also by what others write there.
"""

import asyncio
import logging
import secrets
import time
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from itertools import groupby
from math import ceil
from typing import Any

from meshd.core.errors import Compacted, LeaseLost, Refused, Unavailable
from meshd.daemon.etcd.access import access_of
from meshd.daemon.etcd.client import Client
from meshd.daemon.etcd.renewals import Renewals
from meshd.daemon.etcd.requests import get, is_at, put
from meshd.daemon.etcd.watch import Watch
from meshd.daemon.settings import EtcdSettings
from meshd.daemon.store.audit import pack
from meshd.daemon.store.base import (
    AuditEntry,
    Author,
    Batch,
    Change,
    Contents,
    Delete,
    Expect,
    Item,
    Write,
)
from meshd.daemon.store.committer import Committer
from meshd.daemon.store.decide import MAX_LEASE, Commit, check_ttl
from meshd.daemon.store.layout import Layout
from meshd.daemon.store.trail import Trail
from meshd.etcdwire import etcd_pb2 as pb

log = logging.getLogger(__name__)

_LEAST_TTL_S = 2
_AT_ONCE = 5_000
_MAX_REVISION = (1 << 63) - 1


class EtcdStore:
    """A Store in etcd; `store_id` is empty until it was loaded.

    Every call is over within 2 s if etcd cannot be reached or has no quorum. What is Unavailable
    only because no answer came may have been written: its message says so.
    """

    def __init__(
        self,
        settings: EtcdSettings,
        wall: Callable[[], float] = time.time,
        keep_revisions: int = 10_000,
    ) -> None:
        """Invalid if the settings, or files that they name, are wrong; etcd is not asked."""
        self.store_id = ""
        self._client = Client(access_of(settings))
        self._layout = Layout(settings.prefix.rstrip("/") + "/")
        self._wall = wall
        self._renewals = Renewals(self._client)
        self._committer = Committer(self._client, self._layout, wall)
        self._trail = Trail(self._client, self._layout, wall, keep_revisions)
        self._incarnation = 0
        self._ignored: set[bytes] = set()
        self._head = 0

    def __repr__(self) -> str:
        return (
            f"<EtcdStore {self._layout.prefix} at {self.endpoint} revision={self._head}"
            f" retries={self.retries} resumes={self.watch_resumes} ignored={self.ignored}>"
        )

    @property
    def endpoint(self) -> str:
        """The endpoint in use."""
        return self._client.endpoints.current

    @property
    def retries(self) -> int:
        """Calls that were sent once more."""
        return self._client.retries

    @property
    def watch_resumes(self) -> int:
        """Watches that went on after their stream was lost."""
        return self._client.resumes

    @property
    def ignored(self) -> int:
        """Keys that are left out because they are not UTF-8."""
        return len(self._ignored)

    async def head(self) -> int:
        """As every store; it may be that of what others wrote to this etcd."""
        self._check_open()
        reply = await self._client.call("Range", get(self._layout.store_id).request_range)
        return int(reply.header.revision)

    async def load(self) -> Contents:
        store_id, incarnation = b"", -1
        while not store_id or incarnation != self._client.incarnation:
            incarnation = self._client.incarnation
            revision, kvs = await self._client.read(self._layout.watched)
            store_id = next((kv.value for kv in kvs if kv.key == self._layout.store_id), b"")
            if not store_id:
                await self._stamp(self._client.deadline())
        self._ignored.clear()
        items: list[Item] = []
        for first in range(0, len(kvs), _AT_ONCE):
            items += filter(None, map(self._item, kvs[first : first + _AT_ONCE]))
            # Others want the event loop too.
            await asyncio.sleep(0)
        self.store_id = store_id.decode(errors="replace")
        self._incarnation, self._head = incarnation, revision
        return Contents(self.store_id, revision, tuple(items))

    async def commit(
        self, writes: Sequence[Write], author: Author, expect: Sequence[Expect] = ()
    ) -> int:
        """As every store, if it fits into one request of etcd (about 1.4 MB, audit included).

        What is larger is written in parts, puts first, then deletes, at last the keys that are
        expected, each part only while what is expected holds. It is then not atomic: if it is
        interrupted, the error says how much is written, and the same commit may be repeated.
        """
        commit = Commit(tuple(writes), author, tuple(expect))
        return await self._commit(commit, self._client.deadline())

    async def follow(self, after: int) -> AsyncIterator[Batch]:
        self._check_open()
        if not self.store_id:
            raise Compacted("nothing was loaded yet")
        if not 0 <= after < _MAX_REVISION:
            raise Compacted(f"there is no revision {after}")

        async def look(until: float) -> None:
            await self._look(after, until)

        watch = Watch(self._client, self._layout.watched, after, look)
        async for events in watch.changes():
            for revision, group in groupby(events, lambda event: event.kv.mod_revision):
                changes = tuple(filter(None, map(self._change, group)))
                after = revision
                if changes:
                    self._head = max(self._head, revision)
                    yield Batch(revision, changes)

    async def grant(self, ttl_s: float) -> int:
        """A lease of whole seconds, at least two."""
        check_ttl(ttl_s)
        # Drawn here, so that a grant whose answer was lost is known when it is asked for again.
        lease = secrets.randbelow(MAX_LEASE) + 1
        request = pb.LeaseGrantRequest(TTL=max(_LEAST_TTL_S, ceil(ttl_s)), ID=lease)
        try:
            await self._client.call("LeaseGrant", request)
        except Refused as error:
            if "already exists" not in str(error):
                raise
        return lease

    async def renew(self, lease: int) -> None:
        self._check_open()
        _check_lease(lease)
        await self._renewals.renew(lease)

    async def revoke(self, lease: int) -> None:
        """As every store; a key that is bound to the lease meanwhile goes without an audit."""
        self._check_open()
        if not 0 < lease <= MAX_LEASE:
            return
        until = self._client.deadline()
        request = pb.LeaseTimeToLiveRequest(ID=lease, keys=True)
        known = await self._client.call("LeaseTimeToLive", request, until)
        if known.TTL < 0:
            return
        keys = [key for key in map(self._layout.key, known.keys) if key is not None]
        author = Author("lease", f"lease {lease} revoked")
        commit = Commit(tuple(Delete(key) for key in sorted(keys)), author)
        await self._commit(commit, until, lease)
        try:
            await self._client.call("LeaseRevoke", pb.LeaseRevokeRequest(ID=lease), until)
        except LeaseLost:
            log.debug("lease ran out meanwhile: lease=%d", lease)

    async def history(self, limit: int = 100, before: int | None = None) -> tuple[AuditEntry, ...]:
        return await self._trail.history(limit, before)

    async def restamp(self, author: Author) -> str:
        """Give the store a new id: it counts as another one from then on. Returns the id."""
        made = uuid.uuid4().hex
        key = self._layout.store_id
        until = self._client.deadline()
        audit = None
        while True:
            reply = await self._client.call("Range", get(key).request_range, until)
            held = reply.kvs[0].mod_revision if reply.kvs else 0
            if reply.kvs and reply.kvs[0].value == made.encode():
                return made
            audit = audit or self._layout.commit(reply.header.revision)
            record = pack(author, self._wall(), ())
            request = pb.TxnRequest(
                compare=[is_at(key, held)],
                success=[put(key, made.encode()), put(audit, record)],
            )
            if (await self._client.call("Txn", request, until)).succeeded:
                return made

    async def run(self) -> None:
        await self._trail.run()

    async def close(self) -> None:
        await self._client.close()

    async def _commit(self, commit: Commit, until: float, lease: int = 0) -> int:
        self._check_open()
        if not self.store_id:
            self.store_id = await self._stamp(until)
        revision = await self._committer.commit(commit, self.store_id, until, lease)
        self._head = max(self._head, revision)
        return revision or self._head

    async def _stamp(self, until: float) -> str:
        """The store's id, which is made if there is none."""
        made = uuid.uuid4().hex.encode()
        key = self._layout.store_id
        request = pb.TxnRequest(
            compare=[is_at(key, 0)], success=[put(key, made)], failure=[get(key)]
        )
        reply = await self._client.call("Txn", request, until)
        held = made if reply.succeeded else reply.responses[0].response_range.kvs[0].value
        return str(held.decode(errors="replace"))

    async def _look(self, after: int, until: float) -> None:
        """Compacted unless the store is still the one that was loaded, with all of its history.

        To read at `after` finds out more than a watch does: before 3.4.36, one that begins at
        the oldest revision may miss a deletion.
        """
        then = get(self._layout.store_id, max(after, 1))
        request = pb.TxnRequest(success=[get(self._layout.store_id), then])
        reply = await self._client.call("Txn", request, until)
        held = reply.responses[0].response_range.kvs
        if not held or held[0].value != self.store_id.encode():
            raise Compacted(f"another store stands in etcd, not {self.store_id}")
        if self._client.incarnation != self._incarnation:
            raise Compacted(f"etcd is another one, or went back: revision {after} may be no more")

    def _item(self, kv: Any) -> Item | None:
        key = self._layout.key(kv.key)
        if key is None:
            self._ignore(kv.key)
            return None
        return Item(key, kv.value, kv.mod_revision, kv.lease)

    def _change(self, event: Any) -> Change | None:
        kv = event.kv
        if kv.key == self._layout.store_id:
            raise Compacted(f"the store is another one from revision {kv.mod_revision} on")
        key = self._layout.key(kv.key)
        if key is None:
            self._ignore(kv.key)
            return None
        is_gone = event.type == pb.Event.DELETE
        return Change(key, None if is_gone else kv.value, 0 if is_gone else kv.lease)

    def _ignore(self, key: bytes) -> None:
        if key != self._layout.store_id and key not in self._ignored:
            self._ignored.add(key)
            log.warning("key ignored: key=%r", key)

    def _check_open(self) -> None:
        if self._client.is_closed:
            raise Unavailable("the store is closed")


def _check_lease(lease: int) -> None:
    if not 0 < lease <= MAX_LEASE:
        raise LeaseLost(f"lease {lease} is not known")
