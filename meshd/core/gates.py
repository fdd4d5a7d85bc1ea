"""Gates: what a rollout must hold to go on, as people write it.

success>=99.5%     of the calls to the new version, as clients see them
p99<=1.2x          latency against the old version at the same time and places
p99<=300ms         latency by itself
probes>=90%        of the new version's instances are up
"""

import re
from dataclasses import dataclass
from enum import StrEnum

from meshd.core.errors import Invalid
from meshd.core.valid import require

_GATE = re.compile(
    r"(?P<what>success|probes|p\d{1,2}(?:\.\d)?)\s*(?P<sign>>=|<=)\s*"
    r"(?P<number>\d{1,7}(?:\.\d{1,4})?)\s*(?P<unit>%|x|ms|s|us)"
)
_IN_US = {"us": 1.0, "ms": 1e3, "s": 1e6}


class Measure(StrEnum):
    """What a gate looks at."""

    SUCCESS = "success"
    PROBES = "probes"
    # Against the old version, and by itself.
    SLOWER = "slower"
    LATENCY = "latency"


@dataclass(frozen=True, slots=True)
class Gate:
    """One gate. `bound`: a share 0..1, a factor (SLOWER) or microseconds (LATENCY).

    `quantile` 0..1 is of the latency that is looked at.
    """

    measure: Measure
    bound: float
    quantile: float = 0.0

    def __post_init__(self) -> None:
        is_share = self.measure in (Measure.SUCCESS, Measure.PROBES)
        require(
            (not is_share or 0 < self.bound <= 1, "", "a share is above 0 % and at most 100 %"),
            (is_share or self.bound > 0, "", "a latency is above 0"),
            (is_share or 0 < self.quantile < 1, "", "a quantile is p1..p99.9"),
        )

    @classmethod
    def parse(cls, text: str) -> "Gate":
        """Read a gate; Invalid says what one looks like."""
        found = _GATE.fullmatch(text.strip())
        is_share = found is not None and found["what"] in ("success", "probes")
        wanted = (">=", "%") if is_share else ("<=", "")
        if not found or found["sign"] != wanted[0] or (found["unit"] == "%") != is_share:
            raise Invalid(
                f"{text!r} is no gate (as in success>=99.5%, p99<=1.2x, p95<=300ms, probes>=90%)"
            )
        number = float(found["number"])
        if is_share:
            return cls(Measure(found["what"]), number / 100)
        quantile = float(found["what"][1:]) / 100
        if found["unit"] == "x":
            return cls(Measure.SLOWER, number, quantile)
        return cls(Measure.LATENCY, number * _IN_US[found["unit"]], quantile)

    def __str__(self) -> str:
        if self.measure in (Measure.SUCCESS, Measure.PROBES):
            return f"{self.measure}>={self.bound * 100:.6g}%"
        what = f"p{self.quantile * 100:.6g}"
        if self.measure is Measure.SLOWER:
            return f"{what}<={self.bound:.6g}x"
        return f"{what}<={self.bound / 1e3:.10g}ms"
