"""What a program saw of the instances that it calls, told to a core every two seconds.

Nothing here stops or slows the program: what no core takes is let go, and counted.
"""

import asyncio
import contextlib
import logging
import random
import secrets
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import grpc

from meshd.client.endpoint import Endpoint, Outcome
from meshd.client.stream import CHANNEL_OPTIONS
from meshd.client.tally import Key, Tallies, Tally, merged, outcomes_of
from meshd.v1 import reporter_pb2 as pb
from meshd.v1 import reporter_pb2_grpc

log = logging.getLogger(__name__)

_EVERY_S, _LONGEST_EVERY_S = 2.0, 60.0
# A core takes what comes after half of the time that it asked for.
_SOONER = 0.6
_MOST_ENDPOINTS = 1000
# Ten seconds: what is older tells a core nothing of now.
_MOST_WINDOWS = 5
_CONNECT_S, _ANSWER_S, _FLUSH_S = 2.0, 5.0, 1.0
# InvalidStateError: what grpc raises for a write to a stream that has just ended.
_LOST = (grpc.aio.AioRpcError, ConnectionError, TimeoutError, asyncio.InvalidStateError)
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.1, 2.0


@dataclass(frozen=True, slots=True)
class _Window:
    """What was noted from one batch to the next."""

    tallies: Mapping[Key, Tally]
    seconds: float


class Reporter:
    """Streams how calls ended to the first of `cores` that answers, while the context is open.

    Of each call: `began`, then `note`, or `ended` if it tells nothing. They never wait, and may be
    called in any thread. To the core one reporter is one voice, named by chance unless `voice` is
    given: a process should have one for all that it calls.
    """

    def __init__(
        self, cores: str | Sequence[str], *, every_s: float = _EVERY_S, voice: str = ""
    ) -> None:
        # Seconds from batch to batch; a core may ask for more.
        self.every_s = every_s
        # Batches that a core answered, and those that none did.
        self.sent = self.dropped = 0
        # Outcomes that a core left out: unknown instances, batches that came too early.
        self.ignored = 0
        self._cores = (cores,) if isinstance(cores, str) else tuple(cores)
        self._voice = voice or secrets.token_hex(8)
        self._core = ""
        self._in_vain = 0
        self._told_dropped = 0
        self._tallies = Tallies(_MOST_ENDPOINTS)
        self._windows: deque[_Window] = deque()
        self._window_at = 0.0
        # Set when there is something to send or to see.
        self._wake = asyncio.Event()
        self._closing = asyncio.Event()
        self._tasks: tuple[asyncio.Task[None], ...] = ()

    def __repr__(self) -> str:
        where = f"at {self._core}" if self._core else "no core"
        told = f"{self.sent} sent, {self.dropped} dropped, {self.waiting} waiting"
        return f"<Reporter {where}: {told}>"

    @property
    def waiting(self) -> int:
        """Batches that wait for a core."""
        return len(self._windows)

    @property
    def forgotten(self) -> int:
        """Endpoints that had to go from a batch for newer ones."""
        return self._tallies.forgotten

    def began(self, endpoint: Endpoint) -> None:
        """A call begins."""
        self._tallies.began(endpoint)

    def note(self, endpoint: Endpoint, outcome: Outcome, latency_s: float) -> None:
        """A call has ended so; the latency counts if there was a reply."""
        self._tallies.note(endpoint, outcome, latency_s)

    def ended(self, endpoint: Endpoint) -> None:
        """A call was given up: it tells nothing."""
        self._tallies.ended(endpoint)

    async def __aenter__(self) -> Self:
        self._window_at = asyncio.get_running_loop().time()
        self._tasks = (asyncio.create_task(self._gather()), asyncio.create_task(self._send()))
        return self

    async def __aexit__(self, *_: object) -> None:
        """Send what is there, within a second."""
        gathers, sends = self._tasks
        gathers.cancel()
        self._end_window()
        self._closing.set()
        await asyncio.wait([sends], timeout=_FLUSH_S)
        sends.cancel()
        await asyncio.wait(self._tasks)
        self.dropped += len(self._windows)
        self._windows.clear()

    async def _gather(self) -> None:
        """End a window when it is due; sooner if there is trouble to tell of."""
        while True:
            every_s = random.uniform(0.9, 1.1) * self.every_s
            await asyncio.sleep(_SOONER * every_s)
            if not self._tallies.has_trouble:
                await asyncio.sleep((1 - _SOONER) * every_s)
            self._end_window()

    def _end_window(self) -> None:
        """Queue what was noted; of too many windows the oldest goes."""
        now = asyncio.get_running_loop().time()
        tallies = self._tallies.take()
        if tallies:
            self._windows.append(_Window(tallies, now - self._window_at))
        self._window_at = now
        if len(self._windows) > _MOST_WINDOWS:
            self._windows.popleft()
            self.dropped += 1
        self._wake.set()

    async def _send(self) -> None:
        """Report to one of the cores, until the context closes."""
        is_last = False
        while not is_last:
            # What is there at the end is tried once more: it may be all that there ever was.
            is_last = self._closing.is_set()
            for core in self._cores:
                if self._windows or not self._closing.is_set():
                    await self._report_to(core)
            self._in_vain += 1
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._wait_s()):
                    await self._closing.wait()

    def _wait_s(self) -> float:
        """Seconds to wait after so many rounds in vain."""
        # Where there are many reporters they do not all come at once when their core is back.
        longest = max(_LONGEST_WAIT_S, self.every_s)
        wait_s = min(longest, _FIRST_WAIT_S * 2.0 ** min(self._in_vain - 1, 10))
        return random.uniform(0.5, 1.0) * wait_s

    async def _report_to(self, core: str) -> None:
        """Send batches to a core while that goes."""
        async with grpc.aio.insecure_channel(core, options=CHANNEL_OPTIONS) as channel:
            try:
                async with asyncio.timeout(_CONNECT_S):
                    await _connect(channel)
                await self._stream(core, reporter_pb2_grpc.ReporterStub(channel).Report())
            except _LOST as error:
                # Reports are lossy: a core that is away is no fault of this program.
                log.log(logging.INFO if self._core else logging.DEBUG, "%s: %r", core, error)
            self._core = ""

    async def _stream(self, core: str, call: Any) -> None:
        """Send each batch when it is due; until the context closes, or the stream ends."""
        call.add_done_callback(lambda _: self._wake.set())
        self._wake.set()
        while self._windows or not self._closing.is_set():
            await self._wake.wait()
            self._wake.clear()
            if call.done():
                raise ConnectionError(await call.code())
            if self._windows:
                self._heard(core, *await self._tell(call))
        call.cancel()

    async def _tell(self, call: Any) -> tuple[pb.ReportResponse, int]:
        """Send what waits as one batch: a core takes no more than one in its time.

        What was answered, and how many batches were told as dropped.
        """
        windows = tuple(self._windows)
        self._windows.clear()
        request = pb.ReportRequest(
            reporter=self._voice,
            window_s=sum(window.seconds for window in windows),
            outcomes=outcomes_of(merged(window.tallies for window in windows)),
            dropped=self.dropped - self._told_dropped,
        )
        try:
            async with asyncio.timeout(_ANSWER_S):
                await call.write(request)
                return await _answer(call), request.dropped
        except BaseException:
            # Whether it came is not known; a batch that comes twice is worse than one that is lost.
            self.dropped += 1
            raise

    def _heard(self, core: str, told: pb.ReportResponse, told_dropped: int) -> None:
        """A core has answered a batch."""
        self.sent += 1
        self.ignored += told.ignored
        self._core = core
        self._told_dropped += told_dropped
        self._in_vain = 0
        if 0.0 < told.every_s <= _LONGEST_EVERY_S:
            self.every_s = told.every_s


async def _connect(channel: grpc.aio.Channel) -> None:
    """Wait for the connection, so that no batch is lost to a core that is away."""
    state = channel.get_state(try_to_connect=True)
    while state is not grpc.ChannelConnectivity.READY:
        if state is grpc.ChannelConnectivity.TRANSIENT_FAILURE:
            raise ConnectionError("no connection")
        await channel.wait_for_state_change(state)
        state = channel.get_state()


async def _answer(call: Any) -> pb.ReportResponse:
    told: pb.ReportResponse = await call.read()
    if told is grpc.aio.EOF:
        raise ConnectionError(await call.code())
    return told
