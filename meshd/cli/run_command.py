"""meshctl instance run: a command as an instance, for as long as it runs.

The command knows nothing of meshd: it is registered once its port accepts connections, and told
to end when no client can be sent to it any more.
"""

import asyncio
import contextlib
import socket
import urllib.request
from asyncio.subprocess import Process
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from signal import SIGINT, SIGTERM
from typing import Any

import click
from pydantic import TypeAdapter, ValidationError

from meshd.cli.connect import Server, fail
from meshd.client import Refused, Registration, Replaced, Standing
from meshd.wire.forms import Seconds

_LOOK_EVERY_S = 0.1
_LOAD_EVERY_S = _LOAD_TIMEOUT_S = 1.0
# What a shell says of a command that is not there, and of one that cannot be run.
_NOT_FOUND, _NOT_RUNNABLE = 127, 126


class _CommandEndedError(Exception):
    """The command ended by itself: its instance is down, and not forgotten."""


@dataclass(frozen=True, slots=True)
class Job:
    """What to run, where it accepts connections, how long to drain, and where its load is."""

    command: Sequence[str]
    ready_at: tuple[str, int]
    drain_s: float
    load_from: str | None


@dataclass
class _Signals:
    """What this process was told: the first signal drains, the second goes on at once."""

    came: list[int] = field(default_factory=list)
    once: asyncio.Event = field(default_factory=asyncio.Event)
    twice: asyncio.Event = field(default_factory=asyncio.Event)

    def note(self, number: int) -> None:
        self.came.append(number)
        (self.twice if self.once.is_set() else self.once).set()


async def run_registered(job: Job, registration: Registration) -> int:
    """Run a command to its end, registered; its exit code as a shell tells it. Refused, OSError."""
    signals = _Signals()
    for number in (SIGTERM, SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, signals.note, number)
    # A session of its own: Ctrl-C reaches it after the drain, as any other signal does.
    child = await asyncio.create_subprocess_exec(*job.command, start_new_session=True)
    try:
        with contextlib.suppress(_CommandEndedError):
            await _serve(child, job, registration, signals)
    finally:
        code = await _end(child, signals)
    return code if code >= 0 else 128 - code


async def _serve(child: Process, job: Job, registration: Registration, signals: _Signals) -> None:
    """Be registered until the command is to end, or has ended."""
    await _first(_accepts(*job.ready_at), child.wait(), signals.once.wait())
    if child.returncode is not None or signals.came:
        return
    async with registration:
        _say(repr(registration))
        work = [_replaced(registration)]
        if job.load_from:
            work.append(_follow_load(job.load_from, registration))
        await _first(child.wait(), signals.once.wait(), _all(work))
        if child.returncode is None:
            _say(f"draining for at most {job.drain_s:g} s; again to end now")
            await _first(_drained(registration, job.drain_s), child.wait(), signals.twice.wait())
        if child.returncode is not None:
            raise _CommandEndedError
        await _end(child, signals)


async def _end(child: Process, signals: _Signals) -> int:
    """Pass on what this process was told, each further time too, until the command has ended."""
    while child.returncode is None:
        child.send_signal(signals.came[-1] if signals.came else SIGTERM)
        signals.twice.clear()
        await _first(child.wait(), signals.twice.wait())
    return child.returncode


async def _first(*work: Coroutine[Any, Any, Any]) -> None:
    """Do several things until the first of them is done; its error is raised."""
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def _all(work: Sequence[Coroutine[Any, Any, None]]) -> None:
    async with asyncio.TaskGroup() as tasks:
        for each in work:
            tasks.create_task(each)


async def _accepts(host: str, port: int) -> None:
    """Wait until something accepts connections."""
    while True:
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection(host, port)
            writer.close()
            return
        await asyncio.sleep(_LOOK_EVERY_S)


async def _replaced(registration: Registration) -> None:
    """Say so if another process takes the name over; the command goes on."""
    await registration.reached(Standing.REPLACED)
    _say(repr(registration))
    await asyncio.Event().wait()


async def _drained(registration: Registration, timeout_s: float) -> None:
    with contextlib.suppress(Replaced):
        if registration.state is not Standing.REFUSED:
            await registration.drain(timeout_s)


async def _follow_load(url: str, registration: Registration) -> None:
    """Take the load from a URL, for ever; none while it cannot be had."""
    while True:
        registration.load = await asyncio.to_thread(_load, url)
        await asyncio.sleep(_LOAD_EVERY_S)


def _load(url: str) -> float | None:
    try:
        with urllib.request.urlopen(url, timeout=_LOAD_TIMEOUT_S) as reply:
            return float(reply.read(64))
    except (OSError, ValueError):
        return None


def _say(text: str) -> None:
    click.echo(f"meshctl: {text}", err=True)


def _own_address(cores: Sequence[str]) -> str:
    """The address under which this machine reaches the first core whose name is known."""
    if any(core.startswith("unix:") for core in cores):
        return "127.0.0.1"
    for core in cores:
        host, _, port = core.rpartition(":")
        with contextlib.suppress(OSError, ValueError):
            found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_DGRAM)
            family, kind, proto, _, address = found[0]
            with socket.socket(family, kind, proto) as probe:
                probe.connect(address)
                return str(probe.getsockname()[0])
    raise click.UsageError(f"none of {', '.join(cores)} is known here: say --address")


class _Duration(click.ParamType[float]):
    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        try:
            return TypeAdapter(Seconds).validate_python(value)
        except ValidationError:
            self.fail(f"{value!r} is not a duration (as in 2s, 500ms, 1m)", param, ctx)


def _ports(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[str, int]:
    found = {}
    for value in values:
        name, _, number = value.partition("=")
        if not number.isdigit():
            raise click.BadParameter(f"{value!r} is not NAME=NUMBER", ctx, param)
        found[name] = int(number)
    return found


@click.command()
@click.argument("name")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option("--service", required=True)
@click.option("--version", required=True)
@click.option("--pop", default="", help="By the ranges if not given.")
@click.option("--address", "addresses", multiple=True, help="By the way to the core if not given.")
@click.option("--port", "ports", multiple=True, callback=_ports, help="NAME=NUMBER; repeatable.")
@click.option("--ready-port", type=click.IntRange(1, 65535), help="Else the first --port.")
@click.option("--capacity", default=1.0, show_default=True, help="Relative to the others.")
@click.option("--tag", "tags", multiple=True, help="May be repeated.")
@click.option("--lease", type=_Duration(), default="3s", show_default=True)
@click.option("--drain-timeout", type=_Duration(), default="60s", show_default=True)
@click.option("--load-from", metavar="URL", help="GET gives the load, 0..1.")
@click.pass_obj
def run(  # noqa: PLR0913, PLR0917 - one parameter a flag
    server: Server,
    name: str,
    command: tuple[str, ...],
    service: str,
    version: str,
    pop: str,
    addresses: tuple[str, ...],
    ports: dict[str, int],
    ready_port: int | None,
    capacity: float,
    tags: tuple[str, ...],
    lease: float,
    drain_timeout: float,
    load_from: str | None,
) -> None:
    """Run COMMAND as an instance: registered while it runs, drained before it is ended.

    It is registered once its port accepts connections. SIGTERM and Ctrl-C drain it first and
    are then passed on; the second time they are passed on at once. Ends as COMMAND does.

    Example: meshctl instance run a9 --service api --version 1.2.0 --port http=8080 -- ./api
    """
    ready = ready_port or next(iter(ports.values()), None)
    if ready is None:
        raise click.UsageError("--port NAME=NUMBER or --ready-port: else who knows it is ready?")
    if load_from and not load_from.startswith(("http://", "https://")):
        raise click.BadParameter("must begin with http:// or https://", param_hint="--load-from")
    found = addresses or (_own_address(server.addresses),)
    registration = Registration(
        server.addresses,
        name=name,
        service=service,
        version=version,
        pop=pop,
        addresses=found,
        ports=ports,
        capacity=capacity,
        tags=tags,
        lease_s=lease,
    )
    job = Job(command, (found[0], ready), drain_timeout, load_from)
    try:
        code = asyncio.run(run_registered(job, registration))
    except Refused as error:
        fail(list(error.faults))
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        fail([f"cannot run {error}"], _NOT_FOUND if missing else _NOT_RUNNABLE)
    raise SystemExit(code)
