"""The TTL of an answer: long while its members have room, short when a change is due."""

from dataclasses import dataclass

from meshd.core.model import Ttl
from meshd.core.verdict import Verdict

# Below this free share an answer begins to be short-lived.
_ROOMY = 0.5


@dataclass(frozen=True, slots=True)
class TtlTerms:
    """How a TTL came about: seconds, and the reason that decided."""

    seconds: int
    headroom: float
    reason: str


def answer_ttl(bounds: Ttl, headroom: float, worst: Verdict, all_down: bool) -> TtlTerms:
    """The TTL of an answer whose least free member has `headroom`, whose worst is `worst`."""
    if all_down:
        return TtlTerms(bounds.min_s, headroom, "no instance is ready: minimum")
    if worst is not Verdict.UP and worst is not Verdict.FORCED_UP:
        return TtlTerms(bounds.min_s, headroom, f"a member is {worst}: minimum")
    curve = min(1.0, headroom / _ROOMY)
    seconds = max(bounds.min_s, min(bounds.max_s, round(bounds.max_s * curve)))
    roomy = "all members have room: maximum"
    return TtlTerms(seconds, headroom, roomy if curve == 1 else f"headroom {headroom:.0%}")
