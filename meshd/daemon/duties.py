"""Which core does what, as far as this one knows: who decides on a service, who probes whom."""

from collections.abc import Callable, Collection, Iterable

from meshd.core.vantage import decider, probers


class Duties:
    """Shared by all that measure and decide; alone unless told otherwise."""

    def __init__(self, node: str = "", vantage: int = 1) -> None:
        self.node = node
        self.vantage = vantage
        # Cores whose word counts, this one among them, and of these the ones that duties go to.
        self.heard: frozenset[str] = frozenset({node})
        self.able: tuple[str, ...] = (node,)
        self._deciders: dict[str, str] = {}
        # Told when `able` has changed.
        self.followers: list[Callable[[], None]] = []

    def take(self, heard: Collection[str], able: Iterable[str]) -> bool:
        """Take over who is there; True if duties move by it."""
        before, self.heard = self.able, frozenset({self.node, *heard})
        self.able = tuple(sorted(set(able))) or (self.node,)
        if self.able == before:
            return False
        self._deciders.clear()
        for follower in self.followers:
            follower()
        return True

    def decider(self, service: str) -> str:
        """The core that decides on a service."""
        found = self._deciders.get(service)
        if found is None:
            found = self._deciders[service] = decider(service, self.able)
        return found

    def decides(self, service: str) -> bool:
        """True if this core decides on a service."""
        return self.decider(service) == self.node

    def probers(self, instance: str) -> tuple[str, ...]:
        """The cores that are to probe an instance."""
        if len(self.able) <= self.vantage:
            return self.able
        return probers(instance, self.able, self.vantage)
