"""The reporter against a core that listens: what comes, and what becomes of it without one."""

import asyncio
import time
from pathlib import Path

import pytest

from meshd.client import BlockingReporter, Endpoint, Outcome, Reporter
from tests.client.listener import Listener, listening
from tests.daemon.cores import until

ONE = Endpoint("api-1", "10.0.0.1", 80, "api.mesh.internal")
NOBODY = "127.0.0.1:1"
# Batches follow each other quickly in tests.
EVERY_S = 0.1


def call(reporter: Reporter | BlockingReporter, count: int = 1) -> None:
    for _ in range(count):
        reporter.began(ONE)
        reporter.note(ONE, Outcome.OK, 0.001)


async def test_batches_come_with_what_was_noted(tmp_path: Path) -> None:
    async with listening(tmp_path) as core, Reporter(core.address, every_s=EVERY_S) as reporter:
        for _ in range(5):
            call(reporter, 100)
            await asyncio.sleep(EVERY_S)
        await until("all came", lambda: core.attempts("api-1") == 500)
        assert len({batch.reporter for batch in core.batches}) == 1
        assert core.streams == 1
        assert len(core.batches) > 2
        assert all(0.5 * EVERY_S < batch.window_s < 10 for batch in core.batches)
        await until("it is told", lambda: reporter.sent == len(core.batches))
        assert repr(reporter).startswith(f"<Reporter at {core.address}: {reporter.sent} sent, 0 d")


async def test_nothing_is_said_when_there_is_nothing(tmp_path: Path) -> None:
    async with listening(tmp_path) as core, Reporter(core.address, every_s=EVERY_S):
        await asyncio.sleep(5 * EVERY_S)
        assert core.batches == []


async def test_trouble_is_told_sooner(tmp_path: Path) -> None:
    async def window_s(outcome: Outcome) -> float:
        async with listening(tmp_path) as core, Reporter(core.address, every_s=2.0) as reporter:
            for number in range(10):
                reporter.note(ONE, outcome if number % 4 == 0 else Outcome.OK, 0.001)
            await until("it is told", lambda: len(core.batches) == 1)
            return core.batches[0].window_s

    assert await window_s(Outcome.FAILURE) < 1.6 < await window_s(Outcome.OK)


async def test_the_end_sends_what_is_there(tmp_path: Path) -> None:
    async with listening(tmp_path) as core:
        async with Reporter(core.address, every_s=60) as reporter:
            call(reporter, 7)
            await until("it is connected", lambda: core.streams == 1)
        assert core.attempts("api-1") == 7
        assert (reporter.sent, reporter.dropped) == (1, 0)


async def test_a_program_of_one_call_is_heard(tmp_path: Path) -> None:
    """It ends before the connection is there."""
    async with listening(tmp_path) as core:
        async with Reporter(core.address) as reporter:
            call(reporter)
        assert core.attempts("api-1") == 1


@pytest.mark.parametrize("cores", [NOBODY, (NOBODY, NOBODY), "no such name.invalid:1"])
async def test_no_core_no_delay(cores: str) -> None:
    began = time.monotonic()
    async with Reporter(cores, every_s=EVERY_S) as reporter:
        call(reporter, 10)
        await asyncio.sleep(3 * EVERY_S)
    assert time.monotonic() - began < 3 * EVERY_S + 3
    assert reporter.sent == 0
    assert reporter.dropped >= 1


async def test_a_core_that_hangs_delays_no_end(tmp_path: Path) -> None:
    async with listening(tmp_path, silent=True) as core:
        async with Reporter(core.address, every_s=EVERY_S) as reporter:
            call(reporter)
            await until("it was told", lambda: len(core.batches) == 1)
            began = time.monotonic()
        assert time.monotonic() - began < 3
        assert (reporter.sent, reporter.dropped) == (0, 1)


async def test_what_waits_is_bounded_and_what_goes_is_told(tmp_path: Path) -> None:
    async with listening(tmp_path) as core:
        await core.stop()
        async with Reporter(core.address, every_s=0.05) as reporter:
            for _ in range(40):
                call(reporter)
                await asyncio.sleep(0.05)
            assert "5 waiting" in repr(reporter)
            assert reporter.dropped > 10
            await core.start()
            await until("it is heard", lambda: len(core.batches) > 0)
            # The newest windows came as one batch, and it says that others did not.
            assert 1 <= core.batches[0].outcomes[0].attempts <= 10
            await until("it was told", lambda: _told(core) == reporter.dropped)


def _told(core: Listener) -> int:
    return sum(batch.dropped for batch in core.batches)


async def test_a_core_that_comes_again_hears_at_once(tmp_path: Path) -> None:
    async with listening(tmp_path) as core, Reporter(core.address, every_s=EVERY_S) as reporter:
        for _ in range(3):
            heard = len(core.batches)
            call(reporter)
            await until("it is heard", lambda: len(core.batches) > heard)  # noqa: B023
            await core.stop()
            call(reporter)
            await asyncio.sleep(0.5)
            began = time.monotonic()
            await core.start()
            heard = len(core.batches)
            call(reporter)
            await until("it is heard again", lambda: len(core.batches) > heard)  # noqa: B023
            assert time.monotonic() - began < 5


async def test_cores_are_tried_in_turn(tmp_path: Path) -> None:
    async with (
        listening(tmp_path) as core,
        Reporter([NOBODY, core.address], every_s=EVERY_S) as reporter,
    ):
        call(reporter)
        await until("it is heard", lambda: core.attempts("api-1") == 1)


async def test_the_core_says_how_often(tmp_path: Path) -> None:
    async with (
        listening(tmp_path, every_s=30.0) as core,
        Reporter(core.address, every_s=EVERY_S) as reporter,
    ):
        call(reporter)
        await until("it is told", lambda: reporter.every_s == 30.0)
        call(reporter)
        await asyncio.sleep(5 * EVERY_S)
        assert len(core.batches) <= 2


@pytest.mark.parametrize("every_s", [0.0, -1.0, float("nan"), float("inf"), 1e9])
async def test_a_rate_that_cannot_be_is_none(tmp_path: Path, every_s: float) -> None:
    async with (
        listening(tmp_path, every_s=every_s) as core,
        Reporter(core.address, every_s=EVERY_S) as reporter,
    ):
        call(reporter)
        await until("it is told", lambda: reporter.sent == 1)
        assert reporter.every_s == EVERY_S


async def test_a_reporter_is_a_voice(tmp_path: Path) -> None:
    async with listening(tmp_path) as core:
        for voice in ("", "", "mine"):
            async with Reporter(core.address, voice=voice) as reporter:
                call(reporter)
        assert len({batch.reporter for batch in core.batches}) == 3
        assert core.batches[-1].reporter == "mine"


async def test_without_asyncio(tmp_path: Path) -> None:
    async with listening(tmp_path) as core:

        def program() -> None:
            with BlockingReporter(core.address) as reporter:
                call(reporter, 3)
                reporter.began(ONE)
                reporter.ended(ONE)
            assert "1 sent" in repr(reporter)

        await asyncio.to_thread(program)
        assert core.attempts("api-1") == 3
