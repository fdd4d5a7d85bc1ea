"""The library against a core in this process: cores that go, come, hang, refuse and replace."""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from meshd.client import (
    Announced,
    BlockingRegistration,
    Refused,
    Registration,
    Replaced,
    Standing,
    Unreachable,
)
from tests.daemon.cores import DOCUMENT, Core, core, until

NAME = "api-eu-9"
SHORT = DOCUMENT.replace("ttl: {min: 5, max: 60}", "ttl: {min: 1, max: 3}")
NOBODY = "127.0.0.1:1"


def says(**more: Any) -> Any:
    """What the program says of itself."""
    told: Announced = {
        "name": NAME,
        "service": "api",
        "version": "1.2.0",
        "addresses": ["10.1.0.99"],
        "lease_s": 1.0,
    }
    return {**told, **more}


def load_of(made: Core) -> float | None:
    signal = made.state.snapshot.signals.get(NAME)
    return signal.load if signal else None


async def test_it_registers_beats_and_leaves(tmp_path: Path) -> None:
    async with core(tmp_path) as made:
        await made.apply()
        async with Registration(made.address, load=0.3, in_flight=4, **says()) as registration:
            assert registration.state is Standing.REGISTERED
            assert repr(registration).startswith(f"<Registration {NAME}: registered at unix:")
            await until("the load came", lambda: load_of(made) == 0.3)
            assert made.pump.observed.told[NAME].in_flight == 4
            registration.load = lambda: 0.8
            await until("the next load came", lambda: load_of(made) == 0.8)
            epoch = made.state.snapshot.topology.presence[NAME].epoch
            await asyncio.sleep(1.5)
            assert made.state.snapshot.topology.presence[NAME].epoch == epoch
        assert made.verdict() is None
        assert ": left" in repr(registration)


@pytest.mark.parametrize("load", [lambda: 1 / 0, lambda: None, float("nan"), -1.0])
async def test_a_figure_that_cannot_be_had_is_none(tmp_path: Path, load: float) -> None:
    async with core(tmp_path) as made:
        await made.apply()
        async with Registration(made.address, load=load, **says()) as registration:
            await asyncio.sleep(1.0)
            assert registration.state is Standing.REGISTERED
            assert not load_of(made)


async def test_an_exception_is_down_and_remembered(tmp_path: Path) -> None:
    async with core(tmp_path) as made:
        await made.apply()
        with pytest.raises(ZeroDivisionError):
            async with Registration(made.address, **says()):
                raise ZeroDivisionError
        await until("it is down", lambda: made.verdict() == "down")


async def test_a_core_that_comes_again_finds_it_unchanged(tmp_path: Path) -> None:
    async with core(tmp_path) as made:
        await made.apply()
        async with Registration(made.address, **says(lease_s=30.0)) as registration:
            epoch = made.state.snapshot.topology.presence[NAME].epoch
            for _ in range(2):
                await made.server.stop(0)
                async with asyncio.timeout(10):
                    await registration.reached(Standing.CONNECTING)
                assert made.verdict() == "up"
                await asyncio.sleep(0.5)
                await made.serve()
                async with asyncio.timeout(10):
                    await registration.reached(Standing.REGISTERED)
                assert made.verdict() == "up"
            assert made.state.snapshot.topology.presence[NAME].epoch == epoch


async def test_a_program_starts_without_a_core(tmp_path: Path) -> None:
    async with core(tmp_path) as made:
        await made.apply()
        await made.server.stop(0)
        began = time.monotonic()
        async with Registration(made.address, **says()) as registration:
            assert time.monotonic() - began < 5.0
            assert registration.state is Standing.CONNECTING
            assert isinstance(registration.error, Unreachable)
            await made.serve()
            async with asyncio.timeout(10):
                await registration.reached(Standing.REGISTERED)
            assert registration.error is None


async def test_must_waits_for_the_core(tmp_path: Path) -> None:
    async with core(tmp_path) as made:
        await made.apply()
        await made.server.stop(0)
        entering = asyncio.create_task(_entered(Registration(made.address, must=True, **says())))
        await asyncio.sleep(1.0)
        assert not entering.done()
        await made.serve()
        async with asyncio.timeout(10):
            assert await entering is Standing.REGISTERED


async def _entered(registration: Registration) -> Standing:
    async with registration:
        return registration.state


async def test_must_does_not_wait_for_ever() -> None:
    with pytest.raises(Unreachable, match="UNAVAILABLE"):
        await _entered(Registration(NOBODY, must=True, **says()))


async def test_cores_are_tried_in_turn(tmp_path: Path) -> None:
    async with core(tmp_path) as made:
        await made.apply()
        async with Registration([NOBODY, made.address], **says()) as registration:
            async with asyncio.timeout(10):
                await registration.reached(Standing.REGISTERED)
            assert made.address in repr(registration)


async def test_what_is_refused_is_raised_with_every_fault(tmp_path: Path) -> None:
    async with core(tmp_path) as made:
        await made.apply()
        wrong = says(version="new", service="none")
        with pytest.raises(Refused) as refused:
            async with Registration(made.address, **wrong):
                pass
        assert len(refused.value.faults) == 2
        with pytest.raises(Refused, match="belongs to the topology document"):
            async with Registration(made.address, **says(name="api-eu-1")):
                pass


async def test_a_replaced_one_stops_for_good(tmp_path: Path) -> None:
    async with core(tmp_path) as made:
        await made.apply()
        async with (
            Registration(made.address, **says()) as first,
            Registration(made.address, **says()) as second,
        ):
            async with asyncio.timeout(10):
                await first.reached(Standing.REPLACED)
            with pytest.raises(Replaced):
                await first.drain(5)
            assert second.state is Standing.REGISTERED
            revision = made.state.snapshot.topology.revision
            await asyncio.sleep(2.0)
            assert made.state.snapshot.topology.revision == revision, "nobody wrote"
        assert first.state is Standing.REPLACED
        assert made.verdict() is None


async def test_drain_waits_until_no_client_can_come(tmp_path: Path) -> None:
    async with core(tmp_path) as made:
        await made.apply(SHORT)
        async with Registration(made.address, **says()) as registration:
            assert not await registration.drain(0.5)
            assert made.verdict() == "draining"
            began = time.monotonic()
            assert await registration.drain(30)
            assert time.monotonic() - began > 1.0
            assert registration.safe_in_s == 0.0


async def test_without_asyncio(tmp_path: Path) -> None:
    async with core(tmp_path) as made:
        await made.apply(SHORT)

        def program() -> None:
            with BlockingRegistration(made.address, load=0.2, **says()) as registration:
                assert registration.state is Standing.REGISTERED
                registration.load = 0.7
                assert registration.load == 0.7
                assert registration.drain(30)
            assert repr(registration) == f"<Registration {NAME}: left, draining>"

        running = asyncio.create_task(asyncio.to_thread(program))
        await until("the load came", lambda: load_of(made) == 0.7 or running.done())
        await running
        assert made.verdict() is None
