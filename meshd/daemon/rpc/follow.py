"""What followers of a core are sent: where it stands, a snapshot or what they missed, changes."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Sequence

from meshd.core.errors import Refused
from meshd.core.snapshot import Snapshot
from meshd.daemon.pump import Pump
from meshd.daemon.state import Feed, State
from meshd.v1.topology_pb2 import FollowRequest, FollowResponse
from meshd.wire.follow import beat_event, changes_event, snapshot_events

_BEAT_S = 1.0


async def follow(state: State, pump: Pump, request: FollowRequest) -> AsyncIterator[FollowResponse]:
    """Events until whoever follows ends it; Refused when it lags too far behind."""
    if request.store_id == state.snapshot.topology.store_id:
        # It came from a core that is ahead of this one.
        await pump.following.catch_up(request.revision)
    yield _beat(state, pump)
    feed = state.follow(request.node)
    try:
        # No await between these: the feed holds exactly what comes after the snapshot.
        snapshot = state.snapshot
        missed = state.since(request.store_id, request.revision)
        for event in _start(snapshot, missed):
            yield event
        async for event in _fed(state, pump, feed):
            yield event
        raise Refused("this follower fell too far behind: begin anew")
    finally:
        state.unfollow(feed)


async def _fed(state: State, pump: Pump, feed: Feed) -> AsyncIterator[FollowResponse]:
    """What comes, and a beat each second, until the feed overruns."""
    loop = asyncio.get_running_loop()
    due = loop.time() + _BEAT_S
    while not feed.overrun:
        try:
            async with asyncio.timeout_at(due):
                event = await feed.queue.get()
        except TimeoutError:
            due = loop.time() + _BEAT_S
            event = _beat(state, pump)
        yield event


def _beat(state: State, pump: Pump) -> FollowResponse:
    return beat_event(state.snapshot.topology.revision, pump.reach.age_s(time.monotonic()))


def _start(snapshot: Snapshot, missed: Sequence[FollowResponse] | None) -> Iterable[FollowResponse]:
    if missed is None:
        return snapshot_events(snapshot)
    revision = snapshot.topology.revision
    signals = changes_event(revision, (), snapshot.signals, all_signals=True)
    return (*missed, signals)
