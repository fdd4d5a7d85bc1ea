"""Outcomes of each arm of an experiment, by the arm that the reporting host is in."""

from collections import Counter

from meshd.core.errors import Invalid
from meshd.core.outcomes import Outcome
from meshd.core.resolve import Client, locate
from meshd.core.snapshot import Snapshot

# Pairs of experiment and arm that are counted: those that came first.
_MOST_ARMS = 1000


class Arms:
    """Counts since this core began, of services that it decides on."""

    def __init__(self) -> None:
        # (experiment, arm) -> calls that ended well, and badly.
        self.ok: Counter[tuple[str, str]] = Counter()
        self.failed: Counter[tuple[str, str]] = Counter()
        # The buckets (histogram.py) of those that were replied to.
        self.latency: dict[tuple[str, str], Counter[int]] = {}

    def note(self, snapshot: Snapshot, service: str, host: str, outcome: Outcome) -> None:
        """Note what a host saw of an instance of a service."""
        view = snapshot.views.get(service)
        if view is None or not view.motion.experiments:
            return
        try:
            client = Client.parse(host)
        except Invalid:
            return
        locus = locate(snapshot, view, client)
        own = locus.policy.selectors.get(service)
        draw = view.motion.draw(locus.policy, locus.bucket, own, view.channels)
        arm = (draw.experiment, draw.arm)
        if not draw.experiment or (arm not in self.ok and len(self.ok) >= _MOST_ARMS):
            return
        self.ok[arm] += outcome.attempts - outcome.failed
        self.failed[arm] += outcome.failed
        self.latency.setdefault(arm, Counter()).update(outcome.latency)
