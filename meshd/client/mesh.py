"""A service as a program sees it: whom to call now, connections to them, and how calls went."""

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    contextmanager,
)
from typing import Any, Self, TypedDict, TypeVar, Unpack

from meshd.client.calls import Call, Calls, Notes, settled
from meshd.client.choose import Strategy
from meshd.client.endpoint import Endpoint
from meshd.client.kept import Kept
from meshd.client.lookup import Answer, Sought, Unresolved
from meshd.client.loop_thread import LoopThread
from meshd.client.pool import Connection, Limits, Pools
from meshd.client.report import Reporter
from meshd.client.resolver import PATIENCE_S, Addresses, Resolver, listed, lookup_of

T = TypeVar("T")


class Ways(TypedDict, total=False):
    """How a service is found, and who is told how it is.

    `dns`: servers that are asked, `host:port` (those of the system); or `cores`: asked instead, as
    `client`, an address or a prefix (the own address). `port`: the name of one of the service's
    ports (http), or a number. `report`: cores that are told how calls went, or who else wants to
    know. `patience_s`: how long a name must be denied until its list is called stale (30).
    """

    dns: Addresses | None
    cores: Addresses | None
    client: str
    port: str | int
    strategy: Strategy
    report: Addresses | Notes | None
    patience_s: float


def check(ways: Ways) -> None:
    """Refuse what is no way, or cannot be one. TypeError, Invalid."""
    unknown = sorted(ways.keys() - Ways.__annotations__.keys())
    if unknown:
        raise TypeError(f"unexpected: {', '.join(unknown)}")
    lookup_of(Sought("localhost", 80), ways.get("dns"), ways.get("cores"))


class Mesh:
    """The instances of one service, kept fresh and learnt about while the context is open.

    Entering asks once: Unresolved or Denied if there is no answer. After that nothing that is
    away stops it: the last list is used for as long as it takes. `limits` and `tls` (spoken as the
    name of the service) are of `connect`.
    """

    def __init__(
        self,
        name: str,
        *,
        limits: Limits | None = None,
        tls: ssl.SSLContext | None = None,
        **ways: Unpack[Ways],
    ) -> None:
        check(ways)
        self.name = name.rstrip(".")
        sought = Sought(self.name, ways.get("port", "http"))
        lookup = lookup_of(sought, ways.get("dns"), ways.get("cores"), ways.get("client", ""))
        self.resolver = Resolver(lookup, self._replace, ways.get("patience_s", PATIENCE_S))
        strategy = ways.get("strategy", Strategy.PREFERENCE)
        self.calls = Calls(strategy=strategy, on_trouble=self.resolver.hurry)
        self.pools = Pools(calls=self.calls, limits=limits, tls=tls)
        self._kept: list[Kept[Any]] = []
        self._report = ways.get("report")
        self._stack = AsyncExitStack()

    def __repr__(self) -> str:
        return f"<Mesh {self.name}: {self.resolver!r}, {self.calls!r}>"

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            self.calls.notes = await stack.enter_async_context(noting(self._report))
            await stack.enter_async_context(self.pools)
            for kept in self._kept:
                stack.push_async_callback(kept.close)
            await stack.enter_async_context(self.resolver)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """All that are answered, best first."""
        return self.calls.state.endpoints

    @property
    def is_stale(self) -> bool:
        """True if the name is denied for so long that its list may be of what once was."""
        return self.resolver.is_stale

    @contextmanager
    def pick(self) -> Iterator[Endpoint]:
        """Whom to call, for any protocol; how the block ends is how the call went.

        TimeoutError and ConnectionRefusedError are what they say, any other exception a failure.
        """
        with settled(self.begin()) as endpoint:
            yield endpoint

    def begin(self) -> Call:
        """A call that says by itself how it ended. Unresolved if there are no endpoints."""
        call = self.calls.begin()
        if call is None:
            raise Unresolved(f"{self.name}: no endpoint is known")
        return call

    def connect(self) -> AbstractAsyncContextManager[Connection]:
        """A connection to whom it is best made, pooled by instance; see Pools.connect."""
        return self.pools.connect()

    def keep(self, make: Callable[[Endpoint], T], close: Callable[[T], Awaitable[None]]) -> Kept[T]:
        """One thing for each instance for as long as it is answered; to be said before entering."""
        kept = Kept(make, close)
        self._kept.append(kept)
        return kept

    def _replace(self, answer: Answer) -> None:
        self.pools.replace(answer.endpoints)
        for kept in self._kept:
            kept.keep(answer.endpoints)


class BlockingMesh:
    """As Mesh, without asyncio: a plain context manager that may be used by any thread."""

    def __init__(self, name: str, **ways: Unpack[Ways]) -> None:
        self._inner = Mesh(name, **ways)
        self._thread = LoopThread(f"meshd {name}")

    def __repr__(self) -> str:
        return repr(self._inner)

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            self._thread.wait(self._inner.__aenter__())
        except BaseException:
            self._thread.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._thread.wait(self._inner.__aexit__())
        finally:
            self._thread.stop()

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """All that are answered, best first."""
        return self._inner.endpoints

    @property
    def is_stale(self) -> bool:
        """As Mesh.is_stale."""
        return self._inner.is_stale

    @contextmanager
    def pick(self) -> Iterator[Endpoint]:
        """As Mesh.pick."""
        with self._inner.pick() as endpoint:
            yield endpoint


@asynccontextmanager
async def noting(report: Addresses | Notes | None) -> AsyncIterator[Notes | None]:
    """Who is told how calls went: a Reporter to these cores, or who is given."""
    if isinstance(report, str | list | tuple):
        async with Reporter(listed(report)) as reporter:
            yield reporter
    else:
        yield report
