"""meshctl rollout: begin a rollout, see how it goes, and move it by hand."""

from collections.abc import Sequence
from typing import Any

import click
import grpc

from meshd.cli.connect import Server, author
from meshd.cli.etcd_options import with_options
from meshd.cli.output import as_dict, console, json_option, print_json, print_table
from meshd.cli.overrides import duration
from meshd.cli.rollout_text import COLUMNS, line, preview, row, told, whole
from meshd.cli.rollout_watch import Watching, end_with
from meshd.cli.topology_commands import fetch
from meshd.core.errors import Invalid
from meshd.core.release import Course
from meshd.core.topology import Kind
from meshd.v1 import records_pb2, rollout_pb2_grpc
from meshd.v1 import rollout_pb2 as pb
from meshd.wire.release_messages import course_from_message, rollout_from_message
from meshd.wire.start_form import read_start


@click.group()
def rollout() -> None:
    """Move a version to the clients of a service step by step, or back."""


_which = click.argument("name", metavar="SERVICE_OR_ID")
_wait_options = with_options(
    click.option(
        "--timeout", "timeout_s", default="2h", show_default=True, callback=duration,
        metavar="DURATION", help="How long to wait; the rollout goes on without.",
    ),
)  # fmt: skip
_course_options = with_options(
    click.argument("service"),
    click.option("--to", "version", required=True, metavar="VERSION"),
    click.option("--steps", metavar="P,P,...", help="In percent: 1,5,25,50,100  [the service's]"),
    click.option("--every", metavar="DURATION", help="For each step  [the service's]"),
    click.option(
        "--gate", "gates", multiple=True, metavar="GATE",
        help="success>=99.5%, p99<=1.2x, p95<=300ms, probes>=90%; may be repeated.",
    ),
    click.option("--no-gates", is_flag=True, help="Time alone decides."),
    click.option("--min-outcomes", type=int, help="Of the new version, for a gate to be judged."),
    click.option("--min-reporters", type=int, help="On distinct hosts."),
    click.option(
        "--on-gate-missing", type=click.Choice(["wait", "fail"]),
        help="When the time of a step is over and a gate cannot be judged.",
    ),
    click.option("--pop", "pops", multiple=True, help="Only its clients; may be repeated."),
    click.option("--range", "ranges", multiple=True, metavar="PREFIX", help="As --pop."),
)  # fmt: skip


def _request(server: Server, flags: dict[str, Any]) -> pb.StartRequest:
    """The request that flags stand for; UsageError lists all that is wrong in them."""
    no_gates, gates = flags.pop("no_gates"), flags.pop("gates")
    if no_gates and gates:
        raise click.UsageError("--gate and --no-gates exclude each other")
    given = {name: value for name, value in flags.items() if value is not None}
    given |= {"pops": list(flags["pops"]), "ranges": list(flags["ranges"]), "author": author()}
    given |= {"gates": list(gates)} if gates or no_gates else {}
    try:
        form = read_start(given)
    except Invalid as error:
        raise click.UsageError("; ".join(map(str, error.faults))) from None
    return form.request(_usual(server, form.service) if form.wants_usual else None)


def _usual(server: Server, service: str) -> Course:
    """The course that a service has."""
    (page,) = fetch(server, [Kind.SERVICES], service)[1]
    return course_from_message(page.records[0].service.course, Course())


@rollout.command()
@_course_options
@click.option("--id", help="Its name; who starts it again finds the same  [made up]")
@click.option("--wait", "is_waited", is_flag=True, help="Until it is done, or rolled back.")
@_wait_options
@json_option
@click.pass_obj
def start(
    server: Server, /, is_waited: bool, timeout_s: float, as_json: bool, **flags: Any
) -> None:
    """Begin to move a version to the clients of a service.

    With --wait there is a line for each event (with --json an object), whichever core is there;
    exit codes: 0 done, 1 refused, rolled back or timed out, 3 no core could be reached.

    Example: meshctl rollout start api --to 1.3.0 --steps 1,5,25,50,100 --every 5m --gate
    'success>=99.5%' --gate 'p99<=1.2x' --id "$BUILD" --wait
    """
    request = _request(server, flags)
    with server.channel() as channel:
        done = rollout_pb2_grpc.RolloutsStub(channel).Start(request, timeout=server.timeout_s)
    if not is_waited:
        _say_started(done, as_json)
        return
    watching = Watching(server, done.rollout.name, timeout_s, as_json)
    watching.take(done.rollout, done.revision, "started" if done.is_new else "found")
    end_with(watching)


def _say_started(done: pb.StartResponse, as_json: bool) -> None:
    if as_json:
        print_json({
            "is_new": done.is_new, "revision": done.revision, "rollout": told(done.rollout),
        })  # fmt: skip
        return
    made = rollout_from_message(done.rollout)
    what = f"begun, revision {done.revision}" if done.is_new else "was begun before"
    click.echo(f"{made.name}: {what}; {line(str(made.phase), made)}")


@rollout.command()
@_course_options
@json_option
@click.pass_obj
def plan(server: Server, /, as_json: bool, **flags: Any) -> None:
    """Show whom each step of a rollout would move, compared with now; writes nothing.

    Example: meshctl rollout plan api --to 1.3.0 --steps 1,10,100
    """
    request = _request(server, flags)
    with server.channel() as channel:
        found = rollout_pb2_grpc.RolloutsStub(channel).Preview(request, timeout=server.timeout_s)
    if as_json:
        print_json(as_dict(found))
        return
    made = rollout_from_message(found.rollout)
    click.echo(f"{made.service} to {made.to}, {made.scope}; nothing was written")
    console().print(preview(found))
    for note in found.notes:
        click.echo(f"note: {note}")


def _list(server: Server, service: str = "") -> Sequence[records_pb2.Rollout]:
    """Rollouts of a service, or of all, newest first."""
    with server.channel() as channel:
        stub = rollout_pb2_grpc.RolloutsStub(channel)
        try:
            found = stub.List(pb.ListRequest(service=service), timeout=server.timeout_s)
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                return ()
            raise
    return tuple(found.rollouts)


def _find(server: Server, name: str) -> records_pb2.Rollout:
    """The newest rollout of a service, else the one of that id; NOT_FOUND ends the program."""
    found = _list(server, name)
    if found:
        return found[0]
    (page,) = fetch(server, [Kind.ROLLOUTS], name)[1]
    return page.records[0].rollout


@rollout.command()
@_which
@json_option
@click.pass_obj
def status(server: Server, name: str, as_json: bool) -> None:
    """Show how a rollout goes: its step, what its gates saw, and why it stands as it does.

    Example: meshctl rollout status api
    """
    found = _find(server, name)
    if as_json:
        print_json(told(found))
        return
    for text in whole(rollout_from_message(found)):
        click.echo(text)


@rollout.command("list")
@click.option("--all", "is_all", is_flag=True, help="Those that are over, too.")
@json_option
@click.pass_obj
def list_(server: Server, is_all: bool, as_json: bool) -> None:
    """List the rollouts that are not over.

    Example: meshctl rollout list
    """
    found = [
        each for each in _list(server) if is_all or not rollout_from_message(each).phase.is_over
    ]
    _print(found, as_json)


@rollout.command()
@click.argument("service")
@json_option
@click.pass_obj
def history(server: Server, service: str, as_json: bool) -> None:
    """List the rollouts of a service, newest first, and how each of them ended.

    Example: meshctl rollout history api
    """
    fetch(server, [Kind.SERVICES], service)
    _print(_list(server, service), as_json)


def _print(found: Sequence[records_pb2.Rollout], as_json: bool) -> None:
    if as_json:
        print_json({"rollouts": [told(each) for each in found]})
    else:
        print_table(COLUMNS, [row(rollout_from_message(each)) for each in found])


@rollout.command()
@_which
@_wait_options
@json_option
@click.pass_obj
def watch(server: Server, name: str, timeout_s: float, as_json: bool) -> None:
    """Wait for a rollout to end, with a line for each event; ends as `start --wait` does.

    Example: meshctl rollout watch api --timeout 1h
    """
    end_with(Watching(server, _find(server, name).name, timeout_s, as_json))


def _move(server: Server, name: str, action: str, reason: str, as_json: bool) -> None:
    found = _find(server, name)
    request = pb.MoveRequest(id=found.name, action=action, reason=reason, author=author())
    with server.channel() as channel:
        done = rollout_pb2_grpc.RolloutsStub(channel).Move(request, timeout=server.timeout_s)
    if as_json:
        print_json({"revision": done.revision, "rollout": told(done.rollout)})
        return
    made = rollout_from_message(done.rollout)
    click.echo(f"{made.name}: {line(str(made.phase), made)}, revision {done.revision}")


_reason = click.option("--reason", default="", help="Why, for those who look later.")


@rollout.command()
@_which
@_reason
@json_option
@click.pass_obj
def pause(server: Server, name: str, reason: str, as_json: bool) -> None:
    """Hold a rollout where it is: its share stays, and its time stands still.

    Example: meshctl rollout pause api --reason "who wrote this log line?"
    """
    _move(server, name, "pause", reason, as_json)


@rollout.command()
@_which
@_reason
@json_option
@click.pass_obj
def resume(server: Server, name: str, reason: str, as_json: bool) -> None:
    """Let a rollout go on that was paused.

    Example: meshctl rollout resume api
    """
    _move(server, name, "resume", reason, as_json)


@rollout.command()
@_which
@click.option("--to-end", is_flag=True, help="To all clients in scope, and done.")
@_reason
@json_option
@click.pass_obj
def promote(server: Server, name: str, to_end: bool, reason: str, as_json: bool) -> None:
    """Take a rollout to its next step now, whatever its time and gates say; a held one begins.

    Example: meshctl rollout promote api --to-end
    """
    _move(server, name, "finish" if to_end else "promote", reason, as_json)


@rollout.command()
@_which
@_reason
@json_option
@click.pass_obj
def rollback(server: Server, name: str, reason: str, as_json: bool) -> None:
    """Take a version back: nobody gets it any more unless by name.

    Example: meshctl rollout rollback api --reason "orders fail"
    """
    _move(server, name, "rollback", reason, as_json)
