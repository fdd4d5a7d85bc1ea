"""A commit as transactions of etcd that pass only if what they were decided on still stands.

Pure: what was read is handed in. One that was sent twice, or arrives late, does nothing: the key
of its audit must not be there yet, and tells at which revision it passed.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from meshd.core.errors import Refused, Unavailable
from meshd.daemon.etcd.requests import (
    MAX_BYTES,
    MAX_COMPARES,
    delete,
    get,
    is_at,
    is_value,
    nested,
    put,
)
from meshd.daemon.store.audit import digested, pack
from meshd.daemon.store.base import Change, Edit, Item
from meshd.daemon.store.decide import MAX_LEASE, Commit, decide
from meshd.daemon.store.layout import Layout
from meshd.etcdwire import etcd_pb2 as pb

# Keys that one transaction may name with each of them compared: below etcd's 128.
MAX_KEYS = 100


@dataclass(frozen=True, slots=True)
class Read:
    """What etcd held of the keys of a commit at a revision; `passed_at`: the commit is done."""

    revision: int
    items: Mapping[str, Item]
    passed_at: int = 0

    def revision_of(self, key: str) -> int:
        """0: there is no such key."""
        return self.items[key].revision if key in self.items else 0

    def value_of(self, key: str) -> bytes | None:
        return self.items[key].value if key in self.items else None


@dataclass(frozen=True, slots=True)
class Guarded:
    """One commit that is tried until it is decided, always under the same key of the audit."""

    layout: Layout
    store_id: str
    commit: Commit
    audit: bytes
    at_unix_s: float
    # Only keys that this lease holds are changed; 0: all.
    bound_to: int = 0
    keys: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "keys", named(self.commit))

    @property
    def is_exact(self) -> bool:
        """True if all keys can be compared, not only those that are expected."""
        return len(self.keys) <= MAX_KEYS

    def changes(self, read: Read) -> tuple[Change, ...]:
        """What the commit does to what was read."""
        changes = decide(self.commit, read.revision_of, _may_be_lease)
        if not self.bound_to:
            return changes
        return tuple(c for c in changes if read.items[c.key].lease == self.bound_to)

    def request(self, read: Read) -> Any | None:
        """The transaction, or None if nothing changes; Conflict, LeaseLost.

        What it reads if it does not pass is for `again`.
        """
        changes = self.changes(read)
        if not changes:
            return None
        guards = self.keys if self.is_exact else tuple(w.key for w in self.commit.expect)
        compares = [is_at(self.audit, 0), is_value(self.layout.store_id, self.store_id.encode())]
        compares += [is_at(self.layout.item(key), read.revision_of(key)) for key in guards]
        edits = [Edit(c.key, read.value_of(c.key), c.value) for c in changes]
        request = pb.TxnRequest(
            compare=compares,
            success=nested([self._put_audit(edits), *map(self._operation, changes)]),
            failure=[get(self.audit), get(self.layout.store_id)],
        )
        if self.is_exact:
            request.failure.extend(get(self.layout.item(key)) for key in self.keys)
        if len(changes) == 1 and not fits(request):
            request.success[0].CopyFrom(self._put_audit(digested(edits)))
        return request

    def again(self, response: Any) -> Read:
        """What a transaction that did not pass found; Unavailable if it is another store."""
        audit, store_id, *kept = (op.response_range.kvs for op in response.responses)
        if audit:
            return Read(response.header.revision, {}, audit[0].mod_revision)
        if not store_id or store_id[0].value != self.store_id.encode():
            raise Unavailable("another store stands in etcd: it has to be loaded first")
        items = items_of(self.layout, (kv for kvs in kept for kv in kvs))
        return Read(response.header.revision, items)

    def _put_audit(self, edits: Sequence[Edit]) -> Any:
        return put(self.audit, pack(self.commit.author, self.at_unix_s, edits))

    def _operation(self, change: Change) -> Any:
        key = self.layout.item(change.key)
        return delete(key) if change.value is None else put(key, change.value, change.lease)


def named(commit: Commit) -> tuple[str, ...]:
    """The keys that a commit writes or expects something of."""
    keys = [write.key for write in commit.writes] + [wanted.key for wanted in commit.expect]
    return tuple(dict.fromkeys(keys))


def reads(layout: Layout, keys: Sequence[str]) -> Iterator[Any]:
    """Transactions that read keys, each at one revision."""
    for first in range(0, max(len(keys), 1), MAX_KEYS):
        some = keys[first : first + MAX_KEYS]
        yield pb.TxnRequest(success=[get(layout.item(key)) for key in some])


def read_of(layout: Layout, responses: Sequence[Any]) -> Read:
    """What the transactions of `reads` found."""
    kvs = (kv for each in responses for op in each.responses for kv in op.response_range.kvs)
    return Read(responses[0].header.revision, items_of(layout, kvs))


def items_of(layout: Layout, kvs: Iterator[Any]) -> dict[str, Item]:
    """Items by their keys, but those whose keys are not UTF-8."""
    found = ((layout.key(kv.key), kv) for kv in kvs)
    return {
        key: Item(key, kv.value, kv.mod_revision, kv.lease) for key, kv in found if key is not None
    }


def check_size(commit: Commit) -> None:
    """Refused if a commit of many keys expects something of too many."""
    limit = MAX_COMPARES - 2
    if len(named(commit)) > MAX_KEYS and len(commit.expect) > limit:
        raise Refused(
            f"a commit of {len(named(commit))} keys may expect something of {limit} of them,"
            f" not of {len(commit.expect)}"
        )


def fits(request: Any) -> bool:
    """True if etcd takes it; no transaction of that size has too many operations for it."""
    return bool(request.ByteSize() <= MAX_BYTES)


def _may_be_lease(lease: int) -> bool:
    """Whether there is such a lease, etcd knows."""
    return 0 < lease <= MAX_LEASE
