"""meshctl apply, plan, get, export, history: the topology as people see it."""

import datetime
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

import click
import yaml
from google.protobuf.message import Message

from meshd.cli.connect import Server, author, confirm, fail
from meshd.cli.output import as_dict, console, json_option, print_json, print_table
from meshd.cli.waiting import Answerers, wait_options
from meshd.core.model import Instance, Record
from meshd.core.topology import Kind
from meshd.v1 import topology_pb2 as pb
from meshd.v1 import topology_pb2_grpc
from meshd.wire.document import describe, render
from meshd.wire.messages import record_from_message

_file = click.option(
    "-f", "--file", "file", type=click.File(), required=True, help="The document; - is stdin."
)


def _plan_of(server: Server, document: str) -> pb.PlanResponse:
    with server.channel() as channel:
        stub = topology_pb2_grpc.TopologyStub(channel)
        found: pb.PlanResponse = stub.Plan(
            pb.PlanRequest(document=document), timeout=server.timeout_s
        )
    return found


def show_plan(plan: pb.PlanResponse) -> None:
    """A plan for people."""
    out = console()
    if not plan.edits:
        out.print(f"nothing to do: revision {plan.revision} is as the document says")
        return
    signs = {"create": ("+", "green"), "update": ("~", "yellow"), "delete": ("-", "red")}
    for edit in plan.edits:
        sign, colour = signs[edit.action]
        out.print(f"{sign} {edit.kind}/{edit.name}", style=colour, markup=False)
        for mark, text in (("-", edit.before), ("+", edit.after)):
            if text:
                out.print(f"    {mark} {text}", markup=False)
    counts = {action: sum(e.action == action for e in plan.edits) for action in signs}
    said = ", ".join(f"{count} to {action}" for action, count in counts.items() if count)
    out.print(f"{said}, on top of revision {plan.revision}")
    for move in plan.moves:
        out.print(
            f"moves: {move.set_changes:.1%} of the clients in {move.pop or 'no pop'} get other "
            f"instances of {move.service}, {move.first_changes:.1%} another first one"
        )
    for note in plan.notes:
        out.print(f"note: {note}", markup=False)
    for reason in plan.unsafe:
        out.print(f"unsafe: {reason}", style="bold red", markup=False)


@click.command()
@_file
@json_option
@click.pass_obj
def plan(server: Server, file: TextIO, as_json: bool) -> None:
    """Show what applying a document would write, and whom it would move.

    Example: meshctl plan -f mesh.yaml
    """
    found = _plan_of(server, file.read())
    print_json(as_dict(found)) if as_json else show_plan(found)


@click.command()
@_file
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--force", is_flag=True, help="Do it even if it is unsafe.")
@click.option("--dry-run", is_flag=True, help="As `plan`.")
@wait_options
@json_option
@click.pass_obj
def apply(  # noqa: PLR0913, PLR0917 - one parameter a flag
    server: Server,
    file: TextIO,
    yes: bool,
    force: bool,
    dry_run: bool,
    wait_s: float | None,
    as_json: bool,
) -> None:
    """Make the topology equal to a document, for the kinds that it names.

    Shows the plan and asks first. Instances that registered themselves are not touched. With
    --wait it ends when every answerer that follows any core answers from the new revision.

    Example: meshctl apply -f mesh.yaml
    """
    document = file.read()
    # Whoever follows now is waited for, although it may turn to another core meanwhile.
    answerers = None if wait_s is None or dry_run else Answerers.seen_by(server)
    planned = _plan_of(server, document)
    if not as_json:
        show_plan(planned)
    said: dict[str, Any] = {"revision": planned.revision, "plan": as_dict(planned)}
    revision = planned.revision
    if planned.edits and not dry_run:
        if planned.unsafe and not force:
            fail([*planned.unsafe, "nothing was written; --force would do it"])
        if not yes:
            confirm("apply?", "nothing was written")
        done = _apply(server, document, planned.revision, force)
        said, revision = as_dict(done), done.revision
        if not as_json:
            click.echo(f"applied as revision {revision}")
    if answerers is not None and wait_s is not None:
        said |= answerers.waited(revision, wait_s, as_json)
    if as_json:
        print_json(said)


def _apply(server: Server, document: str, planned: int, force: bool) -> pb.ApplyResponse:
    request = pb.ApplyRequest(document=document, revision=planned, force=force, author=author())
    with server.channel() as channel:
        stub = topology_pb2_grpc.TopologyStub(channel)
        done: pb.ApplyResponse = stub.Apply(request, timeout=server.timeout_s)
    return done


def _kind(context: click.Context, parameter: click.Parameter, value: str) -> Kind:
    """A kind of record by its plural, singular or short name."""
    names = {str(kind).removesuffix("s"): kind for kind in Kind} | {
        str(kind): kind for kind in Kind
    }
    names |= {"svc": Kind.SERVICES, "inst": Kind.INSTANCES}
    if value not in names:
        raise click.BadParameter(f"{value!r} is none of {', '.join(Kind)}", context, parameter)
    return names[value]


def fetch(
    server: Server, kinds: Sequence[Kind] = (), name: str = ""
) -> tuple[int, list[pb.GetResponse]]:
    """Records of some kinds: the revision, and the pages."""
    request = pb.GetRequest(kinds=kinds, name=name)
    with server.channel() as channel:
        stub = topology_pb2_grpc.TopologyStub(channel)
        pages = list(stub.Get(request, timeout=max(60.0, server.timeout_s)))
    return (pages[0].revision if pages else 0), pages


@click.command()
@click.argument("kind", callback=_kind)
@click.argument("name", required=False, default="")
@click.option("-o", "--output", type=click.Choice(["table", "yaml", "json", "name"]))
@json_option
@click.pass_obj
def get(server: Server, kind: Kind, name: str, output: str | None, as_json: bool) -> None:
    """List records: zones, pops, ranges, services, instances, overrides, presence.

    Example: meshctl get instances
    """
    revision, pages = fetch(server, [kind], name)
    records = [record for page in pages for record in page.records]
    made = [record_from_message(record) for record in records]
    output = "json" if as_json else output or "table"
    if output == "json":
        verdicts = {name: verdict for page in pages for name, verdict in page.verdicts.items()}
        flat = [_flat(record, verdicts) | _expiry(record, pages) for record in records]
        print_json({"revision": revision, str(kind): flat})
    elif output == "yaml":
        click.echo(render(made), nl=False)
    elif output == "name":
        for record in made:
            click.echo(f"{kind}/{record.name}")
    else:
        _print_records(kind, made, pages)


def _flat(message: Message, verdicts: Mapping[str, str]) -> dict[str, Any]:
    """A record without the envelope of its kind."""
    (inner,) = as_dict(message).values()
    flat = dict(inner)
    if flat.get("name") in verdicts:
        flat["verdict"] = verdicts[flat["name"]]
    return flat


def _expiry(message: Any, pages: Sequence[pb.GetResponse]) -> dict[str, float]:
    """In how many seconds an override goes away, where the core knows."""
    name = message.override.instance
    found = [page.expires_in_s[name] for page in pages if name in page.expires_in_s]
    return {"expires_in_s": round(found[0], 1)} if found else {}


def _print_overrides(records: Sequence[Record], pages: Sequence[pb.GetResponse]) -> None:
    left = {name: left_s for page in pages for name, left_s in page.expires_in_s.items()}
    rows = [
        (
            record.name,
            describe(record),
            f"in {left[record.name]:.0f} s" if record.name in left else "-",
        )
        for record in records
    ]
    print_table(["name", "says", "expires"], rows)


def _print_records(kind: Kind, records: Sequence[Record], pages: Sequence[pb.GetResponse]) -> None:
    if kind is Kind.OVERRIDES:
        _print_overrides(records, pages)
        return
    if kind is not Kind.INSTANCES:
        print_table(["name", "says"], [(record.name, describe(record)) for record in records])
        return
    verdicts = {name: verdict for page in pages for name, verdict in page.verdicts.items()}
    loads = {name: signal.load for page in pages for name, signal in page.signals.items()}
    rows = [
        _instance_row(record, verdicts, loads) for record in records if isinstance(record, Instance)
    ]
    columns = ["name", "service", "version", "pop", "verdict", ">load", ">capacity"]
    print_table([*columns, "addresses", "ports", "origin"], rows)


def _instance_row(
    instance: Instance, verdicts: Mapping[str, str], loads: Mapping[str, float]
) -> Sequence[object]:
    load = loads.get(instance.name)
    return (
        instance.name,
        instance.service,
        instance.version,
        instance.pop,
        verdicts.get(instance.name, ""),
        "-" if load is None else f"{load:.0%}",
        f"{instance.capacity:g}",
        " ".join(map(str, instance.addresses)),
        " ".join(f"{name}={number}" for name, number in instance.ports) or "-",
        "registered" if instance.registered else "document",
    )


@click.command()
@click.option("-o", "--output", type=click.File("w"), default="-", help="File  [stdout]")
@json_option
@click.pass_obj
def export(server: Server, output: TextIO, as_json: bool) -> None:
    """Print the topology as a document that `apply` takes.

    Example: meshctl export > mesh.yaml
    """
    kinds = [Kind.ZONES, Kind.POPS, Kind.RANGES, Kind.SERVICES, Kind.INSTANCES]
    revision, pages = fetch(server, kinds)
    records = [record_from_message(record) for page in pages for record in page.records]
    came = sorted(r.name for r in records if isinstance(r, Instance) and r.registered)
    kept = [r for r in records if not (isinstance(r, Instance) and r.registered)]
    text = render(kept)
    if as_json:
        print_json({"revision": revision, "document": yaml.safe_load(text)})
        return
    output.write(f"# meshd topology, revision {revision}\n")
    if came:
        output.write(f"# {len(came)} instances registered themselves and are not in here\n")
    output.write(text)


@click.command()
@click.option("-n", "--limit", default=20, show_default=True, help="How many commits.")
@click.option("--before", default=0, help="Only revisions below this.")
@json_option
@click.pass_obj
def history(server: Server, limit: int, before: int, as_json: bool) -> None:
    """Show who changed what, newest first.

    Example: meshctl history -n 5
    """
    with server.channel() as channel:
        stub = topology_pb2_grpc.TopologyStub(channel)
        request = pb.HistoryRequest(limit=limit, before=before)
        found = stub.History(request, timeout=server.timeout_s)
    if as_json:
        print_json(as_dict(found)["entries"])
        return
    rows = [(e.revision, _when(e.at_unix_s), e.who, e.what, _edits(e)) for e in found.entries]
    print_table([">revision", "when", "who", "what", "edits"], rows)


def _when(at_unix_s: float) -> str:
    at = datetime.datetime.fromtimestamp(at_unix_s, datetime.UTC)
    return at.strftime("%Y-%m-%d %H:%M:%SZ")


def _edits(entry: pb.AuditEntry) -> str:
    names = [f"{_sign(edit)}{edit.kind}/{edit.name}" for edit in entry.edits]
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return " ".join(names[:4]) + more


def _sign(edit: pb.AuditEdit) -> str:
    if not edit.HasField("before"):
        return "+"
    return "~" if edit.HasField("after") else "-"
