"""What is promised of several nodes, and what was measured of it in this run."""

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Promise:
    """One row: what is broken, what a user is promised, what was seen."""

    fault: str
    promised: str
    measured: str


@dataclass(slots=True)
class Promises:
    """The rows of one run, in the order of the tests that keep them."""

    rows: list[Promise] = field(default_factory=list)

    def kept(self, fault: str, promised: str, measured: str) -> None:
        """Note a promise whose test passed."""
        self.rows.append(Promise(fault, promised, measured))

    def lines(self) -> list[str]:
        """The table, one line a row."""
        if not self.rows:
            return []
        head = Promise("fault", "promised", "measured")
        table = [(each.fault, each.promised, each.measured) for each in (head, *self.rows)]
        widths = [max(len(row[column]) for row in table) for column in range(2)]
        return [_line(row, widths) for row in table]


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    padded = [text.ljust(width) for text, width in zip(row, widths, strict=False)]
    return "  ".join([*padded, row[-1]])
