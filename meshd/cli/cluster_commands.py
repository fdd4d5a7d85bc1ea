"""meshctl nodes and accept-store: the cores that share a store, and what they wait for."""

import contextlib
import json
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import click
from rich.live import Live

from meshd.cli.connect import Server, author, confirm
from meshd.cli.output import as_dict, console, json_option, make_table, print_json, print_table
from meshd.v1 import cluster_pb2 as pb
from meshd.v1 import cluster_pb2_grpc

_EVERY_S = 1.0
# Other cores follow the one that was told within this, unless they wait for a word of their own.
_SETTLE_S = 3.0
_COLUMNS = (
    "node", "address", "meshd", ">revision", ">lag", ">store age", ">heard", ">instances",
    ">probed", ">decides", "answerers", "alarm",
)  # fmt: skip


def _nodes(server: Server) -> pb.NodesResponse:
    with server.channel() as channel:
        stub = cluster_pb2_grpc.ClusterStub(channel)
        found: pb.NodesResponse = stub.Nodes(pb.NodesRequest(), timeout=server.timeout_s)
    return found


@click.command()
@click.option("--watch", "is_watched", is_flag=True, help="Each second, until Ctrl-C.")
@json_option
@click.pass_obj
def nodes(server: Server, is_watched: bool, as_json: bool) -> None:
    """Show the cores that share the store, as the one that is asked sees them.

    `lag` is how many revisions a core is behind the newest of them, `store age` since when it
    has not reached the store, `heard` since when the core that was asked (*) has not heard of
    it, `decides` how many services it decides the signals of, `answerers` who follows it, and
    @ the revision that they answer from. `alarm` waits for an operator.

    Example: meshctl nodes
    """
    with contextlib.suppress(KeyboardInterrupt):
        replies = _again(server) if is_watched else iter([_nodes(server)])
        if as_json:
            for reply in replies:
                text = _as_dict(reply)
                click.echo(json.dumps(text)) if is_watched else print_json(text)
        elif is_watched and sys.stdout.isatty():
            with Live(console=console(), auto_refresh=False) as live:
                for reply in replies:
                    table = make_table(_COLUMNS, _rows(reply), _caption(reply))
                    live.update(table, refresh=True)
        else:
            for reply in replies:
                print_table(_COLUMNS, _rows(reply))
                click.echo(_caption(reply))


def _again(server: Server) -> Iterator[pb.NodesResponse]:
    while True:
        yield _nodes(server)
        time.sleep(_EVERY_S)


def _newest(reply: pb.NodesResponse) -> int:
    return max((each.state.revision for each in reply.nodes), default=0)


def _caption(reply: pb.NodesResponse) -> str:
    count = len(reply.nodes)
    return (
        f"{count} core{'' if count == 1 else 's'}, store {reply.store} {reply.store_id or '-'}, "
        f"newest revision {_newest(reply)}"
    )


def _as_dict(reply: pb.NodesResponse) -> dict[str, Any]:
    """The reply, and how far behind each one is."""
    found, newest = as_dict(reply), _newest(reply)
    for said, each in zip(found["nodes"], reply.nodes, strict=True):
        said["lag"] = newest - each.state.revision if each.HasField("state") else None
    return found


def _rows(reply: pb.NodesResponse) -> Iterator[Sequence[str]]:
    newest = _newest(reply)
    for each in sorted(reply.nodes, key=lambda status: status.node.name):
        yield _row(each, newest)


def _row(each: pb.NodeStatus, newest: int) -> Sequence[str]:
    node, state = each.node, each.state
    name = f"{node.name} *" if each.is_asked else node.name
    if not each.HasField("state"):
        return (name, node.address, node.version, *["-"] * 3, "never", *["-"] * 5)
    age = f"{state.store_age_s:.1f} s" if state.HasField("store_age_s") else "never"
    heard = f"{each.heard_age_s:.1f} s" if each.HasField("heard_age_s") else "-"
    return (
        name,
        node.address,
        node.version,
        str(state.revision),
        str(newest - state.revision),
        age,
        heard,
        str(state.instances),
        str(state.probed),
        str(state.services),
        " ".join(_answerer(state, name) for name in state.answerers) or "-",
        state.alarm or "-",
    )


def _answerer(state: pb.NodeState, name: str) -> str:
    """NAME@REVISION, where it told the revision that it answers from."""
    return f"{name}@{state.confirmed[name]}" if name in state.confirmed else name


@click.command()
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@click.pass_obj
def accept_store(server: Server, yes: bool, as_json: bool) -> None:
    """Take the store as it is, after it was wiped or an older backup of it was restored.

    Until then cores answer from what they hold and refuse writes. What they hold and the store
    does not is lost: save it first with `meshctl snapshot save`.

    Example: meshctl accept-store
    """
    alarms = _alarms(_nodes(server))
    if not as_json:
        for name, alarm in alarms.items():
            click.echo(f"{name}: {alarm}")
    if not yes:
        confirm("take the store as it is?", "nothing was accepted")
    request = pb.AcceptStoreRequest(author=author())
    with server.channel() as channel:
        stub = cluster_pb2_grpc.ClusterStub(channel)
        done = stub.AcceptStore(request, timeout=server.timeout_s)
    waiting = _still_waiting(server)
    if as_json:
        print_json(as_dict(done) | {"waiting": sorted(waiting)})
        return
    click.echo(f"accepted: store {done.store_id} at revision {done.revision}")
    if waiting:
        click.echo(
            f"still waiting: {', '.join(sorted(waiting))}; they take the store when it has "
            "services: restore or apply them through the core that accepted it"
        )


def _alarms(reply: pb.NodesResponse) -> dict[str, str]:
    """What waits for an operator, by core and where that is."""
    return {
        f"{each.node.name} ({each.node.address})": each.state.alarm
        for each in reply.nodes
        if each.state.alarm
    }


def _still_waiting(server: Server) -> dict[str, str]:
    """The alarms that stay although one core was told."""
    end = time.monotonic() + _SETTLE_S
    while (found := _alarms(_nodes(server))) and time.monotonic() < end:
        time.sleep(0.2)
    return found
