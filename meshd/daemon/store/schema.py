"""How a store file is made, locked, opened and checked. Nothing here reads or writes items."""

import contextlib
import fcntl
import os
import sqlite3
import uuid
from collections.abc import Iterator
from pathlib import Path

from meshd.core.errors import Unavailable

# "mesh": tells a store from any other SQLite file.
_APPLICATION_ID = 0x6D657368
_SCHEMA = 1
_TABLES = """
CREATE TABLE store (id TEXT NOT NULL);
CREATE TABLE items (
    key TEXT PRIMARY KEY, value BLOB NOT NULL, revision INTEGER NOT NULL, lease INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX items_of_lease ON items (lease) WHERE lease != 0;
CREATE TABLE revisions (
    revision INTEGER PRIMARY KEY, at_unix_s REAL NOT NULL, who TEXT NOT NULL, what TEXT NOT NULL
);
CREATE TABLE edits (
    revision INTEGER NOT NULL, place INTEGER NOT NULL,
    key TEXT NOT NULL, before BLOB, after BLOB, lease INTEGER NOT NULL,
    PRIMARY KEY (revision, place)
) WITHOUT ROWID;
CREATE TABLE leases (lease INTEGER PRIMARY KEY, ttl_s REAL NOT NULL);
"""
_BUSY_S = 2.0
_PID_BYTES = 20
_CHECKPOINT_PAGES = 4000
_LOG_BYTES = 64 << 20


@contextlib.contextmanager
def unavailable(path: Path) -> Iterator[None]:
    """What the file system and SQLite complain of, as Unavailable that names the file."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise Unavailable(f"store {path}: {error}") from error


def lock(path: Path) -> int:
    """The descriptor of the locked lock file; Unavailable if another process holds it."""
    held = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        owner = os.pread(held, _PID_BYTES, 0).decode(errors="replace") or "unknown"
        os.close(held)
        raise Unavailable(f"store {path} is in use by process {owner}") from error
    os.truncate(held, 0)
    os.pwrite(held, str(os.getpid()).encode(), 0)
    return held


def create(path: Path) -> None:
    """Make an empty store under another name, then move it into place whole."""
    log = Path(f"{path}-wal")
    if log.exists():
        # SQLite would replay it into the new file.
        raise Unavailable(f"store {path} is gone but {log} is there: restore one or move the other")
    draft = Path(f"{path}.new")
    draft.unlink(missing_ok=True)
    os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    with contextlib.closing(sqlite3.connect(draft, isolation_level=None)) as made:
        made.executescript(
            f"BEGIN; PRAGMA application_id = {_APPLICATION_ID}; PRAGMA user_version = {_SCHEMA};"
            f"{_TABLES}"
        )
        made.execute("INSERT INTO store VALUES (?)", (uuid.uuid4().hex,))
        made.execute("COMMIT")
    draft.rename(path)
    sync_directory(path.parent)


def connect(path: Path, *, reads_only: bool = False) -> sqlite3.Connection:
    """A connection on which a commit returns once it is on the disk.

    Unavailable, and the file untouched, unless it is a store of a known schema.
    """
    # mode=rw: a file that is gone must not come back empty.
    uri = f"{path.absolute().as_uri()}?mode=rw"
    made = sqlite3.connect(
        uri, uri=True, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
    )
    with contextlib.ExitStack() as undo:
        undo.callback(made.close)
        _check_kind(path, made)
        made.execute("PRAGMA journal_mode = WAL")
        made.execute("PRAGMA synchronous = FULL")
        made.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
        made.execute(f"PRAGMA journal_size_limit = {_LOG_BYTES}")
        made.execute(f"PRAGMA query_only = {int(reads_only)}")
        undo.pop_all()
    return made


def check_pages(path: Path, connection: sqlite3.Connection) -> None:
    """Unavailable if any page of the file is damaged; reads all of it."""
    fault = _pragma(connection, "quick_check(1)")
    if fault != "ok":
        raise Unavailable(f"store {path} is damaged: {fault}")


def _check_kind(path: Path, connection: sqlite3.Connection) -> None:
    if _pragma(connection, "application_id") != _APPLICATION_ID:
        raise Unavailable(f"store {path} is damaged or is not a store of meshd")
    schema = _pragma(connection, "user_version")
    if schema != _SCHEMA:
        raise Unavailable(f"store {path} has schema {schema}; this meshd knows schema {_SCHEMA}")


def sync_directory(directory: Path) -> None:
    """Make a rename in a directory durable."""
    opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _pragma(connection: sqlite3.Connection, name: str) -> object:
    return connection.execute(f"PRAGMA {name}").fetchone()[0]
