"""One SQLite file: every statement that reads or writes items, history and leases.

Blocking, and no threads of its own: `write` and `trim` belong to one thread, reads to another.
"""

import contextlib
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import Any

from meshd.core.errors import Compacted
from meshd.daemon.store import schema
from meshd.daemon.store.base import AuditEntry, Batch, Change, Contents, Edit, Item
from meshd.daemon.store.group import Group, Held, Job, Known, Outcome, names
from meshd.daemon.store.rows import (
    MAX_BYTES,
    Cell,
    Columns,
    blob,
    cell,
    fetch,
    pack,
    pack_list,
    pages,
)

# One trim takes this many edits away, or one revision.
_TRIM_EDITS = 20_000
# As far as SQLite can count.
_NO_END = (1 << 63) - 1

_HELD = Columns(("key", "revision", "lease"))
_LEASE = Columns(("lease",))
_ITEM = Columns(("key", "revision", "lease"), ("value",))
_CHANGE = Columns(("revision", "place", "key", "lease"), ("after",))
_EDIT = Columns(("revision", "place", "key"), ("before", "after"))
_REVISION = Columns(("revision", "at_unix_s", "who", "what"))

_FIND_KEYS = """
SELECT key, revision, lease FROM items WHERE key IN (SELECT value FROM json_each(?))"""
_FIND_BOUND = """
SELECT key, revision, lease FROM items
WHERE lease != 0 AND lease IN (SELECT value FROM json_each(?))"""
_FIND_LEASES = "SELECT lease FROM leases WHERE lease IN (SELECT value FROM json_each(?))"
_FIND_EDITS = """
SELECT revision, place, key, before, after, lease FROM edits
WHERE (revision, place) > (?, ?) ORDER BY revision, place"""
_FIND_REVISIONS = """
SELECT revision, at_unix_s, who, what FROM revisions WHERE revision < ? ORDER BY revision DESC"""

# Comes before the items are written: they still hold what was before.
_ADD_EDITS = f"""
INSERT INTO edits SELECT
    {cell(0)}, {cell(1)}, {cell(2)},
    iif({cell(3)}, {blob(4)}, (SELECT items.value FROM items WHERE items.key = {cell(2)})),
    {blob(5)}, {cell(6)}
FROM json_each(?1)"""
_ADD_REVISIONS = f"""
INSERT INTO revisions SELECT {cell(0)}, {cell(1)}, {cell(2)}, {cell(3)}
FROM json_each(?1)"""
_PUT_ITEMS = f"""
REPLACE INTO items SELECT {cell(0)}, {blob(1)}, {cell(2)}, {cell(3)} FROM json_each(?1)"""
_DELETE_ITEMS = "DELETE FROM items WHERE key IN (SELECT value FROM json_each(?))"
_ADD_LEASES = f"""
INSERT INTO leases SELECT {cell(0)}, {cell(1)} FROM json_each(?1)"""
_DELETE_LEASES = "DELETE FROM leases WHERE lease IN (SELECT value FROM json_each(?))"


class StoreFile:
    """An open store file, locked against other processes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with schema.unavailable(path), contextlib.ExitStack() as undo:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            undo.callback(os.close, schema.lock(path))
            if not path.exists():
                schema.create(path)
            self.writer = schema.connect(path)
            undo.callback(self.writer.close)
            schema.check_pages(path, self.writer)
            self._reader = schema.connect(path, reads_only=True)
            undo.callback(self._reader.close)
            self._reader.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_BYTES)
            self.store_id = str(self.writer.execute("SELECT id FROM store").fetchone()[0])
            self.revision = _head(self.writer)
            self.oldest = _oldest(self.writer)
            self.leases = dict(self.writer.execute("SELECT lease, ttl_s FROM leases"))
            self._undo = undo.pop_all()

    def __repr__(self) -> str:
        return f"<StoreFile {self.path} store_id={self.store_id}>"

    def close(self) -> None:
        """Close both connections, then let go of the lock."""
        with schema.unavailable(self.path):
            self._undo.close()

    def write(self, jobs: Sequence[Job], at_unix_s: float) -> list[Outcome]:
        """Do jobs in one durable transaction, each by itself done or refused.

        Unavailable: none of them is done.
        """
        with schema.unavailable(self.path), _transaction(self.writer, "IMMEDIATE"):
            group = Group(self._known(jobs))
            outcomes = group.run(jobs)
            self._write_rows(group, at_unix_s)
            return outcomes

    def restamp(self, store_id: str) -> str:
        """Give the store another id."""
        with schema.unavailable(self.path), _transaction(self.writer, "IMMEDIATE"):
            self.writer.execute("UPDATE store SET id = ?", (store_id,))
            self.store_id = store_id
            return store_id

    def head(self) -> int:
        """The newest revision."""
        with schema.unavailable(self.path), _transaction(self._reader):
            return _head(self._reader)

    def trim(self, upto: int) -> int:
        """Forget some of the history up to a revision; returns the oldest one left."""
        with schema.unavailable(self.path), _transaction(self.writer, "IMMEDIATE"):
            row = self.writer.execute(
                "SELECT revision FROM edits WHERE revision <= ? ORDER BY revision LIMIT 1 OFFSET ?",
                (upto, _TRIM_EDITS),
            ).fetchone()
            last = int(row[0]) if row else upto
            self.writer.execute("DELETE FROM edits WHERE revision <= ?", (last,))
            self.writer.execute("DELETE FROM revisions WHERE revision <= ?", (last,))
            return last + 1

    def load(self) -> Contents:
        """Everything, at one revision."""
        source = "SELECT key, value, revision, lease FROM items WHERE key > ? ORDER BY key"
        with schema.unavailable(self.path), _transaction(self._reader):
            revision = _head(self._reader)
            # No key is empty.
            items = tuple(
                Item(key, value, changed, lease)
                for page, _ in pages(self._reader, _ITEM, source, ("",))
                for key, changed, lease, value in page
            )
        return Contents(self.store_id, revision, items)

    def batches(self, after: int) -> list[Batch]:
        """Some of the batches after a revision, in order; Compacted if the next one is gone."""
        rows: list[list[Any]] = []
        with schema.unavailable(self.path), _transaction(self._reader):
            for page, is_more in pages(self._reader, _CHANGE, _FIND_EDITS, (after, _NO_END)):
                rows += page
                if is_more and rows[0][0] != rows[-1][0]:
                    # The last revision may go on after this page: left for the next read.
                    rows = [row for row in rows if row[0] != rows[-1][0]]
                    break
        if not rows or rows[0][0] != after + 1:
            raise Compacted(f"revision {after + 1} is no longer in the history of {self.path}")
        return [
            Batch(revision, tuple(Change(key, value, lease) for _, _, key, lease, value in of))
            for revision, of in groupby(rows, itemgetter(0))
        ]

    def history(self, limit: int, before: int | None) -> tuple[AuditEntry, ...]:
        """The last revisions, newest first."""
        end = _NO_END if before is None else max(0, min(before, _NO_END))
        with schema.unavailable(self.path), _transaction(self._reader):
            found = pages(self._reader, _REVISION, _FIND_REVISIONS, (end,))
            rows = chain.from_iterable(page for page, _ in found)
            heads = list(islice(rows, max(limit, 0)))
            edits = self._edits(heads[-1][0], heads[0][0]) if heads else {}
        return tuple(
            AuditEntry(revision, at_unix_s, who, what, edits[revision])
            for revision, at_unix_s, who, what in heads
        )

    def _edits(self, first: int, last: int) -> dict[int, tuple[Edit, ...]]:
        found = pages(self._reader, _EDIT, _FIND_EDITS, (first - 1, _NO_END))
        rows = chain.from_iterable(page for page, _ in found)
        edits = {}
        for revision, of_one in groupby(rows, itemgetter(0)):
            if revision > last:
                break
            edits[revision] = tuple(Edit(key, before, after) for _, _, key, before, after in of_one)
        return edits

    def _known(self, jobs: Sequence[Job]) -> Known:
        keys, leases, revoked = names(jobs)
        rows = self._find(_FIND_KEYS, keys) + self._find(_FIND_BOUND, revoked)
        living = self._find(_FIND_LEASES, leases, _LEASE)
        return Known(
            _head(self.writer),
            {key: Held(revision, lease) for key, revision, lease in rows},
            frozenset(lease for (lease,) in living),
        )

    def _find(
        self, source: str, wanted: Iterable[str | int], columns: Columns = _HELD
    ) -> list[list[Any]]:
        return fetch(self.writer, columns, source, (pack_list(wanted),)) if wanted else []

    def _write_rows(self, group: Group, at_unix_s: float) -> None:
        puts, deletes = [], []
        for revision, change in group.items.values():
            if change.value is None:
                deletes.append(change.key)
            else:
                puts.append((change.key, change.value, revision, change.lease))
        revisions = [(revision, at_unix_s, who, what) for revision, who, what in group.revisions]
        self._add(_ADD_EDITS, (row.cells for row in group.edits))
        self._add(_PUT_ITEMS, puts)
        self._each(_ADD_REVISIONS, revisions)
        self._each(_DELETE_ITEMS, deletes)
        self._each(_ADD_LEASES, list(group.granted.items()))
        self._each(_DELETE_LEASES, group.revoked)

    def _add(self, statement: str, rows: Iterable[Sequence[Cell]]) -> None:
        for packed in pack(rows):
            self.writer.execute(statement, packed)

    def _each(self, statement: str, values: Sequence[object]) -> None:
        if values:
            self.writer.execute(statement, (pack_list(values),))


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection, kind: str = "DEFERRED") -> Iterator[None]:
    connection.execute(f"BEGIN {kind}")
    try:
        yield
        connection.execute("COMMIT")
    finally:
        # Also false after SQLite has rolled back by itself, as it does when the disk is full.
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _head(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT coalesce(max(revision), 0) FROM revisions").fetchone()[0])


def _oldest(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT coalesce(min(revision), 1) FROM revisions").fetchone()[0])
