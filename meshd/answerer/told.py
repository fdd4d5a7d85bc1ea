"""What an answerer tells of itself: a file for Prometheus's node exporter (textfile collector).

It has no port of its own for this, and what matters here is to be seen when no core is there.
"""

import asyncio
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from meshd.answerer.follow import Follower
from meshd.answerer.state import State

log = logging.getLogger(__name__)

_EVERY_S = 5.0


def told(index: int, state: State, follower: Follower) -> str:
    """The numbers, in Prometheus's text format."""
    label = f'{{answerer="{index}"}}'
    return "".join(
        f"# TYPE meshd_answerer_{name} gauge\nmeshd_answerer_{name}{label} {value}\n"
        for name, value in _numbers(state, follower)
    )


def _numbers(state: State, follower: Follower) -> Iterator[tuple[str, int | float]]:
    topology = state.snapshot.topology if state.snapshot is not None else None
    yield "revision", topology.revision if topology else 0
    # Never is not a number of seconds: then there is no line.
    if follower.age_s is not None:
        yield "core_age_seconds", round(follower.age_s, 1)
    if follower.store_age_s is not None:
        yield "store_age_seconds", round(follower.store_age_s, 1)


def _write(path: Path, text: str) -> None:
    draft = path.with_name(path.name + ".new")
    draft.write_text(text)
    # Readable for the exporter, which runs as somebody else.
    draft.chmod(0o644)
    os.replace(draft, path)


async def keep_told(path: Path, index: int, state: State, follower: Follower) -> None:
    """Write it every few seconds, for ever; a full disk costs the file, never the answers."""
    while True:
        try:
            await asyncio.to_thread(_write, path, told(index, state, follower))
        except OSError as error:
            log.warning("numbers not written: path=%s error=%s", path, error)
        await asyncio.sleep(_EVERY_S)
