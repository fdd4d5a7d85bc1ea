"""An answerer with several cores: it leaves one that is lost, hung, behind or without its store."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from meshd.answerer import follow
from meshd.answerer.follow import Follower
from meshd.answerer.state import State
from meshd.answerer.told import told
from tests import samples
from tests.daemon.cores import DOCUMENT, until
from tests.daemon.sharing import Core, core
from tests.daemon.stores import FaultyStore


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(follow, "_SILENCE_S", 2.5)
    monkeypatch.setattr(follow, "_STORE_AWAY_S", 4.0)
    monkeypatch.setattr(follow, "_STORE_THERE_S", 2.0)
    monkeypatch.setattr(follow, "_LOOK_EVERY_S", 0.2)
    caplog.set_level(logging.INFO, follow.__name__)


def answers(most: int) -> str:
    return DOCUMENT.replace("max_answers: 4", f"max_answers: {most}")


class Way:
    """A unix socket in front of another one; deaf, it takes everything and says nothing."""

    def __init__(self, path: Path, behind: str) -> None:
        self.address = f"unix:{path}"
        self._path = path
        self._behind = behind.removeprefix("unix:")
        self._open = asyncio.Event()
        self._open.set()

    def deaf(self) -> None:
        self._open.clear()

    def hearing(self) -> None:
        self._open.set()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["Way"]:
        server = await asyncio.start_unix_server(self._serve, self._path)
        async with server:
            yield self

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inward, outward = await asyncio.open_unix_connection(self._behind)
        with contextlib.suppress(OSError, asyncio.CancelledError):
            await asyncio.gather(self._copy(reader, outward), self._copy(inward, writer))

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                await self._open.wait()
                writer.write(data)
                await writer.drain()
        finally:
            writer.close()


@dataclass
class Fleet:
    """Three cores of one store, each by its own way, and an answerer that follows them."""

    store: FaultyStore
    stores: list[FaultyStore]
    cores: list[Core]
    ways: list[Way]
    state: State
    follower: Follower
    revisions: list[int] = field(default_factory=list)

    def most(self) -> int:
        """What the answerer holds; never nothing."""
        assert self.state.snapshot is not None
        return self.state.snapshot.topology.services["api"].max_answers

    def followed(self) -> list[int]:
        """The cores that feed somebody."""
        return [at for at, core in enumerate(self.cores) if core.state.followers]


@asynccontextmanager
async def fleet(path: Path) -> AsyncIterator[Fleet]:
    store = FaultyStore()
    async with AsyncExitStack() as stack:
        stores = [store.way() for _ in range(3)]
        cores = [
            await stack.enter_async_context(core(path, each, f"core{at}"))
            for at, each in enumerate(stores)
        ]
        ways = [Way(path / f"way{at}.sock", core.address) for at, core in enumerate(cores)]
        for way in ways:
            await stack.enter_async_context(way.serving())
        await cores[0].apply()
        state = State()
        follower = Follower(state, [way.address for way in ways], "test/0", None)
        made = Fleet(store, stores, cores, ways, state, follower)
        state.on_swap(lambda: made.revisions.append(state.snapshot.topology.revision))  # type: ignore[union-attr]
        following = asyncio.create_task(follower.run())
        await until("it follows", lambda: state.snapshot is not None and made.followed() == [0])
        yield made
        assert made.revisions == sorted(made.revisions)
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


async def test_the_core_that_is_followed_ends(tmp_path: Path) -> None:
    async with fleet(tmp_path) as made:
        await made.cores[0].server.stop(0)
        await made.cores[1].apply(answers(3))
        await until("the change by another core", lambda: made.most() == 3)
        await until("the next is followed", lambda: 1 in made.followed())
        await made.cores[1].server.stop(0)
        await made.cores[2].apply(answers(2))
        await until("the change by the last", lambda: made.most() == 2)


async def test_the_core_that_is_followed_hangs(tmp_path: Path) -> None:
    async with fleet(tmp_path) as made:
        made.ways[0].deaf()
        await made.cores[0].apply(answers(3))
        await until("the change by another core", lambda: made.most() == 3)
        assert 1 in made.followed()
        assert made.follower.age_s is not None
        made.ways[0].hearing()
        await until("the first is followed again", lambda: made.followed() == [0])
        await made.cores[2].apply(answers(2))
        await until("the change", lambda: made.most() == 2)


async def test_a_core_without_its_store_is_left_and_come_back_to_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with fleet(tmp_path) as made:
        with made.stores[0].away():
            await made.cores[1].apply(answers(3))
            await until("the change by another core", lambda: made.most() == 3)
            assert made.followed() == [1]
            numbers = told(0, made.state, made.follower)
            assert 'meshd_answerer_revision{answerer="0"} 2\n' in numbers
            assert "meshd_answerer_store_age_seconds" in numbers
        await until("the first is followed again", lambda: made.followed() == [0])
        await asyncio.sleep(1.0)
        moved = [record for record in caplog.records if "core changed" in record.message]
        assert len(moved) == 2


async def test_with_the_store_away_from_all_it_stays(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with fleet(tmp_path) as made:
        with made.stores[0].away(), made.stores[1].away(), made.stores[2].away():
            await until("it is told", lambda: (made.follower.store_age_s or 0) > 4.5)
            await asyncio.sleep(1.0)
            assert made.followed() == [0]
        assert not [record for record in caplog.records if "core changed" in record.message]


async def test_a_core_that_is_behind_is_not_followed_until_it_is_not(tmp_path: Path) -> None:
    async with fleet(tmp_path) as made:
        made.cores[0].pump.following.relist_s = None
        made.stores[0].heard.clear()
        made.ways[0].deaf()
        await made.cores[1].apply(answers(3))
        await until("the change by another core", lambda: made.most() == 3)
        made.ways[0].hearing()
        await asyncio.sleep(2.0)
        # Not even for a moment, though it is the first and answers.
        assert made.followed() == [1]
        await made.cores[1].server.stop(0)
        await until("neither the second nor the first", lambda: made.followed() == [2])
        await made.cores[2].server.stop(0)
        await asyncio.sleep(4.0)
        # There is no other: then what is held stays.
        assert made.most() == 3
        made.stores[0].heard.set()
        await made.cores[0].apply(answers(2))
        await until("the first has caught up", lambda: made.most() == 2)


async def test_a_core_that_is_refused_is_complained_of_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A new and empty store: that is said once, however often it is looked at."""
    async with core(tmp_path, FaultyStore()) as one:
        state = State()
        state.swap(samples.snapshot())
        following = asyncio.create_task(Follower(state, [one.address], "test", None).run())
        await asyncio.sleep(3.0)
        following.cancel()
        assert state.snapshot is not None
        assert state.snapshot.topology.services
        lost = [record for record in caplog.records if "core lost" in record.message]
        assert len(lost) == 1
        assert "new and empty" in lost[0].message
