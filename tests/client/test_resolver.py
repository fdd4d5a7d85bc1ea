"""A list that is kept fresh: DNS that goes, lies and comes again."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import dns.rcode
import pytest

from meshd.client.lookup import Answer, Denied, Sought, Unresolved
from meshd.client.resolver import Resolver, lookup_of, resolve_service
from meshd.core.errors import Invalid
from tests.client.names import NAME, Names, Place, answering
from tests.daemon.cores import core, until

ONE, TWO, THREE = (Place(f"api-eu-{n}", f"127.0.1.{n}", 8000 + n) for n in (1, 2, 3))


class Seen(list[set[str]]):
    """The instances of each answer."""

    def __call__(self, answer: Answer) -> None:
        self.append({endpoint.instance for endpoint in answer.endpoints})


@asynccontextmanager
async def resolving(
    names: Names, patience_s: float = 30.0, name: str = NAME
) -> AsyncIterator[tuple[Resolver, Seen]]:
    seen = Seen()
    lookup = lookup_of(Sought(name, "http"), names.address, None)
    async with Resolver(lookup, seen, patience_s) as resolver:
        yield resolver, seen


async def test_changes_come_with_the_ttl() -> None:
    async with answering(ONE) as names, resolving(names) as (resolver, seen):
        assert seen == [{"api-eu-1"}]
        names.put(ONE, TWO)
        began = time.monotonic()
        await until("both are known", lambda: seen[-1] == {"api-eu-1", "api-eu-2"})
        # A second, and early.
        assert time.monotonic() - began > 0.3
        assert repr(resolver) == "<Resolver 2 endpoints>"


async def test_one_question_at_a_time_before_the_ttl_ends() -> None:
    async with answering(ONE) as names, resolving(names):
        await asyncio.sleep(3.2)
        assert 3 <= len(names.asked) <= 5


async def test_dns_that_is_down_loses_nothing() -> None:
    async with answering(ONE) as names, resolving(names, patience_s=0.1) as (resolver, seen):
        for rcode in (None, dns.rcode.SERVFAIL):
            names.rcode = rcode
            if rcode is None:
                names.stop()
            await until("it was noticed", lambda: isinstance(resolver.error, Unresolved))
            await asyncio.sleep(1.0)
            assert [each.instance for each in resolver.answer.endpoints] == ["api-eu-1"]
            assert not resolver.is_stale
            if rcode is None:
                await names.start()
                await until("it is back", lambda: resolver.error is None)
        names.put(TWO)
        names.rcode = None
        await until("what is new is known", lambda: seen[-1] == {"api-eu-2"})
        assert set() not in seen


async def test_a_denied_name_is_stale_in_time_and_keeps_its_list() -> None:
    async with answering(ONE) as names, resolving(names, patience_s=1.0) as (resolver, seen):
        names.rcode = dns.rcode.NXDOMAIN
        await until("it was noticed", lambda: isinstance(resolver.error, Denied))
        assert not resolver.is_stale
        denied_at = time.monotonic()
        await until("it is believed", lambda: resolver.is_stale)
        assert time.monotonic() - denied_at > 0.5
        assert "stale: " in repr(resolver)
        assert [each.instance for each in resolver.answer.endpoints] == ["api-eu-1"]
        names.rcode = None
        await until("it is there again", lambda: not resolver.is_stale)
        assert seen[-1] == {"api-eu-1"}


async def test_who_is_in_a_hurry_asks_soon_but_not_always() -> None:
    async with answering(ONE) as names:
        lookup = lookup_of(Sought(NAME, "http"), names.address, None)

        async def long() -> Answer:
            return Answer((await lookup()).endpoints, 60.0)

        async with Resolver(long, Seen()) as resolver:
            for _ in range(50):
                resolver.hurry()
                await asyncio.sleep(0.05)
            assert 2 <= len(names.asked) <= 4


async def test_without_a_first_answer_there_is_nothing() -> None:
    async with answering(ONE) as names:
        with pytest.raises(Denied):
            async with resolving(names, name="none.mesh.internal"):
                pass
        names.stop()
        with pytest.raises(Unresolved):
            async with resolving(names):
                pass


async def test_a_fault_of_a_lookup_does_not_end_it(caplog: pytest.LogCaptureFixture) -> None:
    answers = iter([Answer((), 0.0)])

    async def once() -> Answer:
        return next(answers, None) or 1 / 0  # type: ignore[return-value]

    async with Resolver(once, Seen()) as resolver:
        await until("it was noticed", lambda: resolver.error is not None)
    assert "a lookup failed" in caplog.text


async def test_once(tmp_path: Path) -> None:
    async with answering(ONE, TWO) as names:
        answer = await resolve_service(NAME, dns=names.address)
        assert {each.instance for each in answer.endpoints} == {"api-eu-1", "api-eu-2"}
    async with core(tmp_path) as made:
        await made.apply()
        assert (await resolve_service(f"{NAME}.", cores=[made.address])).endpoints
    with pytest.raises(Invalid, match="not both"):
        await resolve_service(NAME, dns="127.0.0.1", cores="127.0.0.1:7700")
