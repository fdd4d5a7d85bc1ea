"""The verdict on an instance, and which word outranks which.

operator's force  >  lost presence  >  what probes and clients found
"""

from enum import StrEnum

from meshd.core.model import Force


class Verdict(StrEnum):
    """What is held of an instance now."""

    UP = "up"
    FAILING = "failing"
    DOWN = "down"
    RECOVERING = "recovering"
    FORCED_UP = "forced up"
    FORCED_DOWN = "forced down"
    DRAINING = "draining"

    @property
    def is_ready(self) -> bool:
        """True if new clients may be sent there."""
        return self in _READY


_READY = frozenset({Verdict.UP, Verdict.FAILING, Verdict.FORCED_UP})
_FORCED = {
    Force.UP: Verdict.FORCED_UP,
    Force.DOWN: Verdict.FORCED_DOWN,
    Force.DRAIN: Verdict.DRAINING,
}


def combine(found: Verdict, present: bool, force: Force | None) -> Verdict:
    """The one verdict that counts."""
    if force is not None:
        return _FORCED[force]
    return found if present else Verdict.DOWN
