"""Telling the other cores: what was measured here, and the signals of what this core decides on.

One stream goes to each other core. What is new goes soon, everything again each few seconds, so
that nothing has to be waited for and whatever got lost is mended.
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Iterator

import grpc

from meshd.core.errors import MeshError, Refused
from meshd.daemon.hearing import Hearing
from meshd.daemon.members import Members
from meshd.daemon.pump import Pump
from meshd.daemon.state import State
from meshd.daemon.tellings import everything, news_of, outcomes_of
from meshd.daemon.told import News
from meshd.v1 import cluster_pb2_grpc
from meshd.v1.cluster_pb2 import ExchangeRequest, Node, NodeState

log = logging.getLogger(__name__)

# News goes at most so often, a sign of life at least, and everything once in a while (seconds).
_GAP_S, _BEAT_S, WHOLE_S = 0.1, 0.5, 5.0
# Of the time, at most this share goes into telling one core everything.
_DUTY = 0.1
_SILENCE_S = 3.0
_BACKOFF_S = (0.1, 1.0)
_LOOK_S = 0.2
# Who stood still for so long missed what others found: it hears them before it decides again.
_STOOD_STILL_S = 2.0
_CHANNEL = (
    ("grpc.max_send_message_length", 16 << 20),
    ("grpc.enable_retries", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # Whoever comes back on the same address is dialled anew, not by what was shared before.
    ("grpc.use_local_subchannel_pool", 1),
)


class Exchange:
    """Keeps a stream to each other core, and knows who is there."""

    def __init__(
        self,
        state: State,
        pump: Pump,
        members: Members,
        own_state: Callable[[], NodeState] = NodeState,
    ) -> None:
        self._state = state
        self._pump = pump
        self.members = members
        self.hearing = Hearing(state, pump, members)
        self._own_state = own_state
        self._links: dict[str, tuple[Node, asyncio.Task[None]]] = {}
        self._looked_at: float | None = None
        # Since when what this core knows is not all that others know; None: it is.
        self._unsettled_since: float | None = float("-inf")
        self.messages = 0

    @property
    def duties_held(self) -> int:
        """How many services this core decides on."""
        decides = self._pump.observed.duties.decides
        return sum(decides(service) for service in self._state.snapshot.views)

    def own_state(self, now: float) -> NodeState:
        """How this core is."""
        self._notice(now)
        made = NodeState()
        made.CopyFrom(self._own_state())
        made.revision = self._state.snapshot.topology.revision
        made.alarm = made.alarm or self.members.alarm
        made.services = self.duties_held
        made.is_settled = self._unsettled_since is None
        return made

    async def run(self) -> None:
        """Exchange, for ever."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                self.look(time.monotonic())
                self._dial(tasks)
                await asyncio.sleep(_LOOK_S)

    def look(self, now: float) -> None:
        """See who is there, and share out the duties."""
        self._notice(now)
        members, pump = self.members, self._pump
        live = members.live(now)
        self._settle(live, now)
        moved = pump.observed.share(
            self._state.snapshot, live, members.able(live, self.own_state(now), now), now
        )
        pump.reports.share(self._state.snapshot, moved.taken, moved.given, now)
        if moved.taken or moved.given:
            log.info("duties moved: cores=%s", ",".join(pump.observed.duties.able))
            pump.wake()

    def _notice(self, now: float) -> None:
        """Time that passed while nothing could be heard is not held against others."""
        late_s = now - (self._looked_at if self._looked_at is not None else now) - _LOOK_S
        self._looked_at = now
        if late_s <= _LOOK_S:
            return
        self.members.pardon(late_s)
        if late_s > _STOOD_STILL_S:
            log.warning("process stood still: seconds=%.1f", late_s)
            self._unsettled_since = now

    def _settle(self, live: frozenset[str], now: float) -> None:
        if not live and self.members.others:
            # Cut off: when it is not any more, the others know what it does not.
            self._unsettled_since = now
        elif self._unsettled_since is not None:
            whole_at, since = self.hearing.whole_at, self._unsettled_since
            heard_all = all(whole_at.get(name, float("-inf")) > since for name in live)
            if heard_all and (live or self.members.has_joined):
                self._unsettled_since = None

    def _dial(self, tasks: asyncio.TaskGroup) -> None:
        others = self.members.others
        for name, (node, task) in list(self._links.items()):
            if others.get(name) != node:
                task.cancel()
                del self._links[name]
        for name, node in others.items():
            if name not in self._links:
                self._links[name] = (node, tasks.create_task(self._tell(node)))

    async def _tell(self, node: Node) -> None:
        """Tell one core, for ever."""
        delay_s = _BACKOFF_S[0]
        complained = ""
        while True:
            began = time.monotonic()
            try:
                await self._stream(node)
            except (grpc.aio.AioRpcError, MeshError, TimeoutError, OSError) as error:
                reason = _reason(error)
                if reason != complained:
                    log.warning("core not told: core=%s reason=%s", node.name, reason)
                complained = reason
            if time.monotonic() - began > _SILENCE_S:
                delay_s, complained = _BACKOFF_S[0], ""
            await asyncio.sleep(delay_s * random.uniform(0.5, 1.5))
            delay_s = min(2 * delay_s, _BACKOFF_S[1])

    async def _stream(self, node: Node) -> None:
        observed, news = self._pump.observed, News()
        async with grpc.aio.insecure_channel(node.address, options=_CHANNEL) as channel:
            call = cluster_pb2_grpc.ClusterStub(channel).Exchange()
            store_id = self._state.snapshot.topology.store_id
            hello = ExchangeRequest(store_id=store_id, node=self.members.own)
            observed.news.add(news)
            try:
                await self._round(call, iter([hello]))
                await self._converse(call, node.name, news, store_id)
            finally:
                observed.news.discard(news)
                call.cancel()

    async def _converse(
        self, call: grpc.aio.StreamStreamCall, core: str, news: News, store_id: str
    ) -> None:
        whole_at = float("-inf")
        while store_id == self._state.snapshot.topology.store_id:
            now = time.monotonic()
            news.wake.clear()
            if now >= whole_at:
                await self._round(call, everything(self._pump.observed, self._state, now))
                took_s = time.monotonic() - now
                whole_at = now + max(WHOLE_S, took_s / _DUTY)
            else:
                await self._round(call, self._news(core, news, now))
            await asyncio.sleep(_GAP_S)
            try:
                async with asyncio.timeout(_BEAT_S - _GAP_S):
                    await news.wake.wait()
            except TimeoutError:
                continue

    def _news(self, core: str, news: News, now: float) -> Iterator[ExchangeRequest]:
        yield ExchangeRequest(state=self.own_state(now))
        yield from news_of(self._pump.observed, self._state, news, now)
        yield from outcomes_of(self._pump.reports.passed_to(core))

    async def _round(
        self, call: grpc.aio.StreamStreamCall, messages: Iterator[ExchangeRequest]
    ) -> None:
        """Send some messages, and wait until the other core has taken them."""
        sent = 0
        for message in messages:
            try:
                async with asyncio.timeout(_SILENCE_S):
                    await call.write(message)
            except asyncio.InvalidStateError:
                # The call is over: reading says why.
                break
            sent += 1
            self.messages += 1
        for _ in range(max(1, sent)):
            async with asyncio.timeout(_SILENCE_S):
                if await call.read() is grpc.aio.EOF:
                    raise Refused("it ended the stream")


def _reason(error: BaseException) -> str:
    if isinstance(error, grpc.aio.AioRpcError):
        is_away = error.code() is grpc.StatusCode.UNAVAILABLE
        return error.code().name if is_away else f"{error.details()}"
    return str(error) or f"silent for {_SILENCE_S} s"
