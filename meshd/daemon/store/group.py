"""A group of jobs that share a transaction: what each comes to, and the rows all of them make.

Pure: what the file holds is handed in, the rows to write are read off at the end.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from meshd.core.errors import MeshError
from meshd.daemon.store.base import Author, Change
from meshd.daemon.store.decide import Commit, decide


@dataclass(frozen=True, slots=True)
class Grant:
    """Remember a lease."""

    lease: int
    ttl_s: float


@dataclass(frozen=True, slots=True)
class Revoke:
    """Forget a lease and delete its keys."""

    lease: int
    why: str


Job = Commit | Grant | Revoke
Outcome = int | MeshError


@dataclass(frozen=True, slots=True)
class Held:
    """Where a key stands; revision 0: it does not exist."""

    revision: int
    lease: int


@dataclass(frozen=True, slots=True)
class Known:
    """What the file holds of all that a group of jobs names."""

    revision: int
    keys: Mapping[str, Held]
    leases: frozenset[int]


@dataclass(frozen=True, slots=True)
class EditRow:
    """One row of history; where `before` is not known, the file holds it."""

    revision: int
    place: int
    change: Change
    is_known: bool
    before: bytes | None

    @property
    def cells(self) -> tuple[str | int | bytes | None, ...]:
        change = self.change
        values = (int(self.is_known), self.before, change.value)
        return (self.revision, self.place, change.key, *values, change.lease)


def names(jobs: Iterable[Job]) -> tuple[set[str], set[int], set[int]]:
    """The keys that jobs name, the leases they name, and those of them to revoke."""
    keys: set[str] = set()
    leases: set[int] = set()
    revoked: set[int] = set()
    for job in jobs:
        if isinstance(job, Commit):
            keys.update(write.key for write in job.writes)
            keys.update(wanted.key for wanted in job.expect)
            leases.update(job.leases)
        elif isinstance(job, Revoke):
            revoked.add(job.lease)
    return keys, leases | revoked, revoked


_ABSENT = Held(0, 0)


@dataclass(slots=True)
class Group:
    """Grows by one job after the other."""

    known: Known
    revision: int = field(init=False)
    keys: dict[str, Held] = field(init=False)
    leases: set[int] = field(init=False)
    # What a revoke has to delete.
    bound: dict[int, set[str]] = field(default_factory=dict)
    # The rows.
    items: dict[str, tuple[int, Change]] = field(default_factory=dict)
    revisions: list[tuple[int, str, str]] = field(default_factory=list)
    edits: list[EditRow] = field(default_factory=list)
    granted: dict[int, float] = field(default_factory=dict)
    revoked: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.revision = self.known.revision
        self.keys = dict(self.known.keys)
        self.leases = set(self.known.leases)
        for key, held in self.keys.items():
            if held.lease:
                self.bound.setdefault(held.lease, set()).add(key)

    def run(self, jobs: Sequence[Job]) -> list[Outcome]:
        """Do jobs in order; a job that is refused leaves no trace."""
        return [self._outcome(job) for job in jobs]

    def _outcome(self, job: Job) -> Outcome:
        match job:
            case Commit():
                try:
                    changes = decide(job, self._revision_of, self.leases.__contains__)
                except MeshError as error:
                    return error
                return self._write(changes, job.author)
            case Grant(lease, ttl_s):
                self.leases.add(lease)
                self.granted[lease] = ttl_s
                return lease
            case Revoke(lease, why):
                self.leases.discard(lease)
                self.granted.pop(lease, None)
                self.revoked.append(lease)
                keys = sorted(self.bound.get(lease, ()))
                return self._write([Change(key, None, 0) for key in keys], Author("lease", why))

    def _revision_of(self, key: str) -> int:
        return self.keys.get(key, _ABSENT).revision

    def _write(self, changes: Sequence[Change], author: Author) -> int:
        if not changes:
            return self.revision
        self.revision += 1
        self.revisions.append((self.revision, author.who, author.what))
        for place, change in enumerate(changes):
            earlier = self.items.get(change.key)
            before = None if earlier is None else earlier[1].value
            is_known = earlier is not None or change.key not in self.known.keys
            self.edits.append(EditRow(self.revision, place, change, is_known, before))
            self.items[change.key] = (self.revision, change)
            self._bind(change)
        return self.revision

    def _bind(self, change: Change) -> None:
        old = self.keys.get(change.key, _ABSENT)
        if old.lease:
            self.bound[old.lease].discard(change.key)
        if change.lease:
            self.bound.setdefault(change.lease, set()).add(change.key)
        is_gone = change.value is None
        self.keys[change.key] = _ABSENT if is_gone else Held(self.revision, change.lease)
