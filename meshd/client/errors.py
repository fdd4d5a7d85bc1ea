"""Why a program is not registered."""

from collections.abc import Sequence

from meshd.core.errors import Conflict, MeshError, Unavailable


class Refused(MeshError):
    """The core will not have this instance; `faults` has every reason."""

    def __init__(self, faults: Sequence[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("; ".join(faults))


class Replaced(Conflict):
    """A newer process registered under this name: this one must not come again."""


class Unreachable(Unavailable):
    """No core could be reached, or none could write."""
