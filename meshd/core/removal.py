"""How much of a service signals may take out at once, and what of it is held back.

When most of a service goes within a minute, what fails is more likely to be whoever looks. What
goes beyond the budget is held back: it stays answered, as a last resort and for the shortest
time, until the minute has passed. An operator's word is not a signal and knows no budget.
"""

from collections.abc import Iterable, Mapping
from math import ceil
from typing import NamedTuple

WINDOW_S = 60.0


class Gone(NamedTuple):
    """Since when an instance is down (monotonic seconds), and when that was let through."""

    since: float
    out_at: float | None


def budget(share: float, members: int) -> int:
    """How many instances of a service may go within a minute."""
    return max(1, ceil(share * members))


def removals(
    down: Iterable[str],
    before: Mapping[str, Gone],
    allowed: int,
    wait_until: Mapping[str, float],
    now: float,
) -> dict[str, Gone]:
    """The instances of one service that are down, each let through or held back (out_at None).

    `wait_until`: not before then, for it may be the store that lost them and not they.
    """
    found = {name: before.get(name, Gone(now, None)) for name in down}
    recent = sum(
        gone.out_at is not None and now - gone.out_at < WINDOW_S for gone in found.values()
    )
    waiting = [name for name, gone in found.items() if gone.out_at is None]
    for name in sorted(waiting, key=lambda name: (found[name].since, name)):
        if recent < allowed and wait_until.get(name, now) <= now:
            found[name] = Gone(found[name].since, now)
            recent += 1
    return found
