"""Following a core: its snapshots and changes go into the state, and to disk.

A core that is slow, hung or gone changes nothing here but the age of the data. What a core
sends is refused if it would take an older state of the same store, or an empty new one.
"""

import asyncio
import logging
import random
import time
from collections.abc import Sequence

import grpc

from meshd.answerer.disk import SnapshotFile
from meshd.answerer.state import State
from meshd.core.errors import MeshError, Refused
from meshd.core.snapshot import Snapshot
from meshd.v1 import topology_pb2_grpc
from meshd.v1.topology_pb2 import FollowRequest, FollowResponse
from meshd.wire.follow import SnapshotReader, snapshot_events

log = logging.getLogger(__name__)

_NOT_THERE = grpc.StatusCode.UNAVAILABLE

# Cores send a beat each second.
_SILENCE_S = 4.0
_BACKOFF_S = (0.1, 2.0)
# A full disk is not tried more often.
_FOLD_EVERY_S = 30.0
# Keepalive alone takes over a minute to notice a frozen peer; silence is noticed above.
_CHANNEL = (
    ("grpc.max_receive_message_length", 64 << 20),
    ("grpc.enable_retries", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2000),
)


class Follower:
    """Keeps a state up to date from the first of its cores that answers."""

    def __init__(
        self, state: State, cores: Sequence[str], node: str, file: SnapshotFile | None
    ) -> None:
        self._state = state
        self._cores = cores
        self._node = node
        self._file = file
        self._heard: float | None = None
        self._delay = _BACKOFF_S[0]
        self._no_fold_before = 0.0
        self._complained = ("", "")

    @property
    def age_s(self) -> float | None:
        """Seconds since a core was last heard; None if never."""
        return None if self._heard is None else time.monotonic() - self._heard

    async def run(self) -> None:
        """Follow for ever, one core after the other."""
        at = 0
        while True:
            core = self._cores[at % len(self._cores)]
            at += 1
            try:
                await self._follow(core)
            except (grpc.aio.AioRpcError, MeshError, TimeoutError, OSError) as error:
                self._complain(core, _reason(error))
            finally:
                if self._file is not None:
                    self._file.abandon()
            # Spread, so that many answerers do not come back as one.
            await asyncio.sleep(self._delay * random.uniform(0.5, 1.5))
            self._delay = min(self._delay * 2, _BACKOFF_S[1])

    def _complain(self, core: str, reason: str) -> None:
        """Log why a core was lost, once for as long as it stays so."""
        if (core, reason) != self._complained:
            self._complained = (core, reason)
            log.warning("core lost: core=%s reason=%s", core, reason)

    async def _follow(self, core: str) -> None:
        held = self._state.snapshot
        request = FollowRequest(node=self._node)
        if held is not None:
            request.store_id = held.topology.store_id
            request.revision = held.topology.revision
        async with grpc.aio.insecure_channel(core, options=_CHANNEL) as channel:
            call = topology_pb2_grpc.TopologyStub(channel).Follow(request)
            reader = SnapshotReader(held)
            while True:
                async with asyncio.timeout(_SILENCE_S):
                    event = await call.read()
                if event is grpc.aio.EOF:
                    raise Refused("the core ended the stream")
                self._heard = time.monotonic()
                self._delay = _BACKOFF_S[0]
                self._complained = ("", "")
                await self._take(reader, event)
                await self._fold()

    async def _take(self, reader: SnapshotReader, event: FollowResponse) -> None:
        which = event.WhichOneof("event")
        snapshot = None
        for snapshot in reader.steps(event):
            # Between steps questions are answered.
            if snapshot is None:
                await asyncio.sleep(0)
        if snapshot is not None:
            refuse_regress(self._state.snapshot, snapshot)
            self._state.swap(snapshot)
        if self._file is not None:
            _keep(self._file, which, event)
        if which == "end":
            log.info("snapshot taken: %r", self._state)

    async def _fold(self) -> None:
        """Write the current snapshot anew when the file wants it."""
        snapshot, file = self._state.snapshot, self._file
        if file is None or snapshot is None or not file.wants_fold:
            return
        if time.monotonic() < self._no_fold_before:
            return
        self._no_fold_before = time.monotonic() + _FOLD_EVERY_S
        try:
            file.begin()
            for event in snapshot_events(snapshot):
                file.append(event)
                await asyncio.sleep(0)
            file.finish()
        except OSError as error:
            log.warning("snapshot not kept on disk: error=%s", error)
            file.close()


def _keep(file: SnapshotFile, which: str | None, event: FollowResponse) -> None:
    """Put an event on disk; a full disk costs the copy, never the answers."""
    try:
        if which == "begin":
            file.begin()
        # Signals alone are worth nothing after a restart.
        if which in ("begin", "part", "end") or event.changes.edits:
            file.append(event)
        if which == "end":
            file.finish()
    except OSError as error:
        log.warning("snapshot not kept on disk: error=%s", error)
        file.close()


def refuse_regress(held: Snapshot | None, offered: Snapshot) -> None:
    """Refused if `offered` is older than `held`, or would empty it: freeze, never empty."""
    if held is None:
        return
    old, new = held.topology, offered.topology
    if old.store_id == new.store_id and new.revision < old.revision:
        raise Refused(f"the core is at revision {new.revision}, behind {old.revision} held here")
    if old.store_id != new.store_id and old.services and not new.services:
        raise Refused(f"the core has a new and empty store ({new.store_id}); the old one is kept")


def _reason(error: BaseException) -> str:
    if isinstance(error, grpc.aio.AioRpcError):
        # Details of a failed connection name each attempt; the code says enough.
        return error.code().name if error.code() is _NOT_THERE else f"{error.details()}"
    return str(error) or f"silent for {_SILENCE_S} s"
