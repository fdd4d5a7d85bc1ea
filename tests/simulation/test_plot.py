"""The figure in examples/load shows what the code does now."""

import re
from pathlib import Path

import pytest

from tests.simulation.plot import figure

HELD = Path(__file__).parents[2] / "examples" / "load" / "load.svg"


def test_the_figure_is_fresh() -> None:
    """Numbers may differ in the last place of another machine's arithmetic."""
    number = re.compile(r"-?\d+(?:\.\d+)?")
    made, held = figure(), HELD.read_text()
    again = "`python -m tests.simulation.plot examples/load/load.svg` makes it anew"
    assert number.sub("0", made) == number.sub("0", held), again
    drawn = [[float(found) for found in number.findall(text)] for text in (made, held)]
    assert drawn[0] == pytest.approx(drawn[1], abs=1.0), again
