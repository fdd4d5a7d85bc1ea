"""A registration that keeps itself: reconnects for ever, drains, leaves.

Nothing here stops the program that it runs in: without a core it serves on, and is registered
as soon as there is one.
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Self, Unpack

from meshd.client.announced import Announced, Figure, beat_of, hello_of
from meshd.client.errors import Refused, Replaced, Unreachable
from meshd.client.stream import Stream, opened
from meshd.core.errors import MeshError
from meshd.v1 import registry_pb2 as pb

log = logging.getLogger(__name__)

_FIRST_WAIT_S, _FIRST_SHARE = 0.1, 0.05
# Well within a lease: a core that comes again gives each process the whole of its own.
_LONGEST_WAIT_S, _LEASE_SHARE = 2.0, 0.4
_LEASE_S = 3.0
# Of a lease, for how long an answer to a beat is waited for.
_ANSWER_SHARE = 1 / 2
_REFUSED_WAIT_S = 10.0
_ENTRY_S, _MUST_S = 2.0, 10.0
_LEAVE_S = 2.0


class Standing(StrEnum):
    """Where a registration stands."""

    CONNECTING = "connecting"
    REGISTERED = "registered"
    REFUSED = "refused"
    REPLACED = "replaced"
    LEFT = "left"


class Registration:
    """Announces a program as one instance for as long as the context is open.

    `cores` are tried in turn. `load` (0..1 of the capacity) and `in_flight` are numbers, or
    called for each beat; both may be set at any time. On entry Refused is raised if a core will
    not have the instance, Replaced if another has its name since. A core that is away is waited
    for in the background, or, with `must`, for ten seconds and then raised as Unreachable.
    """

    def __init__(
        self,
        cores: str | Sequence[str],
        *,
        load: Figure = None,
        in_flight: Figure = None,
        must: bool = False,
        **announced: Unpack[Announced],
    ) -> None:
        self.load = load
        self.in_flight = in_flight
        self.state = Standing.CONNECTING
        # Why it is not registered; None while it is.
        self.error: MeshError | None = None
        # Of a draining instance: seconds until no client can hold an answer with it any more.
        self.safe_in_s: float | None = None
        self._cores = (cores,) if isinstance(cores, str) else tuple(cores)
        self._hello = hello_of(announced)
        self._must = must
        self._lame_duck = False
        self._is_leaving = False
        # How often all cores were asked in vain since it was registered.
        self._in_vain = 0
        self._lease_s = _LEASE_S
        self._core = ""
        self._task: asyncio.Task[None] | None = None
        # Set when there is something to say or to see before the next beat is due.
        self._wake = asyncio.Event()
        self._moved = asyncio.Event()

    def __repr__(self) -> str:
        name, epoch = self._hello.instance.name, self._hello.epoch
        at = f" at {self._core}, epoch {epoch}" if self.state is Standing.REGISTERED else ""
        drains = ", draining" if self._lame_duck else ""
        why = f": {self.error}" if self.error else ""
        return f"<Registration {name}: {self.state}{at}{drains}{why}>"

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_MUST_S if self._must else _ENTRY_S):
                await self._until(lambda: self._is_entered)
        is_final = isinstance(self.error, Refused | Replaced)
        if self.state is not Standing.REGISTERED and (self._must or is_final):
            await self._stop()
            raise self.error or Unreachable("no core answers")
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Leave; after an Exception the stream just ends: the instance is down, and remembered."""
        if not (kind and issubclass(kind, Exception)) and self.state is Standing.REGISTERED:
            assert self._task is not None, "it was entered"
            self._is_leaving = True
            self._wake.set()
            await asyncio.wait([self._task], timeout=_LEAVE_S)
        await self._stop()
        if self.state is not Standing.REPLACED:
            self._note(Standing.LEFT, None)

    async def drain(self, timeout_s: float = 60.0) -> bool:
        """Ask for no new clients and wait until none can come; False if that was not told in time.

        The program must serve on meanwhile. Replaced if another process has the name.
        """
        self._lame_duck = True
        self._wake.set()
        try:
            async with asyncio.timeout(timeout_s):
                await self._until(lambda: self.safe_in_s == 0.0 or self._has_stopped)
        except TimeoutError:
            return False
        if isinstance(self.error, Replaced):
            raise self.error
        return self.safe_in_s == 0.0

    async def reached(self, *standings: Standing) -> Standing:
        """Wait until it stands at one of these."""
        await self._until(lambda: self.state in standings)
        return self.state

    @property
    def _has_stopped(self) -> bool:
        return self._task is None or self._task.done()

    @property
    def _is_entered(self) -> bool:
        """True if it is known how the beginning went."""
        is_final = isinstance(self.error, Refused | Replaced)
        was_away = self._in_vain > 0 and not self._must
        return self.state is Standing.REGISTERED or is_final or was_away

    async def _until(self, check: Callable[[], bool]) -> None:
        while not check():
            await self._moved.wait()

    def _note(self, state: Standing, error: MeshError | None) -> None:
        if error is not None and str(error) != str(self.error):
            log.warning("not registered: instance=%s %s", self._hello.instance.name, error)
        self.state, self.error = state, error
        self._tell()

    def _tell(self) -> None:
        self._moved.set()
        self._moved = asyncio.Event()

    async def _stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        """Be registered at one of the cores, until it leaves or is replaced."""
        while True:
            for core in self._cores:
                if await self._is_over_at(core):
                    return
            self._in_vain += 1
            self._tell()
            refused_s = _REFUSED_WAIT_S if self.state is Standing.REFUSED else 0.0
            await asyncio.sleep(max(refused_s, _wait_s(self._lease_s, self._in_vain)))

    async def _is_over_at(self, core: str) -> bool:
        """Be registered at a core while it goes; True if that was the last time."""
        try:
            async with opened(core, self._said(), self._wake.set) as stream:
                await self._serve(stream)
        except Replaced as error:
            self._note(Standing.REPLACED, error)
        except (Refused, Unreachable) as error:
            is_refused = isinstance(error, Refused)
            self._note(Standing.REFUSED if is_refused else Standing.CONNECTING, error)
            return False
        return True

    def _said(self) -> pb.Hello:
        """The hello of this moment."""
        self._hello.beat.CopyFrom(self._beat())
        return self._hello

    def _beat(self) -> pb.Heartbeat:
        return beat_of(self.load, self.in_flight, lame_duck=self._lame_duck)

    async def _serve(self, stream: Stream) -> None:
        """Beat on an open stream until it is time to leave."""
        self._core, self._hello.epoch = stream.core, stream.welcome.epoch
        self._in_vain = 0
        self._note(Standing.REGISTERED, None)
        while not self._is_leaving:
            self._lease_s = stream.welcome.lease_s
            pause_s = random.uniform(0.9, 1.0) * self._pause_s(stream.welcome.beat_every_s)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._wake.wait()
            self._wake.clear()
            if not self._is_leaving:
                # A core that hangs is as good as away if there are others, and the lease has to
                # be held by one of them before it runs out.
                answer_s = self._lease_s * _ANSWER_SHARE if len(self._cores) > 1 else None
                beaten = await stream.beat(self._beat(), answer_s)
                self.safe_in_s = beaten.safe_in_s if beaten.HasField("safe_in_s") else None
                self._tell()
        await stream.leave()

    def _pause_s(self, every_s: float) -> float:
        """Until the next beat; one that drains asks again when it should be over."""
        return every_s if not self.safe_in_s else min(every_s, self.safe_in_s)


def _wait_s(lease_s: float, in_vain: int) -> float:
    """Seconds to wait after so many rounds in vain."""
    longest = min(_LONGEST_WAIT_S, lease_s * _LEASE_SHARE)
    # Very many have long leases: they do not all come at once when their core is back.
    first = max(_FIRST_WAIT_S, lease_s * _FIRST_SHARE)
    return random.uniform(0.5, 1.0) * min(longest, first * 2.0 ** min(in_vain - 1, 10))
