"""Writes to a store and says what was acknowledged, until it is killed: `crash_writer PATH ROUND`.

Each write puts two keys with one value; five writers at a time share transactions.
"""

import asyncio
import sys
from collections.abc import Iterator

from meshd.daemon.store.base import Author, Put
from meshd.daemon.store.embedded import EmbeddedStore

WRITES = 50


async def _write(store: EmbeddedStore, numbers: Iterator[int], turn: str) -> None:
    for number in numbers:
        value = f"{turn}-{number}"
        writes = [Put(f"left/{value}", value.encode()), Put(f"right/{value}", value.encode())]
        revision = await store.commit(writes, Author("crash", value))
        sys.stdout.write(f"{revision} {value}\n")


async def _main(path: str, turn: str) -> None:
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    store = await EmbeddedStore.open(path)
    numbers = iter(range(WRITES))
    await asyncio.gather(*(_write(store, numbers, turn) for _ in range(5)))
    await store.close()


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:3]))
