"""From one store to another: what lasts is copied, what lives by a lease comes back by itself."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from meshd.core.topology import Kind
from meshd.daemon.store.base import Author, Contents, Delete, Item, Put, Store, Write
from meshd.wire.records import GUARD_KEY, kind_and_name

# A commit of this size is one transaction in every store.
_BATCH_WRITES = 500
_BATCH_BYTES = 256 << 10
# Where cores say that they are there; each under its lease.
_NODES = "nodes/"
_KINDS = {kind: at for at, kind in enumerate(Kind)}


@dataclass(frozen=True, slots=True)
class Move:
    """The writes that make a target equal to a source; `copied` and `left` are counts by kind."""

    writes: tuple[Write, ...]
    copied: Mapping[str, int]
    left: Mapping[str, int]


def lasting(items: Iterable[Item]) -> dict[str, bytes]:
    """Keys and values that no lease takes away; the guard belongs to each store alone."""
    return {item.key: item.value for item in items if not item.lease and item.key != GUARD_KEY}


def running_cores(contents: Contents) -> Sequence[str]:
    """The cores that run on a store."""
    keys = (item.key for item in contents.items)
    return [key.removeprefix(_NODES) for key in keys if key.startswith(_NODES)]


def plan_move(source: Contents, target: Contents) -> Move:
    """What to write."""
    wanted, there = lasting(source.items), lasting(target.items)
    puts = [Put(key, value) for key, value in wanted.items() if there.get(key) != value]
    # What is referred to comes first.
    puts.sort(key=lambda put: (_place(put.key), put.key))
    deletes = [Delete(key) for key in there if key not in wanted]
    left = Counter(_kind(item.key) for item in source.items if item.lease)
    return Move((*puts, *deletes), Counter(map(_kind, wanted)), left)


def _kind(key: str) -> str:
    return key.partition("/")[0]


def _place(key: str) -> int:
    found = kind_and_name(key)
    return _KINDS[found[0]] if found else len(_KINDS)


async def move(
    writes: Sequence[Write], target: Store, author: Author, progress: Callable[[int], None]
) -> None:
    """Commit the writes in parts, telling how many each part had; Unavailable in between."""
    for batch in _batches(writes):
        await target.commit(batch, author)
        progress(len(batch))


def _batches(writes: Sequence[Write]) -> Iterator[Sequence[Write]]:
    batch: list[Write] = []
    size = 0
    for write in writes:
        more = len(write.value) if isinstance(write, Put) else 0
        if batch and (len(batch) == _BATCH_WRITES or size + more > _BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(write)
        size += more
    if batch:
        yield batch


def unequal(source: Contents, target: Contents) -> Sequence[str]:
    """The lasting keys that are not the same in both."""
    wanted, there = lasting(source.items), lasting(target.items)
    return sorted(key for key in wanted.keys() | there if wanted.get(key) != there.get(key))
