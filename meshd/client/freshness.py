"""When to ask again, and what an answer that was had once is still worth. PURE.

A list is kept for ever: who cannot ask goes on with what is known. A name that is denied (NXDOMAIN,
no records) is believed only after three denials over half a minute, and even then the list stays,
marked stale: a server that was set up wrong must not stop a client that reaches its instances.
"""

from dataclasses import dataclass, replace

_LEAST_TTL_S = 1.0
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.1, 5.0
_DENIALS = 3


@dataclass(frozen=True, slots=True)
class Freshness:
    """When to ask next, and what happened since the last answer."""

    due: float = 0.0
    # In a row, that nobody answered.
    failures: int = 0
    denials: int = 0
    denied_at: float = 0.0
    is_stale: bool = False


def answered(ttl_s: float, now: float, draw: float) -> Freshness:
    """There is an answer: ask before it ends, not all clients at once."""
    return Freshness(now + max(_LEAST_TTL_S, ttl_s) * (0.8 + 0.15 * draw))


def unanswered(known: Freshness, now: float, draw: float) -> Freshness:
    """Nobody could be asked: that says nothing of the name."""
    wait_s = min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2.0 ** min(known.failures, 10))
    return replace(known, failures=known.failures + 1, due=now + wait_s * (0.5 + 0.5 * draw))


def denied(known: Freshness, now: float, draw: float, patience_s: float) -> Freshness:
    """The name, or its records, are not there, it is said."""
    denials = known.denials + 1
    since = known.denied_at if known.denials else now
    return Freshness(
        due=now + min(_LONGEST_WAIT_S, patience_s / _DENIALS) * (0.5 + 0.5 * draw),
        denials=denials,
        denied_at=since,
        is_stale=denials >= _DENIALS and now - since >= patience_s,
    )
