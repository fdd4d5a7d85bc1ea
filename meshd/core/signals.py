"""What is known of an instance now, quantised so that noise changes no answer."""

import math
from dataclasses import dataclass, replace

from meshd.core.errors import Invalid
from meshd.core.verdict import Verdict

LOAD_STEP = 0.05
# A load must leave its step by this much (in steps) before the step changes.
_HOLD_STEPS = 1.2


@dataclass(frozen=True, slots=True)
class Signal:
    """Load (0..1 of capacity, in steps of 0.05) and what probes and clients found.

    `share` is what load makes of the instance's fair part of the clients of its Pop, `kept` the
    part of its clients that the Pop's load lets it keep (core/balance.py); 1: all of it.
    `held`: it is down, but too many went at once to believe it: a last resort (core/removal.py).
    `success`: the part of calls to it that clients see succeed, in steps of 0.05; 0: they see so
    few that it is ejected (core/outcomes.py, core/ejection.py).
    """

    load: float = 0.0
    verdict: Verdict = Verdict.UP
    share: float = 1.0
    kept: float = 1.0
    held: bool = False
    success: float = 1.0


NO_SIGNAL = Signal()


def observe_load(signal: Signal, load: float) -> Signal:
    """Fold one pushed load in; Invalid for NaN, infinities and negatives, above 1 counts as 1."""
    if not math.isfinite(load) or load < 0:
        raise Invalid(f"load {load} is not within 0..1")
    load = min(load, 1.0)
    at_end = load in (0.0, 1.0)
    if abs(load - signal.load) <= LOAD_STEP * _HOLD_STEPS and not at_end:
        return signal
    stepped = round(round(load / LOAD_STEP) * LOAD_STEP, 2)
    return signal if stepped == signal.load else replace(signal, load=stepped)


def headroom(signal: Signal) -> float:
    """The free share of an instance, never 0: a full one is a last resort, not unknown."""
    return max(LOAD_STEP, round(1.0 - signal.load, 2))
