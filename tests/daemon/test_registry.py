"""Registration over a real socket: what processes may rely on, whoever dies first."""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from meshd.core.topology import Kind
from meshd.daemon.forget import absent, forget_absent
from meshd.v1 import registry_pb2, resolver_pb2
from meshd.wire.records import kind_and_name
from tests.daemon.cores import DOCUMENT, Core, Process, code_of, core, until

NAME = "api-eu-9"
LONG_S = 60.0


def is_present(made: Core, name: str = NAME) -> bool:
    return name in made.state.snapshot.topology.presence


async def test_hello_beats_and_leave(tmp_path: Path) -> None:
    async with core(tmp_path) as made:
        await made.apply()
        process = await made.register()
        welcome = process.welcome
        assert (welcome.instance.pop, welcome.instance.registered) == ("eu", True)
        assert (welcome.lease_s, welcome.beat_every_s) == (1.0, pytest.approx(1 / 3))
        await process.beat(0.95)
        await until("the load counts", lambda: NAME in made.state.snapshot.signals)
        request = resolver_pb2.ExplainRequest(name="api.mesh.internal", client="10.1.0.7")
        found = await made.resolver.Explain(request)
        (line,) = [each for each in found.instances if each.instance == NAME]
        assert (line.load, line.verdict) == (0.95, "up")
        await process.leave()
        assert made.verdict() is None
        assert not is_present(made)


async def test_beats_keep_a_lease_and_write_nothing(tmp_path: Path) -> None:
    async with core(tmp_path) as made:
        await made.apply()
        process = await made.register()
        revision = made.state.snapshot.topology.revision
        for _ in range(8):
            await asyncio.sleep(0.25)
            await process.beat()
        assert made.state.snapshot.topology.revision == revision
        assert is_present(made)


async def test_a_stream_that_ends_without_a_leave_is_down_at_once(tmp_path: Path) -> None:
    async with core(tmp_path) as made:
        await made.apply()
        process = await made.register(lease_s=LONG_S)
        process.vanish()
        await until("it is down", lambda: made.verdict() == "down")
        assert made.server.registry.streams == 0


async def test_a_process_that_dies_while_it_registers_leaves_no_presence(tmp_path: Path) -> None:
    async with core(tmp_path) as made:
        await made.apply()
        for wait_s in (0.001, 0.002, 0.003, 0.005, 0.01):
            process = Process(made, NAME)
            asking = asyncio.create_task(process.hello(lease_s=LONG_S))
            await asyncio.sleep(wait_s)
            process.vanish()
            await asyncio.wait([asking], timeout=5)
            asking.cancel()
        await until("nobody is registered", lambda: made.server.registry.streams == 0)
        await until("nobody is present", lambda: not is_present(made))


async def test_silence_is_down_within_the_lease_and_the_stream_is_dropped(tmp_path: Path) -> None:
    async with core(tmp_path) as made:
        await made.apply()
        process = await made.register(lease_s=1.5)
        began = time.monotonic()
        await until("it is down", lambda: made.verdict() == "down")
        assert 1.4 < time.monotonic() - began < 1.5 + 1.0
        code, details = await code_of(process.hear())
        assert (code, "nothing was heard" in details) == ("UNAVAILABLE", True)
        assert made.server.registry.streams == 0
        again = await made.register(epoch=process.welcome.epoch)
        assert (made.verdict(), again.welcome.epoch) == ("up", process.welcome.epoch)


async def test_a_core_that_stood_still_drops_nobody(tmp_path: Path) -> None:
    async with core(tmp_path) as made:
        await made.apply()
        process = await made.register()
        time.sleep(2.5)  # noqa: ASYNC251 - nothing of this core runs meanwhile
        for _ in range(4):
            await process.beat()
            assert made.verdict() == "up"
            await asyncio.sleep(0.3)


async def test_a_server_that_stops_takes_nobody_along(tmp_path: Path) -> None:
    async with core(tmp_path) as made:
        await made.apply()
        process = await made.register(lease_s=LONG_S)
        await made.server.stop(0)
        await asyncio.sleep(0.3)
        assert made.verdict() == "up"
        revision = made.state.snapshot.topology.revision
        await made.serve()
        await made.register(epoch=process.welcome.epoch)
        changed = (await made.store.history(1))[0].edits
        assert made.state.snapshot.topology.revision == revision + 1
        assert all(edit.before == edit.after for edit in changed)


async def test_the_newer_process_holds_whoever_dies_first(tmp_path: Path) -> None:
    async with core(tmp_path) as made:
        await made.apply()
        first = await made.register(lease_s=LONG_S)
        second = await made.register(lease_s=LONG_S, addresses=["10.1.0.98"])
        assert second.welcome.epoch > first.welcome.epoch
        code, details = await code_of(first.beat(0.5))
        assert (code, "this one was replaced" in details) == ("ABORTED", True)
        assert (await code_of(made.register(epoch=first.welcome.epoch)))[0] == "ABORTED"
        third = await made.register(lease_s=LONG_S)
        revision = made.state.snapshot.topology.revision
        second.vanish()
        await until("its stream is gone", lambda: made.server.registry.streams == 1)
        await third.beat(0.5)
        assert made.state.snapshot.topology.revision == revision, "it took nothing along"
        assert is_present(made)
        third.vanish()
        await until("the last one is missed", lambda: made.verdict() == "down")


async def test_a_replaced_process_cannot_make_the_newer_one_leave(tmp_path: Path) -> None:
    async with core(tmp_path) as made:
        await made.apply()
        first = await made.register(lease_s=LONG_S)
        second = await made.register(lease_s=LONG_S)
        await first.say(leave=registry_pb2.Leave())
        assert (await code_of(first.hear()))[0] == "ABORTED"
        await second.beat()
        assert is_present(made)


async def test_epochs_rise_over_forgotten_instances(tmp_path: Path) -> None:
    """Else two processes, both first under their name, would count as one."""
    async with core(tmp_path) as made:
        await made.apply()
        first = await made.register(lease_s=LONG_S)
        second = await made.register(lease_s=LONG_S)
        await second.leave()
        third = await made.register(lease_s=LONG_S)
        epochs = [process.welcome.epoch for process in (first, second, third)]
        assert epochs == sorted(set(epochs))
        assert (await code_of(made.register(epoch=first.welcome.epoch)))[0] == "ABORTED"


async def test_two_at_the_same_moment_take_turns(tmp_path: Path) -> None:
    async with core(tmp_path) as made:
        await made.apply()
        both = await asyncio.gather(*(made.register(lease_s=LONG_S) for _ in range(2)))
        older, newer = sorted(both, key=lambda process: int(process.welcome.epoch))
        await newer.beat()
        assert (await code_of(older.beat()))[0] == "ABORTED"
        owners = [
            edit.after
            for entry in await made.store.history()
            for edit in entry.edits
            if kind_and_name(edit.key) == (Kind.PRESENCE, NAME)
        ]
        assert len(owners) == 2


@pytest.mark.parametrize(
    ("told", "code"),
    [
        ({"name": "api-eu-1"}, "ALREADY_EXISTS"),
        ({"service": "none"}, "INVALID_ARGUMENT"),
        ({"pop": "mars"}, "INVALID_ARGUMENT"),
        ({"version": "new"}, "INVALID_ARGUMENT"),
        ({"addresses": []}, "INVALID_ARGUMENT"),
        ({"addresses": ["127.0.0.256"]}, "INVALID_ARGUMENT"),
        ({"ports": {"grpc": 1}}, "INVALID_ARGUMENT"),
        ({"capacity": float("nan")}, "INVALID_ARGUMENT"),
        ({"name": "UPPER"}, "INVALID_ARGUMENT"),
        ({"lease_s": 0.5}, "INVALID_ARGUMENT"),
        ({"lease_s": float("nan")}, "INVALID_ARGUMENT"),
    ],
)
async def test_wrong_registrations(tmp_path: Path, told: dict[str, Any], code: str) -> None:
    async with core(tmp_path) as made:
        await made.apply()
        assert (await code_of(made.register(**told)))[0] == code
        assert made.state.snapshot.topology.revision == 1


async def test_who_gives_no_pop_must_be_in_a_range(tmp_path: Path) -> None:
    async with core(tmp_path) as made:
        await made.apply("\n".join(line for line in DOCUMENT.splitlines() if "/0" not in line))
        told: dict[str, Any] = {"addresses": ["192.0.2.7"], "version": "new"}
        code, details = await code_of(made.register(**told))
        assert (code, len(details.splitlines())) == ("INVALID_ARGUMENT", 2)
        assert "no range holds 192.0.2.7" in details


async def test_every_fault_of_a_hello_is_told(tmp_path: Path) -> None:
    async with core(tmp_path) as made:
        await made.apply()
        wrong: dict[str, Any] = {
            "service": "none",
            "version": "new",
            "capacity": -1.0,
            "lease_s": 1000.0,
        }
        addresses = ["nowhere", "0.0.0.0"]
        code, details = await code_of(made.register(addresses=addresses, **wrong))
        assert code == "INVALID_ARGUMENT"
        for word in ("'new'", "'nowhere'", "0.0.0.0", "capacity", "lease_s"):
            assert details.count(word) == 1, details
        assert len(details.splitlines()) == 5
        references: dict[str, Any] = {"service": "none", "pop": "mars", "version": "new"}
        _, details = await code_of(made.register(**references))
        assert len(details.splitlines()) == 3, details


@pytest.mark.parametrize("load", [float("nan"), float("inf"), -0.1])
async def test_wrong_loads(tmp_path: Path, load: float) -> None:
    async with core(tmp_path) as made:
        await made.apply()
        process = await made.register()
        signals = made.state.snapshot.signals
        assert (await code_of(process.beat(load)))[0] == "INVALID_ARGUMENT"
        assert made.state.snapshot.signals == signals
        process = Process(made, "other")
        hello = registry_pb2.Hello(beat=registry_pb2.Heartbeat(load=load))
        await process.say(hello=hello)
        code, details = await code_of(process.hear())
        assert (code, "load" in details) == ("INVALID_ARGUMENT", True)


async def test_who_says_no_hello_is_sent_away(tmp_path: Path) -> None:
    async with core(tmp_path) as made:
        await made.apply()
        assert (await code_of(Process(made, NAME).beat()))[0] == "INVALID_ARGUMENT"
        process = await made.register()
        await process.say(hello=registry_pb2.Hello())
        assert (await code_of(process.hear()))[0] == "INVALID_ARGUMENT"


async def test_a_lame_duck_drains_and_is_told_how_long(tmp_path: Path) -> None:
    async with core(tmp_path) as made:
        await made.apply(DOCUMENT.replace("ttl: {min: 5, max: 60}", "ttl: {min: 1, max: 3}"))
        process = await made.register(lease_s=LONG_S)
        assert not (await process.beat()).HasField("safe_in_s")
        first = (await process.beat(lame_duck=True)).safe_in_s
        assert 1.0 < first < 10.0
        await until("it drains", lambda: made.verdict() == "draining")
        began = time.monotonic()
        while (await process.beat(lame_duck=True)).safe_in_s > 0:
            assert time.monotonic() - began < 15, "it is never safe"
            await asyncio.sleep(0.1)
        assert time.monotonic() - began > 1.0, "safe before its answers have run out"
        await process.beat()
        await until("it thought better of it", lambda: made.verdict() == "up")


async def test_who_stays_away_is_forgotten_but_for_the_last(tmp_path: Path) -> None:
    async with core(tmp_path) as made:
        await made.apply(DOCUMENT.partition("instances:")[0])
        for name in ("a", "b", "c"):
            process = await made.register(name, addresses=[f"10.1.0.{ord(name)}"])
            process.vanish()
        forgetting = asyncio.create_task(forget_absent(made.store, made.state, 0.2))
        state = made.state
        await until("nobody is present", lambda: not state.snapshot.topology.presence)
        await until("two are forgotten", lambda: len(state.snapshot.topology.instances) == 1)
        await asyncio.sleep(0.5)
        assert list(state.snapshot.topology.instances) == ["a"]
        assert absent(made.state.snapshot) == frozenset()
        forgetting.cancel()


async def test_processes_stay_ready_while_the_store_is_away(tmp_path: Path) -> None:
    """Leases run out that nobody can renew: only whose stream is gone is down, and not at once."""
    names = [f"api-eu-1{number}" for number in range(5)]
    ready: list[list[bool]] = []

    def look() -> None:
        verdicts = [made.verdict(name) for name in names]
        ready.append([bool(verdict and verdict.is_ready) for verdict in verdicts])

    async def watch() -> None:
        while True:
            await made.state.moved()
            look()

    async with core(tmp_path, hold_down_s=3.0) as made:
        await made.apply()
        processes = [
            await made.register(name, addresses=[f"10.1.0.{at + 10}"])
            for at, name in enumerate(names)
        ]
        watching = asyncio.create_task(watch())
        with made.store.away():
            processes[-1].vanish()
            for _ in range(10):
                await asyncio.gather(*(process.beat() for process in processes[:-1]))
                look()
                await asyncio.sleep(0.25)
        back = time.monotonic()
        leases = {name: made.state.leases[name].lease for name in names}
        while made.verdict(names[-1]) != "down":
            assert time.monotonic() - back < 15, "whose stream is gone is never down"
            await asyncio.gather(*(process.beat() for process in processes[:-1]))
            await asyncio.sleep(0.25)
        assert time.monotonic() - back > 2.0, "a loss just after the store was away is not believed"
        await asyncio.sleep(0.5)
        watching.cancel()
        assert all(all(seen[:-1]) for seen in ready), "whoever is there stays ready"
        assert all(is_present(made, name) for name in names[:-1])
        assert all(made.state.leases[name].lease != leases[name] for name in names[:-1])


async def test_too_many_processes_leave_room_for_others(tmp_path: Path) -> None:
    async with core(tmp_path) as made:
        await made.apply()
        made.server.registry.most_streams = 2
        for name in ("a", "b"):
            await made.register(name)
        assert (await code_of(made.register("c")))[0] == "RESOURCE_EXHAUSTED"
        request = resolver_pb2.ResolveRequest(name="api.mesh.internal", client="10.1.0.7")
        assert (await made.resolver.Resolve(request)).status == "found"


async def test_the_more_there_are_the_less_often_they_beat(tmp_path: Path) -> None:
    async with core(tmp_path) as made:
        await made.apply()
        made.server.registry.beats_per_s = 3.0
        few = await made.register("a", lease_s=1.0)
        for name in ("b", "c", "d"):
            many = await made.register(name, lease_s=1.0)
        assert few.welcome.lease_s == 1.0
        assert many.welcome.lease_s == 3.0
        await few.say(beat=registry_pb2.Heartbeat())
        assert (await few.hear()).welcome.lease_s == 4.0
        await few.beat()
        await asyncio.sleep(2.0)
        assert is_present(made, "a"), "silence is forgiven for longer"
        assert is_present(made, "d")
