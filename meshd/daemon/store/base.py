"""What every store promises: keys and values under one revision, leases, followers, an audit.

A store does not look inside values. It must not answer questions: those come from snapshots.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Item:
    """A key as it is stored; `revision` is that of its last change, lease 0 is none."""

    key: str
    value: bytes
    revision: int
    lease: int


@dataclass(frozen=True, slots=True)
class Put:
    """Sets a key; it goes away with its lease, if it names one."""

    key: str
    value: bytes
    lease: int = 0


@dataclass(frozen=True, slots=True)
class Delete:
    """Takes a key away; a key that is not there is no change."""

    key: str


Write = Put | Delete


@dataclass(frozen=True, slots=True)
class Expect:
    """The revision a key must be at; 0: it must not exist."""

    key: str
    revision: int


@dataclass(frozen=True, slots=True)
class Change:
    """What a commit did to one key; value None: deleted."""

    key: str
    value: bytes | None
    lease: int


@dataclass(frozen=True, slots=True)
class Batch:
    """All changes of one revision."""

    revision: int
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class Author:
    """Who wrote, and what for."""

    who: str
    what: str


@dataclass(frozen=True, slots=True)
class Edit:
    """One key before and after a revision; None: it was or is not there."""

    key: str
    before: bytes | None
    after: bytes | None


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One revision as the audit holds it; the time is for people and decides nothing."""

    revision: int
    at_unix_s: float
    who: str
    what: str
    edits: tuple[Edit, ...]


@dataclass(frozen=True, slots=True)
class Contents:
    """Everything a store held at one revision, sorted by key."""

    store_id: str
    revision: int
    items: tuple[Item, ...]


class Store(Protocol):
    """A store; every method may raise Unavailable."""

    @property
    def store_id(self) -> str:
        """Tells this store from every other; empty until it was reached."""
        ...

    async def head(self) -> int:
        """The newest revision, asked of the store itself: cheap, and proof that it is there."""
        ...

    async def load(self) -> Contents:
        """Everything, as it was at one revision."""
        ...

    async def commit(
        self, writes: Sequence[Write], author: Author, expect: Sequence[Expect] = ()
    ) -> int:
        """Do all writes or none and return their revision, once they are durable.

        Writes that change nothing make no revision: the newest one is returned. Refused if a
        bound is broken, Conflict if a key is not as expected, LeaseLost if a lease is unknown.
        """
        ...

    def follow(self, after: int) -> AsyncIterator[Batch]:
        """Every batch after a revision, in order, then those to come, without end.

        Compacted if history no longer holds them all, or if `after` is still to come (the
        store is not the one that was followed): load again.
        """
        ...

    async def grant(self, ttl_s: float) -> int:
        """A new lease that lives for ttl_s seconds after each renewal."""
        ...

    async def renew(self, lease: int) -> None:
        """Let a lease live for its whole time again; LeaseLost. Nothing is written."""
        ...

    async def revoke(self, lease: int) -> None:
        """End a lease and delete its keys in one commit; an unknown lease is no error."""
        ...

    async def history(self, limit: int = 100, before: int | None = None) -> tuple[AuditEntry, ...]:
        """The last `limit` revisions (older than `before`), newest first, as far as kept."""
        ...

    async def restamp(self, author: Author) -> str:
        """Give the store a new id, and return it: from then on it counts as another store."""
        ...

    async def run(self) -> None:
        """The store's own work, without end: leases run out, old history goes."""
        ...

    async def close(self) -> None:
        """Let go of everything; what waits and what comes later is Unavailable."""
        ...
