"""meshctl migrate: all records from one store to another, while no core runs on either."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from meshd.cli.config import Config, read_config
from meshd.cli.connect import author, confirm, fail
from meshd.cli.etcd_options import etcd_options
from meshd.cli.output import json_option, print_json
from meshd.core.errors import Invalid, MeshError
from meshd.daemon.migrate import Move, lasting, move, plan_move, running_cores, unequal
from meshd.daemon.store.base import Author, Contents, Store
from meshd.daemon.store.embedded import EmbeddedStore
from meshd.daemon.store.etcd import EtcdStore

_FILE = "store.db"


@dataclass(frozen=True, slots=True)
class Place:
    """A store as it is named on the command line: a file, or settings of etcd."""

    text: str
    file: Path | None
    config: Config

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[Store]:
        """The store, for as long as the block runs; a file is locked against cores."""
        store = await self._store()
        try:
            yield store
        finally:
            await store.close()

    async def _store(self) -> Store:
        if self.file is None:
            return EtcdStore(self.config.etcd_settings)
        return await EmbeddedStore.open(self.file)

    @property
    def flags(self) -> str:
        """What a core that is to use it is started with."""
        if self.file is None:
            return f"--store etcd --etcd {','.join(self.config.etcd)}"
        return f"--data {self.file.parent}"


def _place(text: str, flags: Mapping[str, Any]) -> Place:
    """A place; Invalid lists what is wrong with it."""
    kind, colon, rest = text.partition(":")
    if colon and kind == "etcd":
        named = {name.replace("_", "-"): value for name, value in flags.items()}
        return Place(text, None, read_config(None, named | {"store": "etcd", "etcd": rest}))
    path = Path(rest if colon and kind == "embedded" else text)
    return Place(text, path if path.suffix == ".db" else path / _FILE, read_config(None, {}))


@click.command()
@click.option("--from", "source", required=True, help="DATA-DIR, or etcd:HOST:PORT[,HOST:PORT]")
@click.option("--to", "target", required=True, help="The same.")
@etcd_options
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--force", is_flag=True, help="Also over what the target holds.")
@json_option
def migrate(source: str, target: str, yes: bool, force: bool, as_json: bool, **flags: Any) -> None:
    """Copy all records from one store to another, and compare.

    The source is only read. No core may run on either: what was written meanwhile would be
    missed. Answerers go on without their cores. Instances that registered themselves register
    again by themselves; the history stays with the source.

    Example: meshctl migrate --from /var/lib/meshd --to etcd:10.0.0.5:2379,10.0.0.6:2379
    """
    try:
        places = _place(source, flags), _place(target, flags)
        asyncio.run(_migrate(*places, _Asked(yes, force, as_json)))
    except Invalid as error:
        fail([str(fault) for fault in error.faults])
    except MeshError as error:
        fail([str(error)])


@dataclass(frozen=True, slots=True)
class _Asked:
    yes: bool
    force: bool
    as_json: bool


async def _migrate(source: Place, target: Place, asked: _Asked) -> None:
    if source.file is not None and not source.file.exists():
        fail([f"there is no store at {source.file}"])
    async with source.open() as old, target.open() as new:
        held, there = await old.load(), await new.load()
        _refuse(source, held, ())
        _refuse(target, there, () if asked.force else lasting(there.items))
        plan = plan_move(held, there)
        if not asked.as_json:
            _show(plan, source, target)
        if not asked.yes:
            confirm("copy?", "nothing was written")
        what = f"migrate: revision {held.revision} of store {held.store_id}"
        await _write(plan, new, Author(author(), what), asked.as_json)
        moved = await new.load()
    wrong = unequal(held, moved)
    if wrong:
        fail([f"{len(wrong)} records are not the same in both: {', '.join(wrong[:5])}"])
    _report(plan, moved, target, asked.as_json)


def _refuse(place: Place, contents: Contents, there: Sequence[str] | Mapping[str, bytes]) -> None:
    cores = running_cores(contents)
    if cores:
        fail([f"{place.text}: cores run on it: {', '.join(cores)}; stop them first"])
    if there:
        fail([f"{place.text} holds {len(there)} records already; --force makes it as the source"])


def _show(plan: Move, source: Place, target: Place) -> None:
    counts = ", ".join(f"{count} {kind}" for kind, count in sorted(plan.copied.items()))
    click.echo(f"{source.text} -> {target.text}: {counts or 'nothing'}")
    left = ", ".join(f"{count} {kind}" for kind, count in sorted(plan.left.items()))
    if left:
        click.echo(f"left out, for a lease ends them: {left}")


async def _write(plan: Move, store: Store, by: Author, as_json: bool) -> None:
    is_shown = sys.stderr.isatty() and not as_json
    bar = click.progressbar(length=len(plan.writes), label="copying", file=sys.stderr)
    with bar if is_shown else contextlib.nullcontext() as shown:
        done = 0

        def progress(count: int) -> None:
            nonlocal done
            done += count
            if shown is not None:
                shown.update(count)

        try:
            await move(plan.writes, store, by, progress)
        except MeshError as error:
            said = f"{done} of {len(plan.writes)} writes are done; --force goes on"
            fail([str(error), said])


def _report(plan: Move, moved: Contents, target: Place, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "store_id": moved.store_id,
                "revision": moved.revision,
                "copied": dict(plan.copied),
                "left": dict(plan.left),
            }
        )
        return
    click.echo(
        f"copied and compared: store {moved.store_id} holds the same at revision {moved.revision}"
    )
    click.echo(f"next: start cores with {target.flags}; the source is as it was")
