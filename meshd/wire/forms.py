"""What entries of a document are written with: durations, shares, lists."""

import re
from typing import Annotated, Any

from pydantic import BeforeValidator

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "": 1.0}


def _duration(value: Any) -> Any:
    found = (
        re.fullmatch(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|)", value) if isinstance(value, str) else None
    )
    if found is None:
        raise ValueError(f"{value!r} is not a duration (as in 2s, 500ms, 1m)")
    return float(found[1]) * _SECONDS[found[2]]


def as_list(value: Any) -> Any:
    """A list, or one thing as a list."""
    return value if isinstance(value, list) else [value]


def _share(value: Any) -> Any:
    """0.5, or "50%"."""
    if isinstance(value, str) and re.fullmatch(r"\d+(\.\d+)?%", value):
        return float(value[:-1]) / 100
    return value


Share = Annotated[float, BeforeValidator(_share)]
Seconds = Annotated[float, BeforeValidator(_duration)]
Strings = Annotated[list[str], BeforeValidator(as_list)]
