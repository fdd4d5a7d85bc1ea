"""How much may be tried again: a part of the calls, so that retries never make an outage. PURE."""

from dataclasses import dataclass

_A_CALL = 0.2
_A_SECOND = 10.0
_MOST = 100.0


@dataclass(frozen=True, slots=True)
class Budget:
    """A token bucket: a fifth of a retry for each call, ten for each second, a hundred at most."""

    tokens: float = _MOST
    at: float = 0.0


def earned(budget: Budget, now: float) -> Budget:
    """A call begins."""
    passed_s = max(0.0, now - budget.at)
    return Budget(min(_MOST, budget.tokens + passed_s * _A_SECOND + _A_CALL), now)


def spent(budget: Budget) -> Budget | None:
    """What is left after a retry; None if there is none left to have."""
    return Budget(budget.tokens - 1.0, budget.at) if budget.tokens >= 1.0 else None
