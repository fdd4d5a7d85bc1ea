"""The error tree, once. Shells translate it: to rcodes, to gRPC status, to exit codes.

MeshError
├── Refused            what was asked is not allowed as things are
│   ├── Invalid        the input is wrong; holds every fault found
│   ├── Conflict       something changed since it was looked at
│   └── NotFound       there is nothing of that name
├── Malformed          bytes that do not follow their format
├── Unavailable        the store or core cannot be reached or written
├── Compacted          history no longer reaches back that far
└── LeaseLost          the lease ran out or was revoked
"""

from collections.abc import Iterable
from dataclasses import dataclass


class MeshError(Exception):
    """Base of all errors that meshd raises on purpose."""


class Refused(MeshError):
    """What was asked is not allowed as things are."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with an input: where (a dotted path), what, and the line if known."""

    where: str
    what: str
    line: int = 0

    def __str__(self) -> str:
        place = f"line {self.line}: " if self.line else ""
        return f"{place}{self.where}: {self.what}" if self.where else f"{place}{self.what}"


class Invalid(Refused):
    """The input is wrong; `faults` lists everything that is."""

    def __init__(self, faults: Iterable[Fault] | str) -> None:
        self.faults = (Fault("", faults),) if isinstance(faults, str) else tuple(faults)
        super().__init__("; ".join(str(fault) for fault in self.faults))


class Conflict(Refused):
    """Something changed since it was looked at."""


class NotFound(Refused):
    """There is nothing of that name."""


class Malformed(MeshError):
    """Bytes that do not follow their format."""


class Unavailable(MeshError):
    """The store or the core cannot be reached or written now."""


class Compacted(MeshError):
    """History no longer reaches back to the revision asked for."""


class LeaseLost(MeshError):
    """The lease ran out or was revoked."""
