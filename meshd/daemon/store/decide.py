"""What a commit may do and what it changes: the same rules for every store. No I/O here."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from meshd.core.errors import Conflict, LeaseLost, Refused
from meshd.daemon.store.base import Author, Change, Expect, Put, Write

MAX_KEY_BYTES = 512
MAX_VALUE_BYTES = 1 << 20
MAX_AUTHOR_BYTES = 4096
MAX_TTL_S = 86_400.0
# Leases are stored as signed 64-bit integers.
MAX_LEASE = (1 << 63) - 1
_NAMED_CONFLICTS = 5


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit as it was asked for, within bounds."""

    writes: tuple[Write, ...]
    author: Author
    expect: tuple[Expect, ...] = ()

    def __post_init__(self) -> None:
        _check_text("author", self.author.who, MAX_AUTHOR_BYTES)
        _check_text("reason", self.author.what, MAX_AUTHOR_BYTES)
        for wanted in self.expect:
            _check_text("key", wanted.key, MAX_KEY_BYTES)
        seen = set()
        for write in self.writes:
            _check_write(write)
            if write.key in seen:
                raise Refused(f"key {write.key!r} stands twice in one commit")
            seen.add(write.key)

    @property
    def leases(self) -> set[int]:
        """The leases that its writes name."""
        return {write.lease for write in self.writes if isinstance(write, Put)} - {0}


def decide(
    commit: Commit, revision_of: Callable[[str], int], is_lease: Callable[[int], bool]
) -> tuple[Change, ...]:
    """What a commit changes, where absent keys have revision 0; Conflict, LeaseLost."""
    _check_expected(commit.expect, revision_of)
    for lease in commit.leases:
        if not is_lease(lease):
            raise LeaseLost(f"lease {lease} is not known")
    return tuple(_changes(commit.writes, revision_of))


def check_ttl(ttl_s: float) -> None:
    """Refused unless a lease may live that long."""
    if not (math.isfinite(ttl_s) and 0 < ttl_s <= MAX_TTL_S):
        raise Refused(f"a lease lives for 0..{MAX_TTL_S:g} s, not {ttl_s}")


def _changes(writes: Sequence[Write], revision_of: Callable[[str], int]) -> Iterator[Change]:
    for write in writes:
        if isinstance(write, Put):
            yield Change(write.key, write.value, write.lease)
        elif revision_of(write.key):
            yield Change(write.key, None, 0)


def _check_expected(expect: Sequence[Expect], revision_of: Callable[[str], int]) -> None:
    faults = []
    for wanted in expect:
        actual = revision_of(wanted.key)
        if actual != wanted.revision:
            faults.append(f"{wanted.key} is at revision {actual}, expected {wanted.revision}")
    if faults:
        more = len(faults) - _NAMED_CONFLICTS
        named = "; ".join(faults[:_NAMED_CONFLICTS])
        raise Conflict(f"{named}; and {more} more" if more > 0 else named)


def _check_write(write: Write) -> None:
    _check_text("key", write.key, MAX_KEY_BYTES)
    if not write.key:
        raise Refused("a key is empty")
    if isinstance(write, Put) and len(write.value) > MAX_VALUE_BYTES:
        size = len(write.value)
        raise Refused(f"value of {write.key!r} has {size} bytes, more than {MAX_VALUE_BYTES}")


def _check_text(what: str, text: str, limit: int) -> None:
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise Refused(f"{what} {text!r} is not UTF-8") from None
    if "\0" in text:
        raise Refused(f"{what} {text!r} holds a NUL")
    if size > limit:
        raise Refused(f"{what} {text[:40]!r}... has {size} bytes, more than {limit}")
