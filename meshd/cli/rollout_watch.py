"""Waiting for a rollout to end: its events as they come, from whichever core is there."""

import datetime
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import click
import grpc

from meshd.cli.connect import REFUSED, UNREACHABLE, Server, fail, fail_with
from meshd.cli.rollout_text import at_step, line, news, share, span, told
from meshd.core.release import Phase
from meshd.core.rollout import is_settled
from meshd.v1 import records_pb2 as pb
from meshd.v1 import rollout_pb2, rollout_pb2_grpc
from meshd.wire.release_messages import rollout_from_message

# A rollout goes on while no core is asked; who waits for it gives up after so long.
PATIENCE_S = 60.0
# A core that hangs is left for another one after so long, for one that is quiet looks the same.
_QUIET_S = 20.0
# A core may not know yet what another one wrote.
_BEHIND_S = 5.0
_PAUSE_S = (0.2, 2.0)
_LOST = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.INTERNAL,
)


@dataclass(slots=True)
class _Silence:
    """Since when no core could be asked, or none knew the rollout; inf: that is not so."""

    lost: float = float("inf")
    unknown: float = float("inf")


@dataclass(slots=True)
class Watching:
    """One rollout that is waited for, and what was seen of it."""

    server: Server
    name: str
    timeout_s: float
    as_json: bool
    patience_s: float = PATIENCE_S
    seen: pb.Rollout | None = None
    revision: int = 0
    _began: float = field(default_factory=time.monotonic)

    def say(self, event: str, message: pb.Rollout, text: str = "") -> None:
        """Print an event: a line for people, an object for programs."""
        now = datetime.datetime.now().astimezone()
        if self.as_json:
            said = {"event": event, "at": now.isoformat(timespec="milliseconds")}
            said |= {"text": text} if text else {}
            click.echo(json.dumps(said | {"revision": self.revision, "rollout": told(message)}))
        else:
            text = text or line(event, rollout_from_message(message))
            click.echo(f"{now:%H:%M:%S}  {message.name}  {text}")
        # Whoever reads a pipeline's log reads it as it comes.
        sys.stdout.flush()

    def take(self, message: pb.Rollout, revision: int, first: str = "found") -> None:
        """Say what is new in it; a core that is behind says nothing new."""
        if revision < self.revision:
            return
        self.revision = revision
        before = rollout_from_message(self.seen) if self.seen is not None else None
        for event in news(before, rollout_from_message(message)):
            self.say(first if event == "found" else event, message)
        self.seen = message

    @property
    def has_ended(self) -> bool:
        """True if nothing more comes by itself."""
        if self.seen is None:
            return False
        rollout = rollout_from_message(self.seen)
        return rollout.phase.is_over or is_settled(rollout)

    @property
    def left_s(self) -> float:
        """How long it may still take."""
        return self.timeout_s - (time.monotonic() - self._began)

    def where(self) -> str:
        """Where it stands, for who stops waiting."""
        if self.seen is None:
            return "it was not seen"
        rollout = rollout_from_message(self.seen)
        return f"it is {rollout.phase} at {at_step(rollout)}: {share(rollout)}"


def end_with(watching: Watching) -> None:
    """Wait for its end; the program ends as it does: 1 rolled back or too late.

    0: it is done, or all in a scope that is not everybody have it.
    """
    try:
        _wait(watching)
    except KeyboardInterrupt:
        fail([f"interrupted: the rollout goes on; {watching.where()}"])
    if watching.seen is not None and watching.seen.phase == Phase.ROLLED_BACK:
        sys.exit(REFUSED)


def _wait(watching: Watching) -> None:
    silence, pause_s = _Silence(), _PAUSE_S[0]
    while not watching.has_ended:
        if watching.left_s <= 0:
            _too_late(watching)
        heard = _ask(watching, silence)
        if watching.has_ended:
            return
        pause_s = _PAUSE_S[0] if heard else min(2 * pause_s, _PAUSE_S[1])
        time.sleep(max(0.0, min(pause_s, watching.left_s)))
        watching.server = watching.server.turned()


def _ask(watching: Watching, silence: _Silence) -> bool:
    """Hear what one core says, until it ends or is quiet; False if it said nothing."""
    heard = False
    with watching.server.opened() as (address, channel):
        try:
            for reply in _replies(watching, channel):
                if not heard and silence.lost < float("inf") and watching.seen is not None:
                    watching.say("reached", watching.seen, f"a core is there again: {address}")
                heard, silence.lost, silence.unknown = True, float("inf"), float("inf")
                watching.take(reply.rollout, reply.revision)
                if watching.has_ended:
                    break
        except grpc.RpcError as error:
            if not heard:
                _judge(watching, silence, address, error)
    return heard


def _replies(watching: Watching, channel: grpc.Channel) -> Iterator[rollout_pb2.WatchResponse]:
    stub = rollout_pb2_grpc.RolloutsStub(channel)
    request = rollout_pb2.WatchRequest(id=watching.name)
    call = stub.Watch(request, timeout=max(0.1, min(_QUIET_S, watching.left_s)))
    with _ended(call):
        yield from call


@contextmanager
def _ended(call: grpc.Call) -> Iterator[None]:
    try:
        yield
    finally:
        call.cancel()


def _judge(watching: Watching, silence: _Silence, address: str, error: grpc.RpcError) -> None:
    """A core that is away is waited for, within bounds; what one refuses ends the program."""
    now, code = time.monotonic(), error.code()
    if code is grpc.StatusCode.NOT_FOUND:
        silence.unknown = min(silence.unknown, now)
        if now - silence.unknown > _BEHIND_S or watching.seen is None:
            fail_with(address, error)
        return
    if code not in _LOST:
        fail_with(address, error)
    if silence.lost == float("inf"):
        silence.lost = now
        if watching.seen is not None:
            watching.say("unreached", watching.seen, f"no answer from {address}: waiting")
    if now - silence.lost > watching.patience_s:
        fail(
            [f"no core was reached for {span(round(now - silence.lost))}; the rollout goes on "
             f"where one is: {watching.where()}"],
            UNREACHABLE,
        )  # fmt: skip


def _too_late(watching: Watching) -> None:
    late = f"timed out after {span(watching.timeout_s)}, and the rollout goes on; "
    late += watching.where()
    if watching.as_json and watching.seen is not None:
        watching.say("timed-out", watching.seen, late)
        sys.exit(REFUSED)
    fail([late])
