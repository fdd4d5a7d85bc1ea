"""meshctl watch: changes as they come, one line each."""

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import click

from meshd.cli.connect import Server
from meshd.cli.output import json_option
from meshd.cli.topology_commands import fetch
from meshd.cli.waiting import WATCH
from meshd.core.topology import Kind
from meshd.v1 import topology_pb2 as pb
from meshd.v1 import topology_pb2_grpc
from meshd.wire.document import describe
from meshd.wire.messages import record_from_message


@click.command()
@click.option("--once", "count", type=int, help="End after so many lines.")
@json_option
@click.pass_obj
def watch(server: Server, count: int | None, as_json: bool) -> None:
    """Print changes of the topology and of loads as they come, until Ctrl-C.

    Example: meshctl watch
    """
    lines = _lines(server)
    with contextlib.suppress(KeyboardInterrupt):
        for number, line in enumerate(lines, start=1):
            click.echo(json.dumps(line) if as_json else _text(line))
            if number == count:
                break


def _lines(server: Server) -> Iterator[dict[str, Any]]:
    revision, _ = fetch(server, [Kind.ZONES])
    with server.channel() as channel:
        stub = topology_pb2_grpc.TopologyStub(channel)
        is_new = False
        for event in stub.Follow(pb.FollowRequest(node=WATCH)):
            which = event.WhichOneof("event")
            # What was before is told as a snapshot, and is no change.
            is_new = is_new or which == "end"
            if which == "end":
                click.echo(f"watching from revision {revision}", err=True)
            if is_new and which == "changes":
                yield from _changes(event.changes)


def _changes(changes: pb.Changes) -> Iterator[dict[str, Any]]:
    for edit in changes.edits:
        says = describe(record_from_message(edit.record)) if edit.HasField("record") else None
        yield {
            "revision": changes.revision,
            "kind": edit.kind,
            "name": edit.name,
            "action": "put" if says is not None else "delete",
            "says": says,
        }
    for change in changes.signals:
        known = change.HasField("signal")
        yield {
            "revision": changes.revision,
            "kind": "signals",
            "name": change.instance,
            "action": "put" if known else "delete",
            "says": f"load {change.signal.load:.0%}, {change.signal.verdict}" if known else None,
        }


def _text(line: dict[str, Any]) -> str:
    says = "gone" if line["says"] is None else line["says"]
    return f"{line['revision']:>8}  {line['kind']}/{line['name']}  {says}"
