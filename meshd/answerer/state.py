"""The one mutable cell of an answerer: the frozen snapshot that answers are made from."""

from collections.abc import Callable

from meshd.core.snapshot import Snapshot


class State:
    """Holds the snapshot; `swap` replaces it and tells those who remember things of the old one."""

    def __init__(self) -> None:
        self.snapshot: Snapshot | None = None
        self._listeners: list[Callable[[], None]] = []

    def on_swap(self, listener: Callable[[], None]) -> None:
        """Call `listener` after each swap."""
        self._listeners.append(listener)

    def swap(self, snapshot: Snapshot) -> None:
        """Make `snapshot` the one that answers come from."""
        self.snapshot = snapshot
        for listener in self._listeners:
            listener()

    def __repr__(self) -> str:
        if self.snapshot is None:
            return "<State: nothing to answer from>"
        topology = self.snapshot.topology
        return (
            f"<State: revision {topology.revision}, {len(topology.services)} services, "
            f"{len(topology.instances)} instances, {len(topology.ranges)} ranges>"
        )
