"""One place to call, and how a call to it went: what all of this package speaks in."""

from dataclasses import dataclass
from enum import IntEnum


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An instance as it was answered; without a name (plain A, AAAA) it is its address."""

    instance: str
    address: str
    port: int
    # The DNS name that was resolved.
    service: str
    # 0: whom to call; higher ones only when no lower one is left.
    tier: int = 0
    # Of calls, in proportion to others of its tier.
    weight: int = 1
    # More addresses of the same instance, of any family.
    others: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """What tells it from others of its service for as long as it is answered."""
        if self.instance:
            return self.instance
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{host}:{self.port}"


class Outcome(IntEnum):
    """How a call went."""

    OK = 0
    # A reply that is a failure (HTTP 5xx), or the connection broke before one came.
    FAILURE = 1
    TIMEOUT = 2
    # No connection came about: nothing was sent.
    CONNECT_ERROR = 3
