"""meshctl experiment: named arms of clients, for as long as the experiment is there."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

import click

from meshd.cli.connect import Server, author, fail
from meshd.cli.output import as_dict, json_option, print_json, print_table
from meshd.cli.rollout_text import when
from meshd.cli.topology_commands import fetch
from meshd.core.errors import Fault, Invalid
from meshd.core.release import Experiment, ExperimentArm, Scope
from meshd.core.selector import parse_selector
from meshd.core.topology import Kind
from meshd.v1 import topology_pb2 as pb
from meshd.v1 import topology_pb2_grpc
from meshd.wire.messages import record_to_message
from meshd.wire.release_messages import experiment_from_message, experiment_to_message

_COLUMNS = ("name", "service", "order", "arms", "clients", "began", "by")


@click.group()
def experiment() -> None:
    """Give clients different versions, each always the same one, to compare them."""


def _held(server: Server) -> tuple[int, Sequence[Experiment]]:
    """The revision, and the experiments that there are, in the order that clients meet them."""
    revision, pages = fetch(server, [Kind.EXPERIMENTS])
    records = [record.experiment for page in pages for record in page.records]
    made = map(experiment_from_message, records)
    return revision, sorted(made, key=lambda each: (each.service, each.order, each.name))


def _arm(text: str) -> ExperimentArm:
    """NAME=SELECTOR:PERCENT; Invalid."""
    name, _, rest = text.partition("=")
    what, colon, percent = rest.rpartition(":")
    try:
        share = float(percent.removesuffix("%"))
    except ValueError:
        share = -1.0
    if not (name and what and colon) or share < 0:
        raise Invalid(f"{text!r} is no arm (as in b=1.3:50)")
    return ExperimentArm(name, parse_selector(what), share)


def _arms(texts: Sequence[str]) -> Iterator[ExperimentArm | Fault]:
    for text in texts:
        try:
            yield _arm(text)
        except Invalid as error:
            yield from (Fault(f"--arm {text}", str(fault)) for fault in error.faults)


def _made(name: str, service: str, arms: Sequence[str], scope: Scope) -> Experiment:
    """The experiment that flags stand for; UsageError lists all that is wrong in them."""
    read = list(_arms(arms))
    faults = [each for each in read if isinstance(each, Fault)]
    good = tuple(each for each in read if isinstance(each, ExperimentArm))
    try:
        made = Experiment(name, service, good, scope)
    except Invalid as error:
        # Arms that are missing are told of already.
        faults += [fault for fault in error.faults if good or not arms or fault.where != "arms"]
        raise click.UsageError("; ".join(map(str, faults))) from None
    if faults:
        raise click.UsageError("; ".join(map(str, faults)))
    return replace(made, author=author(), began_unix_s=time.time())


@experiment.command()
@click.argument("name")
@click.option("--service", required=True)
@click.option(
    "--arm", "arms", multiple=True, required=True, metavar="NAME=VERSION:PERCENT",
    help="May be repeated; who is in none is not in the experiment.",
)  # fmt: skip
@click.option("--pop", "pops", multiple=True, help="Only its clients; may be repeated.")
@click.option("--range", "ranges", multiple=True, metavar="PREFIX", help="As --pop.")
@json_option
@click.pass_obj
def start(  # noqa: PLR0913, PLR0917 - one parameter a flag
    server: Server,
    name: str,
    service: str,
    arms: tuple[str, ...],
    pops: tuple[str, ...],
    ranges: tuple[str, ...],
    as_json: bool,
) -> None:
    """Begin an experiment: each client is in one arm of it, and stays there.

    Clients that are in another experiment of the service already stay in that one.

    Example: meshctl experiment start cart --service api --arm a=1.2:50 --arm b=1.3:50 --pop eu
    """
    scope = Scope(tuple(sorted(set(pops))), tuple(sorted(set(ranges))))
    made = _made(name, service, arms, scope)
    revision, held = _held(server)
    there = next((each for each in held if each.name == name), None)
    if there is not None:
        if (there.service, there.arms, there.scope) != (service, made.arms, scope):
            fail([f"{name} is there already, and differs: {_says(there)}; stop it first"])
        _done(there, revision, "was begun before", as_json)
        return
    orders = [each.order for each in held if each.service == service]
    made = replace(made, order=max(orders, default=0) + 1)
    put = pb.Edit(kind=Kind.EXPERIMENTS, name=name, record=record_to_message(made))
    # As of what was looked at: of two that begin at once each must have an order of its own.
    written = _commit(server, put, f"experiment start {name}", revision)
    _done(made, written, "begun", as_json)


def _commit(server: Server, edit: pb.Edit, what: str, revision: int) -> int:
    request = pb.CommitRequest(edits=[edit], author=author(), what=what, revision=revision)
    with server.channel() as channel:
        stub = topology_pb2_grpc.TopologyStub(channel)
        return int(stub.Commit(request, timeout=server.timeout_s).revision)


def _done(made: Experiment, revision: int, what: str, as_json: bool) -> None:
    if as_json:
        message = as_dict(experiment_to_message(made))
        print_json({"done": what, "revision": revision, "experiment": message})
    else:
        click.echo(f"{made.name}: {what}, revision {revision}; {_says(made)}")


def _says(made: Experiment) -> str:
    arms = ", ".join(f"{arm.name} {arm.percent:g} % {arm.selector}" for arm in made.arms)
    return f"{made.service}: {arms} of {made.scope}"


@experiment.command()
@click.argument("name")
@json_option
@click.pass_obj
def stop(server: Server, name: str, as_json: bool) -> None:
    """End an experiment: its clients get what they would get without it.

    Example: meshctl experiment stop cart
    """
    made = _named(server, name)
    edit = pb.Edit(kind=Kind.EXPERIMENTS, name=name)
    _done(made, _commit(server, edit, f"experiment stop {name}", 0), "ended", as_json)


def _named(server: Server, name: str) -> Experiment:
    (page,) = fetch(server, [Kind.EXPERIMENTS], name)[1]
    return experiment_from_message(page.records[0].experiment)


@experiment.command("list")
@click.option("--service", default="", help="Only of this one.")
@json_option
@click.pass_obj
def list_(server: Server, service: str, as_json: bool) -> None:
    """List the experiments; of one service in the order in which they take clients.

    Example: meshctl experiment list
    """
    revision, held = _held(server)
    found = [each for each in held if service in ("", each.service)]
    if as_json:
        listed = [as_dict(experiment_to_message(each)) for each in found]
        print_json({"revision": revision, "experiments": listed})
        return
    print_table(_COLUMNS, map(_row, found))


def _row(made: Experiment) -> Sequence[object]:
    arms = ", ".join(f"{arm.name}: {arm.percent:g} % {arm.selector}" for arm in made.arms)
    began = when(made.began_unix_s)
    return made.name, made.service, made.order, arms, made.scope, began, made.author or "-"


@experiment.command()
@click.argument("name")
@json_option
@click.pass_obj
def status(server: Server, name: str, as_json: bool) -> None:
    """Show an experiment. What came of it is in `meshd_experiment_outcomes_total` of /metrics.

    Example: meshctl experiment status cart
    """
    made = _named(server, name)
    if as_json:
        print_json(as_dict(experiment_to_message(made)))
        return
    click.echo(f"{made.name}: {made.service}, {made.scope}, order {made.order}")
    rest = 100 - sum(arm.percent for arm in made.arms)
    for arm in made.arms:
        click.echo(f"  {arm.name}: {arm.percent:g} % get {arm.selector}")
    if rest > 0:
        click.echo(f"  {rest:g} % are not in it")
    click.echo(f"  begun {when(made.began_unix_s)} by {made.author or '-'}")
