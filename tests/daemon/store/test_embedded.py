"""The store in a file keeps every promise, and what it acknowledged outlives everything."""

import asyncio
import contextlib
import os
import random
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from meshd.core.errors import LeaseLost, Unavailable
from meshd.daemon.store.base import Author, Item, Put
from meshd.daemon.store.decide import Commit
from meshd.daemon.store.embedded import EmbeddedStore
from meshd.daemon.store.file import StoreFile
from tests.daemon.store.contract import StoreContract
from tests.daemon.store.crash_writer import WRITES
from tests.daemon.store.drive import ALICE, Clock, Opens, keys, put, running, take
from tests.daemon.store.lease_contract import StandstillContract

ROOT = Path(__file__).parents[3]
ROUNDS = 10


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "store.db"


class TestEmbeddedStore(StoreContract, StandstillContract):
    @pytest.fixture
    async def opens(self, path: Path, clock: Clock) -> AsyncIterator[Opens]:
        opened: list[EmbeddedStore] = []

        async def opens(keep_revisions: int = 10_000) -> EmbeddedStore:
            opened.append(await EmbeddedStore.open(path, clock, clock, keep_revisions))
            return opened[-1]

        yield opens
        for store in opened:
            await store.close()


async def _filled(path: Path) -> None:
    store = await EmbeddedStore.open(path)
    for first in range(0, 2000, 500):
        await put(store, *(f"key/{first + n:05d}" for n in range(500)))
    await store.close()


def _start(module: str, *arguments: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", f"tests.daemon.store.{module}", *arguments]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def _write_until_killed(path: Path, turn: int, chance: random.Random) -> dict[str, int]:
    """What a writer acknowledged (value to revision) before it was killed, at some moment."""
    least = chance.randrange(0, 45)
    with _start("crash_writer", str(path), str(turn)) as writer:
        assert writer.stdout is not None
        lines = [writer.stdout.readline() for _ in range(least)]
        with contextlib.suppress(subprocess.TimeoutExpired):
            writer.wait(chance.uniform(0, 0.003))
        writer.kill()
        lines += writer.stdout.readlines()
    assert writer.returncode in (0, -signal.SIGKILL), "the writer failed by itself"
    # The last line may have been cut off with its process.
    whole = (line.split() for line in lines if line.endswith("\n"))
    told = {value: int(revision) for revision, value in whole}
    assert len(told) >= least
    return told


async def test_kill_9_loses_nothing_acknowledged_and_leaves_nothing_half(path: Path) -> None:
    chance = random.Random(2)
    acknowledged: dict[str, int] = {}
    for turn in range(ROUNDS):
        told = await asyncio.to_thread(_write_until_killed, path, turn, chance)
        acknowledged.update(told)
        store = await EmbeddedStore.open(path)
        await _check_whole(store, acknowledged)
        await store.close()
    assert 0 < len(acknowledged) < ROUNDS * WRITES, "no writer was killed at work"


async def _check_whole(store: EmbeddedStore, acknowledged: Mapping[str, int]) -> None:
    contents = await store.load()
    held = {item.key: item for item in contents.items}
    for value, revision in acknowledged.items():
        for key in (f"left/{value}", f"right/{value}"):
            assert held[key] == Item(key, value.encode(), revision, 0)
    lefts = {key.removeprefix("left/") for key in held if key.startswith("left/")}
    assert set(held) == {f"{side}/{value}" for value in lefts for side in ("left", "right")}
    batches = await take(store.follow(0), contents.revision)
    assert [batch.revision for batch in batches] == list(range(1, contents.revision + 1))
    assert {change.key for batch in batches for change in batch.changes} == set(held)
    assert len(await store.history(10_000)) == contents.revision == len(lefts)


async def test_what_was_loaded_can_be_followed_at_once(path: Path) -> None:
    store = await EmbeddedStore.open(path)

    async def write() -> None:
        while True:
            await put(store, "a")

    writer = asyncio.ensure_future(write())
    for _ in range(300):
        revision = (await store.load()).revision
        (batch,) = await take(store.follow(revision), 1)
        assert batch.revision == revision + 1
    writer.cancel()
    await store.close()


async def test_files_that_may_not_grow_are_unavailable_until_they_may(path: Path) -> None:
    with _start("full_disk", str(path)) as process:
        assert await asyncio.to_thread(process.wait, 60) == 0


def test_a_full_file_is_unavailable_until_there_is_space(path: Path) -> None:
    file = StoreFile(path)
    file.writer.execute("PRAGMA max_page_count = 40")
    small, big = (Commit((Put("a", b"x" * size),), ALICE) for size in (10, 500_000))
    assert file.write([small], 1.0) == [1]
    with pytest.raises(Unavailable, match="full"):
        file.write([small, big], 1.0)
    assert file.write([small], 1.0) == [2]
    file.writer.execute("PRAGMA max_page_count = 100000")
    assert file.write([big, small], 1.0) == [3, 4]
    assert [entry.revision for entry in file.history(9, None)] == [4, 3, 2, 1]
    file.close()


def test_a_commit_returns_once_it_is_on_the_disk(path: Path) -> None:
    # A killed process does not show whether SQLite waits for the disk; only a power cut would.
    file = StoreFile(path)
    assert file.writer.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert file.writer.execute("PRAGMA synchronous").fetchone() == (2,)
    file.close()


async def test_reopening_keeps_everything(path: Path) -> None:
    first = await EmbeddedStore.open(path)
    await put(first, "a", "b")
    await put(first, "a")
    contents, history = await first.load(), await first.history()
    await first.close()
    again = await EmbeddedStore.open(path)
    assert again.store_id == first.store_id
    assert await again.load() == contents
    assert await again.history() == history
    assert [batch.revision for batch in await take(again.follow(0), 2)] == [1, 2]
    assert await put(again, "c") == 3
    await again.close()


async def test_leases_have_their_whole_time_after_a_restart(path: Path) -> None:
    clock = Clock()
    first = await EmbeddedStore.open(path, clock, clock)
    kept, lost, revoked = [await first.grant(3.0) for _ in range(3)]
    await put(first, "kept", lease=kept)
    await put(first, "lost", lease=lost)
    await first.revoke(revoked)
    await first.close()
    await clock.advance(100)
    again = await EmbeddedStore.open(path, clock, clock)
    async with running(again):
        await clock.advance(2)
        await again.renew(kept)
        with pytest.raises(LeaseLost):
            await again.renew(revoked)
        assert await keys(again) == ["kept", "lost"]
        await clock.advance(2)
        await take(again.follow(2), 1)
    assert await keys(again) == ["kept"]
    await again.close()


async def test_renewing_does_not_touch_the_disk(path: Path) -> None:
    store = await EmbeddedStore.open(path)
    lease = await store.grant(30.0)
    before = _stamps(path)
    async with running(store):
        for _ in range(100):
            await store.renew(lease)
            await asyncio.sleep(0.005)
    assert _stamps(path) == before
    await store.close()


async def test_a_commit_whose_caller_went_away_harms_nobody(path: Path) -> None:
    store = await EmbeddedStore.open(path)
    gone = asyncio.ensure_future(put(store, "gone"))
    stays = asyncio.ensure_future(put(store, "stays"))
    await asyncio.sleep(0)
    gone.cancel()
    await stays
    assert "stays" in await keys(store)
    await put(store, "later")
    await store.close()


async def test_the_file_is_private(path: Path) -> None:
    store = await EmbeddedStore.open(path)
    await put(store, "a")
    modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in path.parent.iterdir()}
    names = ("store.db", "store.db-shm", "store.db-wal", "store.db.lock")
    assert modes == dict.fromkeys(names, 0o600)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    await store.close()


async def test_a_second_opener_is_told_who_has_it(path: Path) -> None:
    store = await EmbeddedStore.open(path)
    with pytest.raises(Unavailable, match=rf"{path} is in use by process {os.getpid()}"):
        await EmbeddedStore.open(path)
    with _start("crash_writer", str(path), "0") as other:
        assert await asyncio.to_thread(other.wait, 60) == 1
    await put(store, "a")
    await store.close()
    again = await EmbeddedStore.open(path)
    assert await keys(again) == ["a"]
    await again.close()


@pytest.mark.parametrize("damage", ["empty", "text", "header", "middle", "half", "foreign"])
async def test_a_damaged_file_is_refused_by_name_and_left_alone(path: Path, damage: str) -> None:
    await _filled(path)
    whole = _bytes(path)
    _damage(path, damage)
    damaged = _bytes(path)
    with pytest.raises(Unavailable, match=str(path)):
        await EmbeddedStore.open(path)
    assert _bytes(path) == damaged
    _restore(path, whole)
    store = await EmbeddedStore.open(path)
    assert len(await keys(store)) == 2000
    await store.close()


def _damage(path: Path, damage: str) -> None:
    whole = _bytes(path)
    path.unlink()
    if damage == "foreign":
        with sqlite3.connect(path) as other:
            other.execute("CREATE TABLE mine (x)")
        other.close()
        return
    middle = len(whole) // 2 // 4096 * 4096
    noise = b"\xa5" * 8192
    damaged = {
        "empty": b"",
        "text": b"not a database\n" * 1000,
        "header": noise[:100] + whole[100:],
        "middle": whole[:middle] + noise + whole[middle + len(noise) :],
        "half": whole[:middle],
    }
    _restore(path, damaged[damage])


def _bytes(path: Path) -> bytes:
    return path.read_bytes()


def _restore(path: Path, content: bytes) -> None:
    path.write_bytes(content)


async def test_a_newer_schema_is_refused(path: Path) -> None:
    await _filled(path)
    with sqlite3.connect(path) as other:
        other.execute("PRAGMA user_version = 99")
    other.close()
    with pytest.raises(Unavailable, match=rf"{path} has schema 99; this meshd knows schema 1"):
        await EmbeddedStore.open(path)


async def test_a_log_without_its_file_is_not_replayed_into_a_new_one(path: Path) -> None:
    store = await EmbeddedStore.open(path)
    await put(store, "a")
    log = Path(f"{path}-wal")
    kept = _bytes(log)
    await store.close()
    os.unlink(path)
    _restore(log, kept)
    with pytest.raises(Unavailable, match="is gone but"):
        await EmbeddedStore.open(path)


async def test_a_draft_left_by_a_crash_is_no_store(path: Path) -> None:
    os.mkdir(path.parent)
    _restore(Path(f"{path}.new"), b"half made")
    store = await EmbeddedStore.open(path)
    assert await put(store, "a") == 1
    await store.close()
    assert f"{path.name}.new" not in os.listdir(path.parent)


async def test_a_place_that_cannot_be_written_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable, match=r"store\.db"):
        await EmbeddedStore.open(tmp_path / "file" / "store.db")
    (tmp_path / "store.db").mkdir()
    with pytest.raises(Unavailable, match=r"store\.db"):
        await EmbeddedStore.open(tmp_path / "store.db")


async def test_pages_that_are_too_big_are_read_in_smaller_ones(path: Path) -> None:
    store = await EmbeddedStore.open(path)
    values = {f"k{n:03d}": bytes([n]) * (1 << 20) for n in range(90)}
    await store.commit([Put(key, value) for key, value in values.items()], ALICE)
    await store.commit([Put("after", b"")], ALICE)
    contents = await store.load()
    assert {item.key: item.value for item in contents.items} == {"after": b"", **values}
    first, second = await take(store.follow(0), 2)
    assert {change.key: change.value for change in first.changes} == values
    assert [change.key for change in second.changes] == ["after"]
    assert len((await store.history())[1].edits) == 90
    await store.close()


async def test_a_busy_event_loop_does_not_starve_the_store(path: Path) -> None:
    store = await EmbeddedStore.open(path)
    busy = asyncio.ensure_future(_spin())
    async with asyncio.timeout(20):
        for _ in range(5):
            await asyncio.gather(*(put(store, f"k{n}") for n in range(100)))
        assert len(await keys(store)) == 100
        assert len(await take(store.follow(0), 500)) == 500
    busy.cancel()
    await store.close()


async def _spin() -> None:
    while True:
        sum(range(10_000))
        await asyncio.sleep(0)


def _stamps(path: Path) -> dict[str, int]:
    return {p.name: p.stat().st_mtime_ns for p in path.parent.iterdir()}


async def test_repr_reads_as_a_status_line(path: Path) -> None:
    store = await EmbeddedStore.open(path)
    await store.commit([Put("a", b"")], Author("a", "b"))
    leases = "<Leases alive=0 ending=0>"
    assert repr(store) == f"<EmbeddedStore {path} revision=1 waiting=0 {leases}>"
    await store.close()
