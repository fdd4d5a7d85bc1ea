"""A service's endpoints, kept fresh in the background; what was known once is never lost."""

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable
from typing import Self

from meshd.client import freshness
from meshd.client.ask_core import CoreLookup
from meshd.client.ask_dns import DnsLookup
from meshd.client.lookup import Answer, Denied, Lookup, Sought, Unresolved
from meshd.core.errors import Invalid, MeshError

log = logging.getLogger(__name__)

PATIENCE_S = 30.0
# However often somebody is in a hurry, nobody is asked more often.
_LEAST_GAP_S = 1.0

Addresses = str | tuple[str, ...] | list[str]


def lookup_of(
    sought: Sought, dns: Addresses | None, cores: Addresses | None, client: str = ""
) -> Lookup:
    """Who is asked: cores if any are given, else DNS servers, else those of the system."""
    if dns and cores:
        raise Invalid("either dns or cores is asked, not both")
    if cores:
        return CoreLookup(sought, listed(cores), client)
    return DnsLookup(sought, listed(dns))


def listed(addresses: Addresses | None) -> tuple[str, ...]:
    """One address or several as several."""
    return (addresses,) if isinstance(addresses, str) else tuple(addresses or ())


async def resolve_service(
    name: str,
    port: str | int = "http",
    *,
    dns: Addresses | None = None,
    cores: Addresses | None = None,
) -> Answer:
    """Ask once: the endpoints, best first, and how long they hold. Unresolved or Denied."""
    return await lookup_of(Sought(name.rstrip("."), port), dns, cores)()


class Resolver:
    """Asks on entry and again before each answer ends, while the context is open.

    On entry Unresolved or Denied is raised if there is no answer; after that `answer` is the last
    that was had, however long nobody answers. `is_stale`: the name is denied since `patience_s`.
    """

    def __init__(
        self,
        lookup: Lookup,
        on_answer: Callable[[Answer], None],
        patience_s: float = PATIENCE_S,
    ) -> None:
        self.answer = Answer((), 0.0)
        # Why the last attempt had none; None if it had.
        self.error: MeshError | None = None
        self._lookup = lookup
        self._on_answer = on_answer
        self._patience_s = patience_s
        self._known = freshness.Freshness()
        self._asked_at = 0.0
        self._hurry = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        stale = ", stale" if self.is_stale else ""
        why = f": {self.error}" if self.error else ""
        return f"<Resolver {len(self.answer.endpoints)} endpoints{stale}{why}>"

    @property
    def is_stale(self) -> bool:
        """True if it was said for long enough that there is no such service any more."""
        return self._known.is_stale

    async def __aenter__(self) -> Self:
        await self._refresh()
        if self.error is not None:
            raise self.error
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def hurry(self) -> None:
        """Ask soon, whatever thread says so: what was answered does not work."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._hurry.set)

    async def _run(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(self._known.due):
                    await self._hurry.wait()
            loop = asyncio.get_running_loop()
            await asyncio.sleep(max(0.0, self._asked_at + _LEAST_GAP_S - loop.time()))
            self._hurry.clear()
            await self._refresh()

    async def _refresh(self) -> None:
        """Ask once, and remember what came of it."""
        loop = asyncio.get_running_loop()
        was_stale = self.is_stale
        self._asked_at = loop.time()
        try:
            answer = await self._lookup()
        except Denied as error:
            self._known = freshness.denied(
                self._known, loop.time(), random.random(), self._patience_s
            )
            self._note(error)
        except Exception as error:
            # One that is no MeshError is a fault of this library: it must not end the refreshing.
            is_ours = isinstance(error, MeshError)
            if not is_ours:
                log.exception("a lookup failed: %r", self._lookup)
            self._known = freshness.unanswered(self._known, loop.time(), random.random())
            self._note(error if isinstance(error, MeshError) else Unresolved(repr(error)))
        else:
            self._known = freshness.answered(answer.ttl_s, loop.time(), random.random())
            self.answer, self.error = answer, None
            self._on_answer(answer)
        if self.is_stale and not was_stale:
            log.warning("no such service any more, its last list is kept: %s", self.error)

    def _note(self, error: MeshError) -> None:
        if self.error is None and self.answer.endpoints:
            log.warning("not refreshed: %s", error)
        self.error = error
