"""A store whose files may not grow for a while: `full_disk PATH`; it exits 0 if all went well.

A process of its own, because the limit on file sizes holds for all of a process.
"""

import asyncio
import resource
import sys
from pathlib import Path

from meshd.core.errors import Unavailable
from meshd.daemon.store.base import Author, Put
from meshd.daemon.store.embedded import EmbeddedStore

AUTHOR = Author("full", "fill the disk")


async def _fill(store: EmbeddedStore) -> tuple[list[str], str]:
    written: list[str] = []
    for number in range(1000):
        try:
            await store.commit([Put(f"k{number:04d}", b"x" * 8192)], AUTHOR)
        except Unavailable as error:
            return written, str(error)
        written.append(f"k{number:04d}")
    return written, ""


async def _main(path: Path) -> None:
    store = await EmbeddedStore.open(path)
    lease = await store.grant(60.0)
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, unlimited[1]))
    written, reason = await _fill(store)
    assert written, "nothing fitted"
    assert str(path) in reason, reason
    assert [item.key for item in (await store.load()).items] == written
    assert len(await store.history(1000)) == len(written)
    await store.renew(lease)
    resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    revision = await store.commit([Put("after", b"", lease)], AUTHOR)
    assert revision == len(written) + 1, revision
    await store.close()
    again = await EmbeddedStore.open(path)
    assert [item.key for item in (await again.load()).items] == ["after", *written]
    await again.close()


if __name__ == "__main__":
    asyncio.run(_main(Path(sys.argv[1])))
