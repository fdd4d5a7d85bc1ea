"""What a program says of itself, and how it gets into messages."""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from typing import NotRequired, TypedDict

from meshd.v1 import records_pb2
from meshd.v1 import registry_pb2 as pb

log = logging.getLogger(__name__)

# A number, or where to get it from for each beat.
Figure = float | Callable[[], float | None] | None


class Announced(TypedDict):
    """An instance, as its program says it. `pop`: by the ranges if not given.

    `ports` has the numbers that differ from the service's; `capacity` is relative to others (1);
    `lease_s` is how long silence is forgiven (3 s, and longer where there are very many).
    """

    name: str
    service: str
    version: str
    addresses: Sequence[str]
    pop: NotRequired[str]
    ports: NotRequired[Mapping[str, int]]
    capacity: NotRequired[float]
    tags: NotRequired[Sequence[str]]
    lease_s: NotRequired[float]


def hello_of(announced: Announced) -> pb.Hello:
    """What is said first, epoch and beat still to come."""
    instance = records_pb2.Instance(
        name=announced["name"],
        service=announced["service"],
        version=announced["version"],
        addresses=announced["addresses"],
        pop=announced.get("pop", ""),
        ports=announced.get("ports", {}),
        capacity=announced.get("capacity", 1.0),
        tags=announced.get("tags", ()),
    )
    return pb.Hello(instance=instance, lease_s=announced.get("lease_s", 0.0))


def figure_of(figure: Figure) -> float | None:
    """The figure now, 0 or more; None if there is none."""
    try:
        found = figure() if callable(figure) else figure
        return found if found is not None and math.isfinite(found) and found >= 0 else None
    except Exception:
        # The program's own code: it must not end its registration.
        log.exception("a figure could not be had: %r", figure)
        return None


def beat_of(load: Figure, in_flight: Figure, *, lame_duck: bool) -> pb.Heartbeat:
    """A beat with what is known now."""
    return pb.Heartbeat(
        load=figure_of(load), in_flight=int(figure_of(in_flight) or 0), lame_duck=lame_duck
    )
