"""One thing for each instance, closed when it is not wanted any more."""

import asyncio
from dataclasses import replace

from meshd.client.endpoint import Endpoint
from meshd.client.kept import Kept
from tests.daemon.cores import until

A = Endpoint("a", "10.0.0.1", 80, "api.mesh.internal")
B = Endpoint("b", "10.0.0.2", 80, "api.mesh.internal")


class Closed(list[str]):
    """What was closed."""

    async def close(self, held: str) -> None:
        await asyncio.sleep(0)
        self.append(held)


def kept(closed: Closed) -> Kept[str]:
    return Kept(lambda endpoint: endpoint.address, closed.close)


async def test_made_once_and_kept() -> None:
    closed = Closed()
    made = kept(closed)
    one, other = made.take(A), made.take(replace(A, weight=7, tier=3))
    assert one is other
    assert one.held == "10.0.0.1"
    made.give(one)
    made.give(other)
    made.keep([A, B])
    await made.close()
    assert closed == ["10.0.0.1"]


async def test_who_has_gone_is_let_go_when_nobody_uses_it() -> None:
    closed = Closed()
    made = kept(closed)
    used, idle = made.take(A), made.take(B)
    made.give(idle)
    made.keep([])
    await until("the idle one is closed", lambda: closed == ["10.0.0.2"])
    made.give(used)
    await until("the used one is closed", lambda: closed == ["10.0.0.2", "10.0.0.1"])
    assert len(made) == 0


async def test_an_instance_that_moved_is_another() -> None:
    closed = Closed()
    made = kept(closed)
    before = made.take(A)
    moved = replace(A, address="10.0.0.9")
    made.keep([moved])
    after = made.take(moved)
    assert (before.held, after.held, closed) == ("10.0.0.1", "10.0.0.9", [])
    made.give(before)
    await made.close()
    assert sorted(closed) == ["10.0.0.1", "10.0.0.9"]
