"""meshctl snapshot: what a core holds as one file, and back."""

import datetime
import os
import tempfile
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path

import click

from meshd import __version__
from meshd.cli.connect import Server, author, confirm, fail
from meshd.cli.output import as_dict, json_option, print_json, print_table
from meshd.cli.topology_commands import fetch, show_plan
from meshd.core.errors import Invalid, Malformed
from meshd.core.model import Instance, Override, Record
from meshd.core.restore import comes_back, plan_restore
from meshd.core.topology import Kind, Topology, kind_of
from meshd.v1 import topology_pb2 as pb
from meshd.v1 import topology_pb2_grpc
from meshd.wire.archive import Archive, pack_archive, parse_archive
from meshd.wire.document import render
from meshd.wire.messages import change_to_message, record_from_message

# What the server of a core takes in one message.
_MOST_BYTES = 16 << 20
_LONG_S = 60.0
_file = click.argument("file", type=click.Path(dir_okay=False, path_type=Path))


@click.group()
def snapshot() -> None:
    """Save what a core holds to a file, look into it, and restore it."""


@snapshot.command()
@_file
@json_option
@click.pass_obj
def save(server: Server, file: Path, as_json: bool) -> None:
    """Save all records, as they are at one revision, to a file.

    They come from the memory of the core: it works while the store is away, and before a store
    that was wiped is accepted. Overrides that were given a time (--for) are left out.

    Example: meshctl snapshot save mesh.snapshot
    """
    expiring = {name for page in fetch(server, [Kind.OVERRIDES])[1] for name in page.expires_in_s}
    store_id, revision, records = _held(server)
    kept = tuple(record for record in records if not _expires(record, expiring))
    saved_at = f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M:%SZ}"
    data = pack_archive(Archive(store_id, revision, saved_at, __version__, kept))
    try:
        _write(file, data)
    except OSError as error:
        fail([f"{file}: {error.strerror}"])
    if as_json:
        print_json(
            {"file": str(file), "revision": revision, "records": len(kept), "bytes": len(data)}
        )
        return
    left_out = len(records) - len(kept)
    more = f"; {left_out} overrides that expire were left out" if left_out else ""
    click.echo(f"saved revision {revision}: {len(kept)} records, {len(data)} bytes{more}")


def _held(server: Server) -> tuple[str, int, Sequence[Record]]:
    """Store, revision and records of a core's snapshot, which comes as answerers get it."""
    begin, end = pb.SnapshotBegin(), None
    records: list[Record] = []
    with server.channel() as channel:
        request = pb.FollowRequest(node="meshctl snapshot save")
        events = topology_pb2_grpc.TopologyStub(channel).Follow(request, timeout=_LONG_S)
        for event in events:
            if event.HasField("begin"):
                begin = event.begin
            records += map(record_from_message, event.part.records)
            if event.HasField("end"):
                end = event.end
                break
        events.cancel()
    if end is None or len(records) != end.records:
        fail(["the core did not send all of its records"])
    return begin.store_id, begin.revision, records


def _write(file: Path, data: bytes) -> None:
    """Write a file whole or not at all."""
    descriptor, draft = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    try:
        with os.fdopen(descriptor, "wb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        Path(draft).replace(file)
    except BaseException:
        Path(draft).unlink()
        raise


def _read(file: Path) -> Archive:
    try:
        return parse_archive(file.read_bytes())
    except OSError as error:
        fail([f"{file}: {error.strerror}"])
    except Malformed as error:
        fail([f"{file} {error}"])


@snapshot.command()
@_file
@click.option("-o", "--output", type=click.Choice(["table", "yaml"]), default="table")
@json_option
def show(file: Path, output: str, as_json: bool) -> None:
    """Check a snapshot file and show what is in it; no core is asked.

    Example: meshctl snapshot show mesh.snapshot
    """
    archive = _read(file)
    counts = Counter(str(kind_of(record)) for record in archive.records)
    came = sum(isinstance(record, Instance) and record.registered for record in archive.records)
    if as_json:
        print_json(
            {
                "store_id": archive.store_id,
                "revision": archive.revision,
                "saved_at": archive.saved_at,
                "meshd": archive.meshd,
                "records": {str(kind): counts[kind] for kind in Kind},
                "registered": came,
            }
        )
    elif output == "yaml":
        click.echo(render([r for r in archive.records if not comes_back(r)]), nl=False)
    else:
        click.echo(
            f"revision {archive.revision} of store {archive.store_id}, "
            f"saved {archive.saved_at} by meshd {archive.meshd}"
        )
        print_table(["kind", ">records"], [(kind, counts[kind]) for kind in Kind])
        if came:
            click.echo(f"{came} instances registered themselves")


@snapshot.command()
@_file
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--force", is_flag=True, help="Do it even if it is unsafe.")
@click.option("--dry-run", is_flag=True, help="Only show what would change.")
@json_option
@click.pass_obj
def restore(
    server: Server, file: Path, yes: bool, force: bool, dry_run: bool, as_json: bool
) -> None:
    """Make zones, pops, ranges, services, instances and overrides what a file says.

    Shows the plan and asks first; then one commit, which history shows. Instances that
    registered themselves are neither restored nor touched: their processes register again.

    Example: meshctl snapshot restore mesh.snapshot
    """
    archive = _read(file)
    revision, edits = _edits(server, archive)
    planned = _plan(server, edits) if edits else pb.PlanResponse(revision=revision)
    if dry_run or not edits:
        _show(planned, as_json)
        return
    if not as_json:
        _show(planned, as_json)
    if planned.unsafe and not force:
        fail([*planned.unsafe, "nothing was written; --force would do it"])
    if not yes:
        confirm("restore?", "nothing was written")
    what = f"snapshot restore: revision {archive.revision}, saved {archive.saved_at}"
    request = pb.CommitRequest(
        edits=edits, author=author(), what=what, force=force, revision=planned.revision
    )
    with server.channel() as channel:
        stub = topology_pb2_grpc.TopologyStub(channel)
        done = stub.Commit(request, timeout=max(_LONG_S, server.timeout_s))
    if as_json:
        print_json(as_dict(done) | {"plan": as_dict(planned)})
    else:
        click.echo(f"restored as revision {done.revision}")


def _show(planned: pb.PlanResponse, as_json: bool) -> None:
    if as_json:
        print_json({"revision": planned.revision, "plan": as_dict(planned)})
    elif planned.edits:
        show_plan(planned)
    else:
        click.echo(f"nothing to do: revision {planned.revision} is as the file says")


def _edits(server: Server, archive: Archive) -> tuple[int, Sequence[pb.Edit]]:
    """A core's revision, and what makes its topology equal to an archive."""
    revision, pages = fetch(server)
    held = [record_from_message(record) for page in pages for record in page.records]
    expiring = {name for page in pages for name in page.expires_in_s}
    # Those were not saved, and go by themselves.
    topology = Topology.load("", revision, (r for r in held if not _expires(r, expiring)))
    try:
        found = plan_restore(topology, archive.records)
    except Invalid as error:
        fail([*map(str, error.faults), "nothing was written"])
    for override in found.left_out:
        click.echo(f"left out: override {override.name}, there is no such instance", err=True)
    edits = [change_to_message(change) for change in found.changes]
    size = sum(edit.ByteSize() for edit in edits)
    if size > _MOST_BYTES:
        fail([f"{len(edits)} edits are {size >> 20} MiB, more than one commit takes (16 MiB)"])
    return revision, edits


def _expires(record: Record, expiring: Collection[str]) -> bool:
    return isinstance(record, Override) and record.name in expiring


def _plan(server: Server, edits: Sequence[pb.Edit]) -> pb.PlanResponse:
    with server.channel() as channel:
        stub = topology_pb2_grpc.TopologyStub(channel)
        request = pb.PlanRequest(edits=edits)
        found: pb.PlanResponse = stub.Plan(request, timeout=max(_LONG_S, server.timeout_s))
    return found
