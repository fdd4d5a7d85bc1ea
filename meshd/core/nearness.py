"""Nearness: to which Pop clients go next when their own cannot take them."""

from collections.abc import Mapping
from math import asin, cos, radians, sin, sqrt

from meshd.core.model import Pop


def pops_by_nearness(pop: str, pops: Mapping[str, Pop]) -> tuple[str, ...]:
    """A Pop, its fallback list, then the others by distance, those without location last."""
    home = pops.get(pop)
    fixed = (pop, *(home.fallback if home else ()))
    others = sorted(
        (name for name in pops if name not in fixed),
        key=lambda name: (_distance(home, pops[name]), name),
    )
    return tuple(dict.fromkeys((*fixed, *others)))


def _distance(one: Pop | None, other: Pop) -> float:
    """Great-circle distance in degrees (haversine); infinite where a location is missing."""
    if one is None or one.location is None or other.location is None:
        return float("inf")
    lat1, lon1, lat2, lon2 = (radians(x) for x in (*one.location, *other.location))
    half = sin((lat2 - lat1) / 2) ** 2 + cos(lat1) * cos(lat2) * sin((lon2 - lon1) / 2) ** 2
    # Rounded, so that equal distances are equal on every machine.
    return round(2 * asin(min(1.0, sqrt(half))), 6)


class Nearness(dict[str, tuple[str, ...]]):
    """Pop -> all Pops by nearness to it, worked out when first asked."""

    def __init__(self, pops: Mapping[str, Pop]) -> None:
        super().__init__()
        self.pops = pops

    def __missing__(self, pop: str) -> tuple[str, ...]:
        found = self[pop] = pops_by_nearness(pop, self.pops)
        return found
