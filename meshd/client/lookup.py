"""One question, to DNS or to a core: the endpoints of a service now, best first."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from meshd.client.endpoint import Endpoint
from meshd.core.errors import NotFound, Unavailable

# Of very many a client needs few.
MOST_ENDPOINTS = 32


class Unresolved(Unavailable):
    """Nobody could be asked for the endpoints of a service, or nobody knew."""


class Denied(NotFound):
    """It was answered that there are none: no such name, or nothing of that port."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The endpoints of a service, best first, and how long they hold."""

    endpoints: tuple[Endpoint, ...]
    ttl_s: float


# Asks once. Unresolved or Denied if there is no answer.
Lookup = Callable[[], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Sought:
    """What is looked for: a DNS name, and the name or the number of a port."""

    name: str
    port: str | int

    def __str__(self) -> str:
        return f"{self.name} port {self.port}"


def split_address(text: str, default_port: int) -> tuple[str, int]:
    """Host and port of `host:port`, `[v6]:port` or either without a port."""
    host, colon, port = text.rpartition(":")
    if not colon or (":" in host and not host.endswith("]")):
        host, port = text, str(default_port)
    if not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError(f"{text!r}: {port!r} is no port")
    return host.removeprefix("[").removesuffix("]"), int(port)


def endpoint_of(sought: Sought, instance: str, addresses: Sequence[str], port: int) -> Endpoint:
    """An endpoint of the first tier, with all of its addresses."""
    return Endpoint(instance, addresses[0], port, sought.name, others=tuple(addresses[1:]))
