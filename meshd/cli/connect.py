"""meshctl's way to a core: one channel a command, and errors as exit codes.

0 done, 1 refused or failed, 2 usage, 3 cannot reach the server.
"""

import getpass
import json
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import NoReturn

import click
import grpc

# A core that does not accept within this is passed over for the next.
_TRY_S = 1.0
REFUSED = 1
UNREACHABLE = 3

_OPTIONS = (
    ("grpc.max_receive_message_length", 64 << 20),
    ("grpc.max_send_message_length", 64 << 20),
    ("grpc.enable_retries", 0),
)
# What gRPC says of a connection that failed or was lost, or of silence.
_LOST = ("failed to connect", "onnection", "ocket closed", "DNS", "GOAWAY", "Deadline Exceeded")
_CODES = {
    grpc.StatusCode.UNAVAILABLE: UNREACHABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED: UNREACHABLE,
}


@dataclass(frozen=True, slots=True)
class Server:
    """Which cores to talk to, the first that is there, and how long to wait for it."""

    addresses: tuple[str, ...]
    timeout_s: float

    @contextmanager
    def channel(self) -> Iterator[grpc.Channel]:
        """A channel; what the core refuses ends the program with its reason."""
        with self.opened() as (address, channel):
            try:
                yield channel
            except grpc.RpcError as error:
                fail_with(address, error)

    @contextmanager
    def opened(self) -> Iterator[tuple[str, grpc.Channel]]:
        """The address of a core and a channel to it, for whoever judges errors by himself."""
        address = self._first()
        with grpc.insecure_channel(address, options=_OPTIONS) as channel:
            yield address, channel

    def turned(self) -> "Server":
        """The same cores, the first of them last."""
        first, *others = self.addresses
        return replace(self, addresses=(*others, first))

    def _first(self) -> str:
        """The first core that accepts connections, else the last."""
        *others, last = self.addresses
        return next((address for address in others if self._is_there(address)), last)

    def _is_there(self, address: str) -> bool:
        with grpc.insecure_channel(address) as channel:
            try:
                grpc.channel_ready_future(channel).result(min(_TRY_S, self.timeout_s))
            except grpc.FutureTimeoutError:
                return False
        return True


def fail_with(address: str, error: grpc.RpcError) -> NoReturn:
    """End with what a core refused, or with that it cannot be reached."""
    code: grpc.StatusCode = error.code()
    details: str = error.details() or code.name
    if code in _CODES:
        # What a core says itself, it says as a sentence: its store is away, for one.
        lost = "cannot reach " if any(sign in details for sign in _LOST) else ""
        details = f"{lost}meshd at {address}: {details.splitlines()[0][:200]}"
    fail(details.splitlines(), _CODES.get(code, REFUSED))


def fail(lines: list[str], code: int = REFUSED) -> NoReturn:
    """End with a complaint: text for people, an object under --json."""
    if wants_json():
        faults = lines if code == REFUSED else []
        click.echo(json.dumps({"error": lines[0], "faults": faults, "exit": code}))
    else:
        head = f"refused: {len(lines)} faults" if len(lines) > 1 else "meshctl"
        for line in lines if len(lines) == 1 else [head, *lines]:
            click.echo(f"meshctl: {line}" if len(lines) == 1 else line, err=True)
    sys.exit(code)


def confirm(question: str, refused: str) -> None:
    """Ask, where there is a terminal; end the program with `refused` unless the answer is yes."""
    if not sys.stdin.isatty():
        fail([f"{refused}: no terminal to ask on; --yes goes on without asking"])
    if not click.confirm(question):
        fail([refused])


def wants_json() -> bool:
    """True if the running command was given --json."""
    context = click.get_current_context(silent=True)
    while context is not None:
        if context.params.get("as_json"):
            return True
        context = context.parent
    return False


def author() -> str:
    """Who runs meshctl, for the audit."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "unknown"
    return f"{user}@{platform.node()}"
