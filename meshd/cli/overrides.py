"""Committing overrides and seeing what comes of them, for the commands of `meshctl instance`."""

from collections.abc import Sequence

import click
import grpc
from pydantic import TypeAdapter, ValidationError

from meshd.cli.connect import Server, author
from meshd.core.errors import Invalid
from meshd.core.model import Force, Override
from meshd.core.topology import Kind
from meshd.v1 import resolver_pb2, resolver_pb2_grpc, topology_pb2_grpc
from meshd.v1 import topology_pb2 as pb
from meshd.wire.forms import Seconds
from meshd.wire.messages import record_to_message


def duration(context: click.Context, parameter: click.Parameter, value: str | None) -> float | None:
    """Seconds of what is written as 500ms, 30s, 10m or 2h; a callback of options."""
    if value is None:
        return None
    try:
        return float(TypeAdapter(Seconds).validate_python(value))
    except ValidationError as error:
        said = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise click.BadParameter(said, context, parameter) from None


for_option = click.option(
    "--for", "for_s", default="0s", callback=duration, metavar="DURATION",
    help="It goes away by itself after so long, at most 24h  [it stays]",
)  # fmt: skip
force_option = click.option("--force", "is_forced", is_flag=True, help="Even if it is unsafe.")


def commit(server: Server, edit: pb.Edit, what: str, *, force: bool = False) -> int:
    """Commit one edit; returns the revision."""
    request = pb.CommitRequest(edits=[edit], author=author(), what=what, force=force)
    with server.channel() as channel:
        stub = topology_pb2_grpc.TopologyStub(channel)
        return int(stub.Commit(request, timeout=server.timeout_s).revision)


def override(server: Server, edit: tuple[str, Force], what: str, for_s: float, force: bool) -> int:
    """Put an override on a name or pattern."""
    try:
        made = Override(*edit)
    except Invalid as error:
        raise click.UsageError(str(error)) from None
    message = record_to_message(made)
    put = pb.Edit(kind=Kind.OVERRIDES, name=made.name, record=message, expires_s=for_s)
    return commit(server, put, what, force=force)


def standing(
    server: Server, name: str, *, may_be_none: bool = False
) -> Sequence[resolver_pb2.SafeToStop]:
    """How the instances of a name or pattern stand; that there are none ends the program."""
    request = resolver_pb2.SafeToStopRequest(instance=name)
    with server.channel() as channel:
        stub = resolver_pb2_grpc.ResolverStub(channel)
        try:
            # A core that starts again is waited for.
            reply = stub.SafeToStop(request, timeout=server.timeout_s, wait_for_ready=True)
        except grpc.RpcError as error:
            if may_be_none and error.code() is grpc.StatusCode.NOT_FOUND:
                return ()
            raise
    return tuple(reply.instances)
