"""Names: wire form and text, which zone and service a name belongs to, what stands at it.

The index keys are lower-cased wire names (RFC 1035 3.1, without compression).
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from meshd.core.model import Service, Zone

# At most so many found names are remembered; beyond that the memo starts anew.
_MEMO_NAMES = 200_000


def to_wire(text: str) -> bytes:
    """The wire form of an absolute name made of plain labels."""
    labels = text.rstrip(".").encode().split(b".") if text != "." else []
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"


def labels_of(wire: bytes) -> list[bytes]:
    """The labels of an uncompressed wire name, leftmost first."""
    labels = []
    at = 0
    while wire[at]:
        labels.append(wire[at + 1 : at + 1 + wire[at]])
        at += 1 + wire[at]
    return labels


def to_text(wire: bytes) -> str:
    """A name as text, absolute; bytes that text cannot show are escaped (RFC 1035 5.1)."""
    return "".join(_escaped(label) + "." for label in labels_of(wire)) or "."


def _escaped(label: bytes) -> str:
    plain = label.decode("latin-1")
    return "".join(
        char if "!" <= char <= "~" and char not in '.\\"();@$' else f"\\{ord(char):03d}"
        for char in plain
    )


def ancestors(wire: bytes) -> Iterator[bytes]:
    """The name itself, then each parent, the root last."""
    while wire[0]:
        yield wire
        wire = wire[1 + wire[0] :]
    yield wire


class Place(NamedTuple):
    """Where a name lies: its zone; its service and the labels in front of it, if any.

    With `service` empty it is the zone's own: the apex, a name server, an empty non-terminal,
    or (`exists` False) nothing.
    """

    zone: Zone
    zone_wire: bytes
    service: str = ""
    front: tuple[bytes, ...] = ()
    wildcard: bool = False
    exists: bool = True


@dataclass(frozen=True, slots=True)
class Directory:
    """Which names there are, by zones and services alone; signals and instances change nothing."""

    zones: Mapping[bytes, Zone]
    bases: Mapping[bytes, str]
    own: frozenset[bytes]
    _memo: dict[bytes, Place] = field(default_factory=dict)

    @classmethod
    def build(cls, zones: Iterable[Zone], services: Iterable[Service]) -> "Directory":
        """Index all names that zones and services make."""
        apexes = {to_wire(zone.name): zone for zone in zones}
        bases = {to_wire(service.dns): service.name for service in services}
        hosts = [to_wire(ns.name) for zone in apexes.values() for ns in zone.ns if ns.addresses]
        own: set[bytes] = set(apexes)
        for name in (*bases, *hosts):
            for parent in ancestors(name):
                if parent in own:
                    break
                own.add(parent)
        return cls(apexes, bases, frozenset(own - set(bases) | set(apexes)))

    def find(self, name: bytes) -> Place | None:
        """The place of a lower-cased wire name; None if no zone of ours holds it."""
        place = self._memo.get(name)
        if place is None:
            place = self._find(name)
            if place is not None and place.service and not place.wildcard:
                if len(self._memo) >= _MEMO_NAMES:
                    self._memo.clear()
                self._memo[name] = place
        return place

    def _find(self, name: bytes) -> Place | None:
        above = list(ancestors(name))
        zone_wire = next((parent for parent in above if parent in self.zones), None)
        if zone_wire is None:
            return None
        zone = self.zones[zone_wire]
        if name in self.own and name not in self.bases:
            return Place(zone, zone_wire)
        for depth, parent in enumerate(above):
            service = self.bases.get(parent)
            if service is not None:
                return Place(zone, zone_wire, service, tuple(labels_of(name)[:depth]))
            if parent in self.own:
                return self._wildcard(name, parent, depth, (zone, zone_wire))
        return None

    def _wildcard(
        self, name: bytes, encloser: bytes, depth: int, zone: tuple[Zone, bytes]
    ) -> Place:
        """RFC 4592 3.3.1: the wildcard at the closest encloser answers for what does not exist."""
        service = self.bases.get(b"\x01*" + encloser)
        if service is None:
            return Place(*zone, exists=False)
        labels = labels_of(name)
        is_srv = depth > 2 and labels[0][:1] == b"_" and labels[1][:1] == b"_"
        return Place(*zone, service, tuple(labels[:2]) if is_srv else (), wildcard=True)
