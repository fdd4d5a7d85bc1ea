"""The Topology service: read, plan, apply, commit, history, follow."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from meshd.core import plan as planning
from meshd.core.errors import (
    Fault,
    Invalid,
    Malformed,
    MeshError,
    NotFound,
    Refused,
)
from meshd.core.guard import STRICT, Guard
from meshd.core.model import Override, Record
from meshd.core.snapshot import Snapshot
from meshd.core.topology import Change, Kind
from meshd.daemon.commits import Commits
from meshd.daemon.pump import Pump
from meshd.daemon.rpc.follow import follow
from meshd.daemon.rpc.status import streaming, unary
from meshd.daemon.state import State
from meshd.daemon.store.base import AuditEntry, Author, Delete, Put, Store, Write
from meshd.v1 import topology_pb2 as pb
from meshd.v1 import topology_pb2_grpc
from meshd.wire.document import describe, plan_text
from meshd.wire.follow import PART_RECORDS
from meshd.wire.messages import change_from_message, record_to_message
from meshd.wire.records import key_of, kind_and_name, record_of, value_of

_MAX_HISTORY = 1000
_LONGEST_S = 86_400.0


class _Expiry(NamedTuple):
    """The lease that an override goes away with, and when (monotonic seconds)."""

    lease: int
    at: float


class Topology(topology_pb2_grpc.TopologyServicer):
    """Serves the topology from the state; writes go to the store and come back by its follow."""

    def __init__(
        self, store: Store, state: State, pump: Pump, commits: Commits, guard: Guard = STRICT
    ) -> None:
        self._store = store
        self._state = state
        self._pump = pump
        self._guard = guard
        # Of the overrides that expire, those that this core wrote.
        self._expiries: dict[str, _Expiry] = {}
        self._commits = commits

    @streaming
    async def Get(self, request: pb.GetRequest, context: Any) -> AsyncIterator[pb.GetResponse]:  # noqa: N802
        snapshot = self._state.snapshot
        records = _asked(snapshot, [_kind(name) for name in request.kinds] or Kind, request.name)
        page: list[Record] = []
        sent = False
        for record in records:
            page.append(record)
            if len(page) == PART_RECORDS:
                yield self._page(snapshot, page)
                page, sent = [], True
                await asyncio.sleep(0)
        if request.name and not page:
            raise NotFound(f"no {'/'.join(request.kinds) or 'record'} is called {request.name!r}")
        if page or not sent:
            yield self._page(snapshot, page)

    def _page(self, snapshot: Snapshot, records: Sequence[Record]) -> pb.GetResponse:
        page = _page(snapshot, records)
        now = time.monotonic()
        for record in records:
            expiry = self._expiries.get(record.name) if isinstance(record, Override) else None
            if expiry is not None and expiry.at > now:
                page.expires_in_s[record.name] = expiry.at - now
        return page

    @unary
    async def Plan(self, request: pb.PlanRequest, context: Any) -> pb.PlanResponse:  # noqa: N802
        snapshot = self._state.snapshot
        if request.edits:
            changes = _changes(request.edits)
            plan = await asyncio.to_thread(planning.plan_edits, snapshot, changes, self._guard)
        else:
            plan = await asyncio.to_thread(plan_text, snapshot, request.document, self._guard)
        return _plan_message(plan)

    @unary
    async def Apply(self, request: pb.ApplyRequest, context: Any) -> pb.ApplyResponse:  # noqa: N802
        author = Author(request.author or "unknown", "apply")

        async def attempt(guard: int, snapshot: Snapshot) -> pb.ApplyResponse:
            plan = await asyncio.to_thread(plan_text, snapshot, request.document, self._guard)
            revision = await self._write(plan, author, guard, force=request.force)
            return pb.ApplyResponse(revision=revision, plan=_plan_message(plan))

        return await self._commits.planned(request.revision, attempt)

    @unary
    async def Commit(self, request: pb.CommitRequest, context: Any) -> pb.CommitResponse:  # noqa: N802
        changes = _changes(request.edits)
        lives = _lives(request.edits)
        author = Author(request.author or "unknown", request.what or "commit")

        async def attempt(guard: int, snapshot: Snapshot) -> pb.CommitResponse:
            plan = await asyncio.to_thread(
                planning.plan_edits, snapshot, changes, self._guard, moves=False
            )
            async with self._granted(lives if plan.edits else {}) as expiries:
                leases = {key_of(Kind.OVERRIDES, name): e.lease for name, e in expiries.items()}
                revision = await self._write(
                    plan, author, guard, force=request.force, leases=leases
                )
            await self._replace_expiries(plan, expiries)
            return pb.CommitResponse(revision=revision)

        return await self._commits.planned(request.revision, attempt)

    @contextlib.asynccontextmanager
    async def _granted(self, lives: Mapping[str, float]) -> AsyncIterator[dict[str, _Expiry]]:
        """A lease for each override that expires; none stays if the block fails."""
        made: dict[str, _Expiry] = {}
        try:
            for name, expires_s in lives.items():
                lease = await self._store.grant(expires_s)
                made[name] = _Expiry(lease, time.monotonic() + expires_s)
            yield made
        except MeshError:
            with contextlib.suppress(MeshError):
                for expiry in made.values():
                    await self._store.revoke(expiry.lease)
            raise

    async def _replace_expiries(self, plan: planning.Plan, expiries: Mapping[str, _Expiry]) -> None:
        """Know what expires when; leases that hold nothing any more end."""
        written = {edit.name for edit in plan.edits if edit.kind is Kind.OVERRIDES}
        now = time.monotonic()
        over = {name for name, held in self._expiries.items() if name in written or held.at <= now}
        ended = [self._expiries.pop(name) for name in over]
        self._expiries.update(expiries)
        with contextlib.suppress(MeshError):
            for expiry in ended:
                await self._store.revoke(expiry.lease)

    async def _write(
        self,
        plan: planning.Plan,
        author: Author,
        guard: int,
        *,
        force: bool,
        leases: Mapping[str, int] | None = None,
    ) -> int:
        if plan.unsafe and not force:
            raise Refused("; ".join(plan.unsafe) + " (force would do it)")
        writes = _writes(plan.changes(), leases or {})
        revision = await self._commits.write(writes, author, guard)
        return revision if writes else plan.revision

    @unary
    async def History(self, request: pb.HistoryRequest, context: Any) -> pb.HistoryResponse:  # noqa: N802
        limit = min(request.limit or 20, _MAX_HISTORY)
        entries = await self._store.history(limit, request.before or None)
        return pb.HistoryResponse(entries=map(_audit_message, entries))

    @unary
    async def Confirm(self, request: pb.ConfirmRequest, context: Any) -> pb.ConfirmResponse:  # noqa: N802
        self._state.confirm(request.node, request.store_id, request.revision)
        return pb.ConfirmResponse()

    @streaming
    async def Follow(  # noqa: N802
        self, request: pb.FollowRequest, context: Any
    ) -> AsyncIterator[pb.FollowResponse]:
        async for event in follow(self._state, self._pump, request):
            yield event


def _kind(text: str) -> Kind:
    if text not in list(Kind):
        raise Invalid(f"{text!r} is no kind; kinds are {', '.join(Kind)}")
    return Kind(text)


def _asked(snapshot: Snapshot, kinds: Iterable[Kind], name: str) -> Iterable[Record]:
    for kind in kinds:
        if not name:
            yield from snapshot.topology.records(kind)
            continue
        record = snapshot.topology.get(kind, name)
        if record is not None:
            yield record


def _page(snapshot: Snapshot, records: Sequence[Record]) -> pb.GetResponse:
    page = pb.GetResponse(
        revision=snapshot.topology.revision, records=map(record_to_message, records)
    )
    for name in (record.name for record in records):
        instance = snapshot.topology.instances.get(name)
        if instance is None or instance not in records:
            continue
        signal = snapshot.signals.get(name)
        if signal is not None:
            page.signals[name].load = signal.load
        verdict = snapshot.verdict(instance)
        page.verdicts[name] = verdict
    return page


def _changes(edits: Iterable[pb.Edit]) -> Sequence[Change]:
    """Edits as changes; Invalid if there are none, or some of what nobody may write."""
    changes = [change_from_message(edit) for edit in edits]
    if not changes or any(change.kind is Kind.PRESENCE for change in changes):
        raise Invalid("a commit needs edits, and none of them may be of presence")
    return changes


def _lives(edits: Iterable[pb.Edit]) -> dict[str, float]:
    """Override -> for how many seconds it holds; Invalid lists every edit that cannot expire."""
    faults = []
    found = {}
    for edit in edits:
        if not edit.expires_s:
            continue
        where = f"{edit.kind}.{edit.name}.expires_s"
        if edit.kind != Kind.OVERRIDES or not edit.HasField("record"):
            faults.append(Fault(where, "only an override that is put can expire"))
        # NaN fails both comparisons.
        elif not 1 <= edit.expires_s <= _LONGEST_S:
            faults.append(Fault(where, f"must be 1..{_LONGEST_S:g} seconds"))
        found[edit.name] = edit.expires_s
    if faults:
        raise Invalid(faults)
    return found


def _writes(changes: Iterable[Change], leases: Mapping[str, int]) -> list[Write]:
    writes: list[Write] = []
    for change in changes:
        key = key_of(change.kind, change.name)
        record = change.record
        if record is None:
            writes.append(Delete(key))
        else:
            writes.append(Put(key, value_of(record), leases.get(key, 0)))
    return writes


def _plan_message(plan: planning.Plan) -> pb.PlanResponse:
    edits = [
        pb.PlannedEdit(
            kind=edit.kind,
            name=edit.name,
            action=edit.action,
            before=describe(edit.before) if edit.before else "",
            after=describe(edit.after) if edit.after else "",
        )
        for edit in plan.edits
    ]
    moves = [
        pb.Move(
            service=move.service,
            pop=move.pop,
            set_changes=move.set_changes,
            first_changes=move.first_changes,
        )
        for move in plan.moves
    ]
    return pb.PlanResponse(
        revision=plan.revision, edits=edits, moves=moves, unsafe=plan.unsafe, notes=plan.notes
    )


def _audit_message(entry: AuditEntry) -> pb.AuditEntry:
    made = pb.AuditEntry(
        revision=entry.revision, at_unix_s=entry.at_unix_s, who=entry.who, what=entry.what
    )
    for edit in entry.edits:
        target = kind_and_name(edit.key)
        if target is None:
            continue
        shown = made.edits.add(kind=target[0], name=target[1])
        try:
            if edit.before is not None:
                shown.before.CopyFrom(record_to_message(record_of(edit.key, edit.before)))
            if edit.after is not None:
                shown.after.CopyFrom(record_to_message(record_of(edit.key, edit.after)))
        except Malformed:
            # The audit shows that it was changed even where the value cannot be read.
            continue
    return made
