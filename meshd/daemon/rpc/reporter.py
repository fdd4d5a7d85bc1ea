"""The Reporter service: clients stream what they saw of instances; reports are lossy by design.

Whoever sends more than it was asked for is left out and made to wait, so that others are heard.
"""

import asyncio
import time
from ipaddress import IPv6Address, ip_address
from typing import Any
from urllib.parse import unquote

import grpc

from meshd.core.errors import Invalid, Unavailable
from meshd.core.outcomes import Reporter as Who
from meshd.daemon.reports import MOST_REPORTERS, Reports
from meshd.daemon.rpc.called import Called
from meshd.daemon.rpc.status import unary
from meshd.daemon.state import State
from meshd.v1 import reporter_pb2 as pb
from meshd.v1 import reporter_pb2_grpc
from meshd.wire.reports import is_timely, outcome_from_message, reporter_name

EVERY_S = 2.0
# Instances in one batch.
_MOST_OUTCOMES = 1000
_SILENCE_S = 60.0
# Before the next batch of one that came too early is read; till then it waits in the network.
_PAUSE_S = 0.1
# A reporter may say that it let go of so many batches; what it says is not checked.
_MOST_DROPPED = 10_000


class Reporter(reporter_pb2_grpc.ReporterServicer):
    """Hears reporters, each on its stream."""

    def __init__(self, state: State, reports: Reports) -> None:
        self._state = state
        self._reports = reports
        self._called = Called()
        self._streams = 0
        self.most_streams = MOST_REPORTERS
        # Batches to hear each second, of all reporters together.
        self.batches_per_s = 1000.0

    @property
    def streams(self) -> int:
        """How many reporters there are."""
        return self._streams

    @property
    def every_s(self) -> float:
        """How often each should report, with so many reporters as there are."""
        return max(EVERY_S, self._streams / self.batches_per_s)

    @unary
    async def Report(self, _: Any, context: Any) -> None:  # noqa: N802
        if self._streams >= self.most_streams:
            await context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED, f"{self._streams} reporters report here"
            )
        self._streams += 1
        try:
            await self._converse(context)
        finally:
            self._streams -= 1

    async def _converse(self, context: Any) -> None:
        host, who = _host_of(context.peer()), None
        while (request := await _read(context)) is not grpc.aio.EOF:
            said = Who(host, reporter_name(request))
            if who not in (None, said):
                raise Invalid("a stream is of one reporter: another one has its own")
            who, now = said, time.monotonic()
            is_early = self._reports.is_early(who, self.every_s, now)
            ignored = self._take(who, request, is_early, now)
            await context.write(pb.ReportResponse(every_s=self.every_s, ignored=ignored))
            if is_early:
                await asyncio.sleep(_PAUSE_S)

    def _take(self, who: Who, request: pb.ReportRequest, is_early: bool, now: float) -> int:
        """Note a batch; returns how many of its outcomes were left out."""
        reports, count = self._reports, len(request.outcomes)
        reports.batches += 1
        reports.dropped += min(request.dropped, _MOST_DROPPED)
        if is_early or not is_timely(request):
            reports.ignored["early" if is_early else "window"] += count
            return count
        snapshot, ignored = self._state.snapshot, max(0, count - _MOST_OUTCOMES)
        reports.ignored["many"] += ignored
        for message in request.outcomes[:_MOST_OUTCOMES]:
            name = self._called.find(snapshot, message)
            why = "unknown" if name is None else self._note(who, name, message, now)
            if why:
                reports.ignored[why] += 1
                ignored += 1
        return ignored

    def _note(self, who: Who, name: str, message: pb.Outcomes, now: float) -> str:
        """Note an outcome, or say why not."""
        try:
            outcome = outcome_from_message(message)
        except Invalid:
            return "invalid"
        has_room = self._reports.note(self._state.snapshot, who, name, outcome, now)
        return "" if has_room else "crowded"


async def _read(context: Any) -> Any:
    try:
        async with asyncio.timeout(_SILENCE_S):
            return await context.read()
    except TimeoutError:
        raise Unavailable(f"nothing was reported for {_SILENCE_S:g} s") from None


def _host_of(peer: str) -> str:
    """The host in a peer as gRPC names it: `ipv4:10.1.0.9:4711`, `ipv6:%5B::1%5D:4711`, `unix:`.

    Of IPv6 it is the first of the /64: its addresses are free to whoever is in it (RFC 7421).
    """
    if not peer.startswith("ip"):
        return peer
    host = unquote(peer.partition(":")[2].rpartition(":")[0]).strip("[]").partition("%")[0]
    address = ip_address(host)
    return str(address if address.version == 4 else IPv6Address(int(address) >> 64 << 64))
