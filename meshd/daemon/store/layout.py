"""Where the store's keys stand in etcd: `data/` items, `id`, `audit/` newest first. No I/O here."""

import secrets
from dataclasses import dataclass

from meshd.daemon.etcd.span import Span

_MAX_REVISION = (1 << 63) - 1
_EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Layout:
    """All keys under a prefix that ends in a slash."""

    prefix: str

    @property
    def store_id(self) -> bytes:
        """Holds the store's id."""
        return f"{self.prefix}id".encode()

    @property
    def watched(self) -> Span:
        """All items, and the store's id; what else stands between is ignored."""
        return Span(self._data, self.store_id + b"\0")

    @property
    def items(self) -> Span:
        """All items."""
        return Span.under(self._data)

    @property
    def audit(self) -> Span:
        """The whole audit."""
        return Span.under(self._audit)

    @property
    def _data(self) -> bytes:
        return f"{self.prefix}data/".encode()

    @property
    def _audit(self) -> bytes:
        return f"{self.prefix}audit/".encode()

    def item(self, key: str) -> bytes:
        """Where an item stands."""
        return self._data + key.encode()

    def key(self, stored: bytes) -> str | None:
        """The key of an item; None: it is none, or not UTF-8."""
        if not stored.startswith(self._data):
            return None
        try:
            return stored[len(self._data) :].decode()
        except UnicodeDecodeError:
            return None

    def commit(self, revision: int) -> bytes:
        """A new key for the audit of a commit that was decided on at a revision.

        etcd sorts a span in memory for any order but that of its keys: newest must be first.
        """
        return self._audit_at(revision) + secrets.token_hex(8).encode()

    def expiry(self, revision: int) -> bytes:
        """The key for the audit of a lease that ran out at a revision."""
        return self._audit_at(revision) + _EXPIRED.encode()

    def audit_before(self, revision: int) -> Span:
        """The audit of what was decided on before a revision."""
        return Span(self._audit_at(revision - 1), self.audit.end)

    def audit_between(self, oldest: int, newest: int) -> Span:
        """The audit of what was decided on at these revisions and between."""
        return Span(self._audit_at(newest), self._audit_at(oldest - 1))

    def revision(self, key: bytes, mod_revision: int) -> int:
        """The revision that a key of the audit is about, last changed as told."""
        if key.endswith(f"/{_EXPIRED}".encode()):
            inverted = key[len(self._audit) :].split(b"/")[0]
            return _MAX_REVISION - int(inverted, 16)
        return mod_revision

    def _audit_at(self, revision: int) -> bytes:
        inverted = _MAX_REVISION - min(max(revision, 0), _MAX_REVISION)
        return self._audit + f"{inverted:016x}/".encode()
