"""What is remembered of beats, and what of it and the rest other cores have still to be told."""

import asyncio
from dataclasses import dataclass, field

# A load counts in full so long (seconds) after it came, then less and less until it is forgotten.
FRESH_S, FORGOTTEN_S = 10.0, 60.0


@dataclass(slots=True)
class Told:
    """The last beat of an instance, and when it came; `load_at` is when a load came, None: never.

    Times are monotonic seconds. `by` is the core that heard it; empty: this one, None: none
    in this life, it is known from signals.
    """

    load_at: float | None = None
    in_flight: int = 0
    lame_duck: bool = False
    load: float = 0.0
    at: float = float("-inf")
    by: str | None = ""

    @property
    def is_own(self) -> bool:
        """True if it came to this core, which tells the others."""
        return self.by == ""

    def influence(self, now: float) -> float:
        """How much its load counts by its age, 1 to 0."""
        if self.load_at is None:
            return 0.0
        return min(1.0, max(0.0, (FORGOTTEN_S - now + self.load_at) / (FORGOTTEN_S - FRESH_S)))

    def with_load_of(self, before: "Told | None") -> None:
        """Keep a load that was told before."""
        if before is not None:
            self.load_at, self.load = before.load_at, before.load


@dataclass(eq=False, slots=True)
class News:
    """Of which instances another core has still to be told: signals, beats, votes."""

    signals: set[str] = field(default_factory=set)
    told: set[str] = field(default_factory=set)
    votes: set[str] = field(default_factory=set)
    wake: asyncio.Event = field(default_factory=asyncio.Event)
