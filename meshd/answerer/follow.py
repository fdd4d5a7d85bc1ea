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

from meshd.answerer.confirm import Confirming
from meshd.answerer.disk import SnapshotFile
from meshd.answerer.state import State
from meshd.core.errors import MeshError, Refused
from meshd.core.snapshot import Snapshot
from meshd.v1 import topology_pb2_grpc
from meshd.v1.topology_pb2 import Beat, FollowRequest, FollowResponse
from meshd.wire.follow import SnapshotReader, snapshot_events

log = logging.getLogger(__name__)

_NOT_THERE = grpc.StatusCode.UNAVAILABLE

# Cores send a beat each second.
_SILENCE_S = 4.0
_BACKOFF_S = (0.1, 2.0)
# A core that has not reached its store for so long is left for one that clearly has: when all of
# them lose it, they do so within two seconds.
_STORE_AWAY_S, _STORE_THERE_S = 5.0, 3.0
# How often other cores are looked at, and how often in a row one must be well to come back to it.
_LOOK_EVERY_S = 5.0
_LOOKS = 3
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
    """Keeps a state up to date from one of its cores: the first that is there and well."""

    def __init__(
        self, state: State, cores: Sequence[str], node: str, file: SnapshotFile | None
    ) -> None:
        self._state = state
        self._cores = cores
        self._node = node
        self._confirming = Confirming(state, node)
        self._file = file
        self._heard: float | None = None
        # When the core that is followed had reached its store, as far as it said.
        self._store_reached: float | None = None
        self._has_beaten = False
        self._delay = _BACKOFF_S[0]
        self._no_fold_before = 0.0
        self._complained = ("", "")

    @property
    def age_s(self) -> float | None:
        """Seconds since a core was last heard; None if never."""
        return None if self._heard is None else time.monotonic() - self._heard

    @property
    def store_age_s(self) -> float | None:
        """Seconds since the core that is followed had reached its store; None if never."""
        return None if self._store_reached is None else time.monotonic() - self._store_reached

    async def run(self) -> None:
        """Follow for ever: the next core if one is lost, a better one if there is one."""
        at = 0
        while True:
            core = self._cores[at]
            try:
                at = await self._follow_until_better(at)
                log.info("core changed: from=%s to=%s", core, self._cores[at])
                continue
            except (grpc.aio.AioRpcError, MeshError, TimeoutError, OSError) as error:
                self._complain(core, _reason(error))
            finally:
                if self._file is not None:
                    self._file.abandon()
            at = (at + 1) % len(self._cores)
            # Spread, so that many answerers do not come back as one.
            await asyncio.sleep(self._delay * random.uniform(0.5, 1.5))
            self._delay = min(self._delay * 2, _BACKOFF_S[1])

    async def _follow_until_better(self, at: int) -> int:
        """Follow a core until it is lost, which raises, or another one is better: its number."""
        following = asyncio.create_task(self._follow(self._cores[at]))
        looking = asyncio.create_task(self._better(at))
        try:
            await asyncio.wait((following, looking), return_when=asyncio.FIRST_COMPLETED)
            if following.done():
                following.result()
            return looking.result()
        finally:
            for task in (following, looking):
                task.cancel()
            await asyncio.gather(following, looking, return_exceptions=True)

    async def _better(self, at: int) -> int:
        """Wait until another core is the one to follow.

        That is any one that has its store if this one lost it, else one before it in the list,
        when it was well some times in a row: no flapping.
        """
        well = [0] * len(self._cores)
        while True:
            await asyncio.sleep(_LOOK_EVERY_S * random.uniform(0.5, 1.5))
            is_away = self._is_away()
            for other in range(len(self._cores) if is_away else at):
                is_well = other != at and await self._is_well(self._cores[other])
                well[other] = well[other] + 1 if is_well else 0
                if well[other] >= (1 if is_away else _LOOKS):
                    return other

    def _is_away(self) -> bool:
        """True if the core that is followed told that it lost its store."""
        age_s = self.store_age_s
        return self._has_beaten and (age_s is None or age_s > _STORE_AWAY_S)

    async def _is_well(self, core: str) -> bool:
        """True if a core has its store, and what is held here."""
        held = self._state.snapshot
        try:
            async with (
                asyncio.timeout(_SILENCE_S),
                grpc.aio.insecure_channel(core, options=_CHANNEL) as channel,
            ):
                call = topology_pb2_grpc.TopologyStub(channel).Follow(self._request())
                event = await call.read()
        except (grpc.aio.AioRpcError, TimeoutError, OSError):
            return False
        if event is grpc.aio.EOF or not event.beat.HasField("store_age_s"):
            return False
        is_behind = held is not None and event.beat.revision < held.topology.revision
        return event.beat.store_age_s <= _STORE_THERE_S and not is_behind

    def _request(self) -> FollowRequest:
        request = FollowRequest(node=self._node)
        held = self._state.snapshot
        if held is not None:
            request.store_id = held.topology.store_id
            request.revision = held.topology.revision
        return request

    def _complain(self, core: str, reason: str) -> None:
        """Log why a core was lost, once for as long as it stays so."""
        if (core, reason) != self._complained:
            self._complained = (core, reason)
            log.warning("core lost: core=%s reason=%s", core, reason)

    async def _follow(self, core: str) -> None:
        self._store_reached, self._has_beaten = None, False
        confirming: asyncio.Task[None] | None = None
        async with grpc.aio.insecure_channel(core, options=_CHANNEL) as channel:
            call = topology_pb2_grpc.TopologyStub(channel).Follow(self._request())
            reader = SnapshotReader(self._state.snapshot)
            try:
                while True:
                    which = await self._hear(call, reader)
                    if which in ("end", "changes") and confirming is None:
                        # Before, the core does not know that it is followed.
                        confirming = asyncio.create_task(self._confirming.tell(channel))
                    await self._fold()
            finally:
                if confirming is not None:
                    confirming.cancel()

    async def _hear(self, call: grpc.aio.UnaryStreamCall, reader: SnapshotReader) -> str | None:
        """Take the next event; returns which it was."""
        async with asyncio.timeout(_SILENCE_S):
            event = await call.read()
        if event is grpc.aio.EOF:
            raise Refused("the core ended the stream")
        self._heard = time.monotonic()
        await self._take(reader, event)
        which: str | None = event.WhichOneof("event")
        if which in ("end", "changes"):
            # Only now: a core whose snapshot is refused must not be asked again at once.
            self._delay = _BACKOFF_S[0]
            self._complained = ("", "")
        return which

    async def _take(self, reader: SnapshotReader, event: FollowResponse) -> None:
        which = event.WhichOneof("event")
        if which == "beat":
            self._note_store(event.beat)
        elif which == "begin":
            # Before all the rest of it is sent.
            refuse_older(self._state.snapshot, event.begin.store_id, event.begin.revision)
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

    def _note_store(self, beat: Beat) -> None:
        self._has_beaten = True
        if beat.HasField("store_age_s"):
            self._store_reached = time.monotonic() - beat.store_age_s

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
    refuse_older(held, new.store_id, new.revision)
    if old.store_id != new.store_id and old.services and not new.services:
        raise Refused(f"the core has a new and empty store ({new.store_id}); the old one is kept")


def refuse_older(held: Snapshot | None, store_id: str, revision: int) -> None:
    """Refused if a core is behind what is held of the same store."""
    if held is None or held.topology.store_id != store_id:
        return
    if revision < held.topology.revision:
        raise Refused(
            f"the core is at revision {revision}, behind {held.topology.revision} held here"
        )


def _reason(error: BaseException) -> str:
    if isinstance(error, grpc.aio.AioRpcError):
        # Details of a failed connection name each attempt; the code says enough.
        return error.code().name if error.code() is _NOT_THERE else f"{error.details()}"
    return str(error) or f"silent for {_SILENCE_S} s"
