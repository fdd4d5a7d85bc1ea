"""The purge hook: for which names it runs, how often, and what it survives."""

import asyncio
import os
import shlex
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from meshd.answerer.purge import Purge, common_ancestor, moved_names
from meshd.answerer.state import State
from meshd.core.model import Force, Override, Port, Service
from meshd.core.signals import Signal
from meshd.core.topology import Change, Kind
from tests import samples

BEFORE = samples.snapshot()
NEW = Change.put(samples.instance("eu", 99))
SERVICE = Change.put(Service("new", "new.deep.mesh.internal.", (Port("http", 80),)))


@pytest.mark.parametrize(
    ("change", "moved"),
    [
        (NEW, {"api.mesh.internal."}),
        (Change(Kind.INSTANCES, "wild-1", None), {"apps.mesh.internal."}),
        (Change(Kind.SERVICES, "old", None), {"old.deep.mesh.internal."}),
        (SERVICE, {"new.deep.mesh.internal."}),
        (
            Change.put(replace(BEFORE.topology.instances["old-1"], service="api")),
            {"api.mesh.internal.", "old.deep.mesh.internal."},
        ),
        (Change.put(Override("old-1", Force.DOWN)), set()),
    ],
)
def test_which_names_moved(change: Change, moved: set[str]) -> None:
    after = BEFORE.advance([change], 8)
    assert moved_names(BEFORE.topology, after.topology) == moved


def test_common_ancestor() -> None:
    assert common_ancestor({"api.mesh.internal."}) == "api.mesh.internal."
    assert common_ancestor({"a.b.mesh.internal.", "c.b.mesh.internal."}) == "b.mesh.internal."
    assert common_ancestor({"mesh.internal.", "a.mesh.internal."}) == "mesh.internal."
    assert common_ancestor({"mesh.internal.", "myservice.com."}) == "."


@asynccontextmanager
async def purging(command: str) -> AsyncIterator[tuple[State, Purge]]:
    state = State()
    state.swap(BEFORE)
    made = Purge(state, command)
    task = asyncio.create_task(made.run())
    try:
        yield state, made
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(what: str, check: Callable[[], bool]) -> None:
    began = time.monotonic()
    while not check():
        assert time.monotonic() - began < 20, f"not seen: {what}"
        await asyncio.sleep(0.02)


def noting(path: Path) -> str:
    """A command that adds its argument to a file."""
    script = f'echo "$1" >> {shlex.quote(str(path))}'
    return f"sh -c {shlex.quote(script)} purge {{name}}$"


async def test_many_changes_make_few_runs(tmp_path: Path) -> None:
    noted = tmp_path / "noted"
    async with purging(noting(noted)) as (state, made):
        began = time.monotonic()
        snapshot = BEFORE
        for number in range(100, 140):
            snapshot = snapshot.advance([Change.put(samples.instance("us", number))], 8)
            state.swap(snapshot)
            await asyncio.sleep(0.02)
        state.swap(snapshot.advance(signals={"old-1": Signal(0.5)}))
        await until("a run after the last change", lambda: made.runs >= 2 or _over(began, 3))
        lines = noted.read_text().split()
    assert set(lines) == {"api.mesh.internal$"}
    assert made.runs <= 2 + (time.monotonic() - began)
    assert made.failures == 0


def _over(began: float, seconds: float) -> bool:
    return time.monotonic() - began > seconds


async def test_what_fails_is_counted_and_the_next_one_runs(tmp_path: Path) -> None:
    for command in ("/nowhere/to/be/found {name}", "sh -c 'exit 3' {name}"):
        async with purging(command) as (state, made):
            state.swap(BEFORE.advance([NEW], 8))
            await until("one failed", lambda: made.failures == 1)
            state.swap(BEFORE)
            await until("another one failed", lambda: made.failures == 2)


async def test_no_shell_reads_the_command(tmp_path: Path) -> None:
    noted = tmp_path / "noted"
    command = f"echo {{name}} ; touch {shlex.quote(str(noted))}"
    async with purging(command) as (state, made):
        state.swap(BEFORE.advance([NEW], 8))
        await until("it ran", lambda: made.runs == 1)
        await asyncio.sleep(0.3)
    assert not noted.exists()


async def test_a_command_that_hangs_is_ended(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    script = f"echo $$ > {shlex.quote(str(pid))}; exec sleep 60"
    async with purging(f"sh -c {shlex.quote(script)} purge {{name}}") as (state, made):
        state.swap(BEFORE.advance([NEW], 8))
        await until("it was given up", lambda: made.failures == 1)
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)
