"""Which instance an outcome is about: by its name, or by where it was called."""

from collections.abc import Mapping

from meshd.core.errors import Invalid
from meshd.core.model import dns_name, parse_address
from meshd.core.names import to_wire
from meshd.core.snapshot import Snapshot
from meshd.v1.reporter_pb2 import Outcomes

# (address, port) -> instance; port 0 stands for any.
_Index = Mapping[tuple[str, int], str]


class Called:
    """Finds instances; the addresses of a service are indexed once for each of its rosters."""

    def __init__(self) -> None:
        self._indexes: dict[str, tuple[frozenset[str], _Index]] = {}

    def find(self, snapshot: Snapshot, message: Outcomes) -> str | None:
        """The name of an instance that there is, or None."""
        if message.instance:
            name = message.instance.partition(".")[0].lower()
            return name if name in snapshot.topology.instances else None
        try:
            place = snapshot.directory.find(to_wire(dns_name(message.service)))
            address = str(parse_address(message.address))
        except Invalid:
            return None
        if place is None or place.service not in snapshot.views:
            return None
        return self._index(snapshot, place.service).get((address, message.port))

    def _index(self, snapshot: Snapshot, service: str) -> _Index:
        roster = snapshot.rosters.get(service, frozenset())
        held = self._indexes.get(service)
        # Whatever changes an instance makes the roster of its service anew.
        if held is None or held[0] is not roster:
            held = (roster, _indexed(snapshot, service, roster))
            for gone in self._indexes.keys() - snapshot.views.keys():
                del self._indexes[gone]
            self._indexes[service] = held
        return held[1]


def _indexed(snapshot: Snapshot, service: str, roster: frozenset[str]) -> _Index:
    ports = snapshot.topology.services[service].ports
    found: dict[tuple[str, int], set[str]] = {}
    for name in roster:
        instance = snapshot.topology.instances[name]
        numbers = {0, *(instance.port(port) for port in ports)}
        for address in instance.addresses:
            for number in numbers:
                found.setdefault((str(address), number), set()).add(name)
    # Two instances behind one address and port cannot be told apart.
    return {key: min(names) for key, names in found.items() if len(names) == 1}
