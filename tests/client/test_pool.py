"""Pools against real servers: use again, bounds, instances that go."""

import asyncio
import contextlib
from collections import Counter

import pytest

from meshd.client.choose import Strategy
from meshd.client.endpoint import Outcome
from meshd.client.lookup import Unresolved
from meshd.client.pool import Connection, Limits, Pools, select_connection
from tests.client.places import Echo, echoes
from tests.daemon.cores import until


async def ask(connection: Connection) -> str:
    """Who is at the other end."""
    connection.writer.write(b"who\n")
    async with asyncio.timeout(10):
        line = await connection.reader.readline()
    if not line:
        raise EOFError
    name, _, rest = line.decode().partition(" ")
    assert rest == "who\n"
    assert name == connection.endpoint.instance
    return name


async def once(pools: Pools, strategy: Strategy = Strategy.PREFERENCE) -> str:
    async with select_connection(pools, strategy) as connection:
        return await ask(connection)


def pools(echoed: list[Echo], **limits: float) -> Pools:
    made = Limits(**limits)  # type: ignore[arg-type]
    return Pools([each.endpoint for each in echoed], limits=made)


async def test_idle_connections_are_used_again() -> None:
    async with echoes() as made, pools(made) as under_test:
        found = Counter([await once(under_test, Strategy.ROUND_ROBIN) for _ in range(30)])
        assert found == {"api-eu-1": 10, "api-eu-2": 10, "api-eu-3": 10}
        assert [each.opened for each in made] == [1, 1, 1]
        assert repr(under_test) == (
            "<Pools of 3 instances, <Calls 3 endpoints, 0 closed, 0 in flight>>"
        )
    async with asyncio.timeout(10):
        while any(each.open for each in made):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_least_load() -> None:
    async with echoes() as made, pools(made) as under_test, contextlib.AsyncExitStack() as stack:
        held = []
        for _ in range(6):
            context = select_connection(under_test, Strategy.LEAST_LOAD)
            held.append(await stack.enter_async_context(context))
        counts = Counter(connection.endpoint.instance for connection in held)
        assert set(counts.values()) == {2}


async def test_who_refuses_is_passed_by_without_an_error() -> None:
    async with echoes() as made, pools(made) as under_test:
        await made[0].stop()
        found = Counter([await once(under_test, Strategy.ROUND_ROBIN) for _ in range(30)])
        assert found.keys() == {"api-eu-2", "api-eu-3"}
        await made[0].start()
        await until("it is closed no more", lambda: _is_open(under_test, made[0]))
        again = [await once(under_test, Strategy.ROUND_ROBIN) for _ in range(6)]
        assert "api-eu-1" in again


def _is_open(under_test: Pools, echo: Echo) -> bool:
    calls = under_test.calls
    return calls.state.track(echo.endpoint).closed_until <= calls.now()


async def test_if_all_refuse_it_is_an_error() -> None:
    async with echoes(2) as made, pools(made) as under_test:
        for each in made:
            await each.stop()
        with pytest.raises(ConnectionRefusedError):
            await once(under_test)
        await made[1].start()
        assert await once(under_test) == "api-eu-2"
    async with Pools() as none:
        with pytest.raises(Unresolved):
            await once(none)


async def test_a_restart_breaks_idle_connections_but_no_call() -> None:
    async with echoes(1) as made, pools(made) as under_test:
        assert await once(under_test) == "api-eu-1"
        await made[0].stop()
        await made[0].start()
        await asyncio.sleep(0.05)
        assert await once(under_test) == "api-eu-1"
        assert made[0].opened == 2


async def test_a_connection_is_not_used_again_after_an_error() -> None:
    async with echoes(1) as made, pools(made) as under_test:
        for error in (ZeroDivisionError, asyncio.CancelledError):
            with pytest.raises(error):
                async with under_test.connect():
                    raise error
        await until("both are closed", lambda: made[0].open == 0)
        track = under_test.calls.state.track(made[0].endpoint)
        assert (track.in_flight, track.failures) == (0, 1)


async def test_idle_ones_are_bounded_and_age() -> None:
    async with echoes(1) as made, pools(made, idle=2, idle_s=0.2) as under_test:
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(5):
                await stack.enter_async_context(under_test.connect())
            await until("all are open", lambda: made[0].open == 5)
        await until("two are left", lambda: made[0].open == 2)
        await asyncio.sleep(0.3)
        assert await once(under_test) == "api-eu-1"
        assert made[0].opened == 6


async def test_connections_are_bounded() -> None:
    async with echoes(1) as made, pools(made, connections=2, connect_s=5.0) as under_test:
        assert set(await asyncio.gather(*(once(under_test) for _ in range(50)))) == {"api-eu-1"}
        assert made[0].opened <= 2
    async with echoes(1) as made, pools(made, connections=1, connect_s=0.1) as under_test:
        async with under_test.connect():
            with pytest.raises(TimeoutError, match="are in use"):
                await once(under_test)
        assert await once(under_test) == "api-eu-1"
        assert under_test.calls.state.track(made[0].endpoint).failed_at < 0


async def test_pools_of_instances_that_have_gone_end_gently() -> None:
    async with echoes(2) as made, pools(made) as under_test:
        async with under_test.connect(Strategy.ROUND_ROBIN) as used:
            other = await once(under_test, Strategy.ROUND_ROBIN)
            assert other != used.endpoint.instance
            under_test.replace([])
            idle = next(each for each in made if each.name == other)
            await until("the idle one is closed", lambda: idle.open == 0)
            assert await ask(used) == used.endpoint.instance
        await until("the used one is closed", lambda: sum(each.open for each in made) == 0)
        assert under_test.calls.state.tracks == {}


async def test_what_is_in_use_when_all_ends_is_closed_when_it_comes_back() -> None:
    async with echoes(1) as made:
        under_test = pools(made)
        async with under_test.connect() as used:
            await under_test.__aexit__()
            assert await ask(used) == "api-eu-1"
        await until("it is closed", lambda: made[0].open == 0)


async def test_a_time_out_is_told_as_one() -> None:
    told: list[Outcome] = []

    class Told:
        def began(self, _: object) -> None: ...
        def ended(self, _: object) -> None: ...
        def note(self, _: object, outcome: Outcome, __: float) -> None:
            told.append(outcome)

    async with echoes(1) as made, pools(made) as under_test:
        under_test.calls.notes = Told()
        made[0].is_silent = True
        with pytest.raises(TimeoutError):
            async with under_test.connect() as connection, asyncio.timeout(0.1):
                await connection.reader.readline()
    assert told == [Outcome.TIMEOUT]
