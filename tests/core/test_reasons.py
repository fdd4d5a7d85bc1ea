"""Why a verdict is what it is, in words."""

import pytest

from meshd.core.model import Force, Override
from meshd.core.outcomes import Folded
from meshd.core.reasons import NO_CLUES, Clues, reason
from meshd.core.signals import Signal
from meshd.core.topology import Change, Kind
from meshd.core.verdict import Probed, Verdict
from tests import samples

BEFORE = samples.snapshot()
EU = BEFORE.topology.instances["api-eu-1"]
WILD = BEFORE.topology.instances["wild-1"]

FLAPPED = Probed(Verdict.RECOVERING, True, 3, False)
FLAPPED = FLAPPED._replace(calm_at=120.0 - FLAPPED._replace(calm_at=0.0).damped_until())


@pytest.mark.parametrize(
    ("clues", "said"),
    [
        (NO_CLUES, ""),
        (Clues(Probed()), ""),
        (Clues(Probed(Verdict.RECOVERING)), "not probed yet"),
        (Clues(Probed(Verdict.FAILING, False, 1, is_fresh=False)), "1 probe failed in a row"),
        (Clues(Probed(Verdict.DOWN, False, 7, is_fresh=False)), "7 probes failed in a row"),
        (
            Clues(FLAPPED),
            "3 probes passed in a row; not up for 20 s more: it comes and goes",
        ),
        (Clues(is_lame_duck=True), "it says that it is leaving"),
        (Clues(ready_for_s=3), "slow start: 3 of 10 s"),
        (Clues(clients=Folded(1.0, 8, 80, 0)), ""),
        (
            Clues(Probed(), clients=Folded(0.3, 8, 80, 0)),
            "they disagree: probes pass, clients fail",
        ),
    ],
)
def test_what_was_observed(clues: Clues, said: str) -> None:
    assert reason(BEFORE, EU, clues, 100.0) == said


@pytest.mark.parametrize(
    ("success", "voices", "said"),
    [
        (0.0, 0, "ejected: clients see it fail"),
        (0.0, 8, "ejected: clients see it fail; 30% succeed, say 8 reporters"),
        (0.3, 8, "30% succeed, say 8 reporters"),
        (0.7, 1, "30% succeed, say 1 reporter: too few to eject it"),
    ],
)
def test_what_clients_reported(success: float, voices: int, said: str) -> None:
    now = BEFORE.advance(signals={"api-eu-1": Signal(success=success)})
    assert reason(now, EU, Clues(clients=Folded(0.3, voices, 80, 0)), 0) == said


def test_what_was_decided() -> None:
    forced = BEFORE.advance([Change.put(Override("api-eu-*", Force.DOWN))], 8)
    assert reason(forced, EU, NO_CLUES, 0) == "operator: down (by api-eu-*)"
    drained = BEFORE.topology.instances["api-us-3"]
    assert reason(BEFORE, drained, NO_CLUES, 0) == "operator: drain"
    lost = BEFORE.advance([Change(Kind.PRESENCE, "wild-1", None)], 8, {"wild-1": Signal(held=True)})
    assert reason(lost, WILD, Clues(is_lame_duck=True), 0) == (
        "it holds no lease; held back: too many went at once"
    )
