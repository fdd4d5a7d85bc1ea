"""When it is safe to stop an instance: how long the answers that were given can still hold it.

What an answer allows is core's (lifetime.py); here is the memory of what was allowed before.
"""

from meshd.core.lifetime import longest_s, member_of, ready_families
from meshd.core.snapshot import ServiceView, Snapshot

# What comes on top of a TTL: an answerer may lag behind by a second, and caches count whole
# seconds. The caches of PowerDNS, Unbound and dnsdist add nothing to it as they are shipped: rows
# with instances have a scope, which PowerDNS never keeps (integrations/powerdns/meshd.conf).
MARGIN_S = 2.0
_PRUNE_ABOVE = 1000


class Lasting:
    """Until when (monotonic seconds) an answer that holds an instance can live.

    What was answered before this process began is not known: then everything counts as answered
    until the beginning, with the longest TTL of its service.
    """

    def __init__(self, snapshot: Snapshot, now: float) -> None:
        self._snapshot = snapshot
        self._began = now
        # Instance -> the end of what was answered before it allowed less than it did.
        self._fixed: dict[str, float] = {}
        self._prune_above = _PRUNE_ABOVE

    def swapped(self, snapshot: Snapshot, now: float) -> None:
        """Note that answers come from another snapshot from now on."""
        before, self._snapshot = self._snapshot, snapshot
        if before.views is snapshot.views:
            return
        for name, view in before.views.items():
            after = snapshot.views.get(name)
            if after is not view:
                self._fix(view, after, now)
        if len(self._fixed) > self._prune_above:
            self._fixed = {name: end for name, end in self._fixed.items() if end + MARGIN_S > now}
            self._prune_above = max(_PRUNE_ABOVE, 2 * len(self._fixed))

    def _fix(self, before: ServiceView, after: ServiceView | None, now: float) -> None:
        had = ready_families(before)
        have = ready_families(after) if after is not None else had
        is_same = after is not None and after.service == before.service
        for member in before.members:
            there = member_of(after, member.instance.name)
            if there is member and is_same and had == have:
                continue
            lived = longest_s(before, member, had)
            lives = longest_s(after, there, have) if after and there else 0.0
            if lives < lived:
                end = max(self._fixed.get(member.instance.name, now), now + lived)
                self._fixed[member.instance.name] = end

    def is_answered(self, name: str) -> bool:
        """True if new answers may hold an instance."""
        return self._bound_now_s(name) > 0

    def safe_in_s(self, name: str, now: float) -> float:
        """Seconds until no answer holds an instance any more, if none is given from now on."""
        end = self._fixed.get(name, float("-inf"))
        lives = self._bound_now_s(name)
        if lives:
            end = max(end, now + lives)
        instance = self._snapshot.topology.instances.get(name)
        view = self._snapshot.views.get(instance.service) if instance else None
        if view is not None:
            end = max(end, self._began + view.service.ttl.max_s)
        return max(0.0, end + MARGIN_S - now)

    def _bound_now_s(self, name: str) -> float:
        instance = self._snapshot.topology.instances.get(name)
        view = self._snapshot.views.get(instance.service) if instance else None
        member = member_of(view, name)
        return longest_s(view, member, ready_families(view)) if view and member else 0.0
