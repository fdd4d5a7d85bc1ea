"""What values ask of themselves when they are made."""

import re

from meshd.core.errors import Fault, Invalid

_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")

# Whether it is fine, where it stands, and what is wrong if it is not.
Demand = tuple[bool, str, str]


def require(*demands: Demand) -> None:
    """Invalid with every demand that is not met."""
    faults = [Fault(where, what) for fine, where, what in demands if not fine]
    if faults:
        raise Invalid(faults)


def label(name: str, where: str = "") -> Demand:
    """That a name can be one label of a DNS name (RFC 1035 2.3.1, digits first as RFC 1123)."""
    what = f"the name {name!r} must be lower-case letters, digits and '-', at most 63"
    return bool(_LABEL.fullmatch(name)), where, what


def one_line(text: str, longest: int) -> bool:
    """True for what can stand in a request line or header without ending it."""
    return len(text) <= longest and text.isprintable()
