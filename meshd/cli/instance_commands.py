"""meshctl instance: add and remove single instances, and overrule what is held of them."""

import click

from meshd.cli.connect import Server
from meshd.cli.drain_command import drain
from meshd.cli.output import json_option, print_json
from meshd.cli.overrides import commit, for_option, force_option, override, standing
from meshd.cli.run_command import run
from meshd.core.errors import Invalid
from meshd.core.model import Force, Instance, parse_address
from meshd.core.selector import Version
from meshd.core.topology import Kind
from meshd.v1 import topology_pb2 as pb
from meshd.wire.messages import record_to_message


@click.group()
def instance() -> None:
    """Run, add, remove, drain and force instances."""


instance.add_command(run)
instance.add_command(drain)


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
    edit = pb.Edit(kind=Kind.INSTANCES, name=name, record=record_to_message(made))
    revision = commit(server, edit, f"instance add {name}")
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
    revision = commit(server, edit, f"instance remove {name}", force=force)
    _done(name, "removed", revision, as_json)


def _force(server: Server, edit: tuple[str, Force], for_s: float, force: bool) -> tuple[str, int]:
    """Put an override: what was done, and the revision."""
    name, said = edit
    revision = override(server, edit, f"instance {said} {name}", for_s, force)
    until = f" for {for_s:g} s" if for_s else ""
    # A pattern may have been forced on nobody, for those to come.
    is_pattern = any(sign in name for sign in "*?[")
    covered = f" ({_counted(server, name)})" if is_pattern else ""
    return f"forced {said}{until}{covered}", revision


def _counted(server: Server, pattern: str) -> str:
    count = len(standing(server, pattern, may_be_none=True))
    return f"{count} instance{'' if count == 1 else 's'} now"


_name = click.argument("name", metavar="NAME_OR_PATTERN")


@instance.command()
@_name
@for_option
@force_option
@json_option
@click.pass_obj
def up(server: Server, name: str, for_s: float, is_forced: bool, as_json: bool) -> None:
    """Hold instances up, whatever signals say.

    Example: meshctl instance up 'api-eu-*' --for 10m
    """
    _done(name, *_force(server, (name, Force.UP), for_s, is_forced), as_json)


@instance.command()
@_name
@for_option
@force_option
@json_option
@click.pass_obj
def down(server: Server, name: str, for_s: float, is_forced: bool, as_json: bool) -> None:
    """Hold instances down: they are not answered even if all others are down.

    Example: meshctl instance down api-eu-1 --for 10m
    """
    _done(name, *_force(server, (name, Force.DOWN), for_s, is_forced), as_json)


@instance.command()
@_name
@json_option
@click.pass_obj
def clear(server: Server, name: str, as_json: bool) -> None:
    """Take back what drain, up or down said of this name or pattern: signals count again.

    Example: meshctl instance clear 'api-eu-*'
    """
    edit = pb.Edit(kind=Kind.OVERRIDES, name=name)
    _done(name, "not forced any more", commit(server, edit, f"instance clear {name}"), as_json)
