"""meshctl instance: add and remove single instances, and overrule what is held of them."""

import click

from meshd.cli.connect import Server, author
from meshd.cli.output import json_option, print_json
from meshd.core.errors import Invalid
from meshd.core.model import Force, Instance, Override, Record, parse_address
from meshd.core.selector import Version
from meshd.core.topology import Kind, kind_of
from meshd.v1 import topology_pb2 as pb
from meshd.v1 import topology_pb2_grpc
from meshd.wire.messages import record_to_message


@click.group()
def instance() -> None:
    """Add, remove, drain and force instances."""


def _commit(server: Server, edit: pb.Edit, what: str, *, force: bool = False) -> int:
    request = pb.CommitRequest(edits=[edit], author=author(), what=what, force=force)
    with server.channel() as channel:
        stub = topology_pb2_grpc.TopologyStub(channel)
        return int(stub.Commit(request, timeout=server.timeout_s).revision)


def _put(record: Record) -> pb.Edit:
    message = record_to_message(record)
    return pb.Edit(kind=kind_of(record), name=record.name, record=message)


def _done(name: str, what: str, revision: int, as_json: bool) -> None:
    if as_json:
        print_json({"instance": name, "done": what, "revision": revision})
    else:
        click.echo(f"{name}: {what}, revision {revision}")


def _ports(values: tuple[str, ...]) -> tuple[tuple[str, int], ...]:
    found = []
    for value in values:
        name, _, number = value.partition("=")
        if not number.isdigit():
            raise click.BadParameter(f"{value!r} is not NAME=NUMBER", param_hint="--port")
        found.append((name, int(number)))
    return tuple(sorted(found))


@instance.command()
@click.argument("name")
@click.option("--service", required=True)
@click.option("--version", required=True)
@click.option("--pop", required=True)
@click.option("--address", "addresses", multiple=True, required=True, help="May be repeated.")
@click.option("--port", "ports", multiple=True, help="NAME=NUMBER where it differs.")
@click.option("--capacity", default=1.0, show_default=True)
@json_option
@click.pass_obj
def add(  # noqa: PLR0913, PLR0917 - one parameter a flag
    server: Server,
    name: str,
    service: str,
    version: str,
    pop: str,
    addresses: tuple[str, ...],
    ports: tuple[str, ...],
    capacity: float,
    as_json: bool,
) -> None:
    """Add an instance, or change one that is there.

    Example: meshctl instance add a9 --service api --version 1.2.0 --pop eu --address 10.1.0.19
    """
    try:
        made = Instance(
            name,
            service,
            Version(version),
            pop,
            tuple(map(parse_address, addresses)),
            _ports(ports),
            capacity,
        )
    except Invalid as error:
        raise click.UsageError("; ".join(str(fault) for fault in error.faults)) from None
    revision = _commit(server, _put(made), f"instance add {name}")
    _done(name, "added", revision, as_json)


@instance.command()
@click.argument("name")
@click.option("--force", is_flag=True, help="Even the last one of its service.")
@json_option
@click.pass_obj
def remove(server: Server, name: str, force: bool, as_json: bool) -> None:
    """Remove an instance.

    Example: meshctl instance remove api-eu-9
    """
    edit = pb.Edit(kind=Kind.INSTANCES, name=name)
    revision = _commit(server, edit, f"instance remove {name}", force=force)
    _done(name, "removed", revision, as_json)


def _force(server: Server, name: str, force: Force, as_json: bool) -> None:
    edit = _put(Override(name, force))
    _done(name, f"forced {force}", _commit(server, edit, f"instance {force} {name}"), as_json)


@instance.command()
@click.argument("name")
@json_option
@click.pass_obj
def drain(server: Server, name: str, as_json: bool) -> None:
    """Keep an instance out of new answers; those who know it may still use it.

    Example: meshctl instance drain api-eu-1
    """
    _force(server, name, Force.DRAIN, as_json)


@instance.command()
@click.argument("name")
@json_option
@click.pass_obj
def up(server: Server, name: str, as_json: bool) -> None:
    """Hold an instance up, whatever signals say.

    Example: meshctl instance up api-eu-1
    """
    _force(server, name, Force.UP, as_json)


@instance.command()
@click.argument("name")
@json_option
@click.pass_obj
def down(server: Server, name: str, as_json: bool) -> None:
    """Hold an instance down: it is not answered even if all others are down.

    Example: meshctl instance down api-eu-1
    """
    _force(server, name, Force.DOWN, as_json)


@instance.command()
@click.argument("name")
@json_option
@click.pass_obj
def clear(server: Server, name: str, as_json: bool) -> None:
    """Take back what drain, up or down said: signals count again.

    Example: meshctl instance clear api-eu-1
    """
    edit = pb.Edit(kind=Kind.OVERRIDES, name=name)
    _done(name, "not forced any more", _commit(server, edit, f"instance clear {name}"), as_json)
