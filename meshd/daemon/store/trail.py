"""The audit in etcd: reading it, trimming it, and noting the leases that ran out."""

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from typing import Any

from meshd.core.errors import Compacted, Malformed, MeshError
from meshd.daemon.etcd.client import Client
from meshd.daemon.etcd.requests import delete_span, get, put_once
from meshd.daemon.etcd.span import Span
from meshd.daemon.etcd.watch import Watch
from meshd.daemon.store.audit import pack, unpack
from meshd.daemon.store.base import AuditEntry, Author, Edit
from meshd.daemon.store.layout import Layout
from meshd.etcdwire import etcd_pb2 as pb

log = logging.getLogger(__name__)

# Commits that were decided on before another one, and passed after it, are fewer than this.
_OUT_OF_ORDER = 1000
# Nor did they take longer than this many revisions.
_OVERTAKEN = 10_000
_MOST = 1_000_000
_PAGE = 100
_TRIM_EVERY_S = 30.0
_RETRY_S = 1.0
# Cores note the same at the same time: some wait, and find it noted.
_JITTER_S = 0.3
_NOTES_AT_ONCE = 50


class Trail:
    """What was done to a store, for people."""

    def __init__(
        self, client: Client, layout: Layout, wall: Callable[[], float], keep: int
    ) -> None:
        if keep < 1:
            raise ValueError(f"keep_revisions must be at least 1, not {keep}")
        self._client = client
        self._layout = layout
        self._wall = wall
        self._keep = keep
        # Up to here, leases that ran out are noted; None: from now on.
        self._noted: int | None = None

    async def history(self, limit: int, before: int | None) -> tuple[AuditEntry, ...]:
        """The newest entries (older than a revision), newest first."""
        span = self._layout.audit if before is None else self._layout.audit_before(before)
        most = min(max(limit, 0), _MOST) + _OUT_OF_ORDER
        _, kvs = await self._client.read(span, keys_only=True, most=most)
        found = sorted(((self._revision(kv), kv.key) for kv in kvs), reverse=True)
        wanted = [each for each in found if before is None or each[0] < before][: max(limit, 0)]
        if not wanted:
            return ()
        keys = [key for _, key in wanted]
        _, kvs = await self._client.read(Span(min(keys), max(keys) + b"\0"), page=_PAGE)
        values = {kv.key: kv.value for kv in kvs}
        return tuple(_entries((revision, values.get(key)) for revision, key in wanted))

    async def run(self) -> None:
        """Trim and note, for ever."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_for_ever(self._trim))
            tasks.create_task(_for_ever(self._note_expiries))

    async def _trim(self) -> None:
        while True:
            count = pb.RangeRequest(
                key=self._layout.audit.start, range_end=self._layout.audit.end, count_only=True
            )
            held = (await self._client.call("Range", count)).count
            if held > self._keep + self._keep // 10:
                _, kept = await self._client.read(
                    self._layout.audit, keys_only=True, most=self._keep
                )
                old = Span(kept[-1].key + b"\0", self._layout.audit.end)
                await self._client.call("DeleteRange", delete_span(old))
            await asyncio.sleep(_TRIM_EVERY_S * random.uniform(0.5, 1.5))

    async def _note_expiries(self) -> None:
        head = await self._head(self._client.deadline())
        self._noted = head if self._noted is None else self._noted
        watch = Watch(
            self._client, self._layout.items, self._noted, self._head, only_deletions=True
        )
        try:
            async with contextlib.aclosing(watch.changes()) as changes:
                async for events in changes:
                    gone = [event for event in events if event.prev_kv.lease]
                    if gone:
                        await asyncio.sleep(random.uniform(0, _JITTER_S))
                        await self._note(gone)
                    self._noted = watch.after
        except Compacted:
            self._noted = None
            raise

    async def _head(self, until: float) -> int:
        """The newest revision, whichever store it is of."""
        request = get(self._layout.store_id).request_range
        return int((await self._client.call("Range", request, until)).header.revision)

    async def _note(self, events: list[Any]) -> None:
        """Write an entry for each revision that has none: nobody but etcd made it."""
        oldest, newest = events[0].kv.mod_revision, events[-1].kv.mod_revision
        near = self._layout.audit_between(max(oldest - _OVERTAKEN, 0), newest)
        request = pb.RangeRequest(
            key=near.start, range_end=near.end, keys_only=True, min_mod_revision=oldest
        )
        noted = {self._revision(kv) for kv in (await self._client.call("Range", request)).kvs}
        puts = [
            put_once(self._layout.expiry(revision), self._expiry(list(group)))
            for revision, group in groupby(events, lambda event: event.kv.mod_revision)
            if revision not in noted
        ]
        for first in range(0, len(puts), _NOTES_AT_ONCE):
            some = puts[first : first + _NOTES_AT_ONCE]
            await self._client.call("Txn", pb.TxnRequest(success=some))

    def _expiry(self, events: list[Any]) -> bytes:
        keys = ((self._layout.key(event.kv.key), event.prev_kv.value) for event in events)
        edits = [Edit(key, value, None) for key, value in keys if key is not None]
        author = Author("lease", f"lease {events[0].prev_kv.lease} expired")
        return pack(author, self._wall(), edits)

    def _revision(self, kv: Any) -> int:
        return self._layout.revision(kv.key, kv.mod_revision)


async def _for_ever(work: Callable[[], Any]) -> None:
    """Begin work again and again, whatever becomes of it."""
    while True:
        try:
            await work()
        except Compacted as error:
            log.debug("audit: %s", error)
        except MeshError as error:
            log.debug("audit waits for etcd: %s", error)
            await asyncio.sleep(_RETRY_S)


def _entries(found: Iterable[tuple[int, bytes | None]]) -> Iterator[AuditEntry]:
    for revision, packed in found:
        if packed is None:
            # Trimmed since its key was read.
            continue
        try:
            yield unpack(revision, packed)
        except Malformed as error:
            log.warning("audit ignored: %s", error)
