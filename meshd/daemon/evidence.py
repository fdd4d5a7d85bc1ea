"""What clients said, and probes found, since the step of each rollout began.

Only of services whose rollout this core moves; bounded. What it means is core's (evidence.py,
judging.py). Time comes as an argument, monotonic seconds.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from meshd.core.evidence import Evidence, Seen, Side, Whence
from meshd.core.model import Instance
from meshd.core.outcomes import Outcome
from meshd.core.ranking import Member
from meshd.core.release import Rollout
from meshd.core.selector import Version
from meshd.core.snapshot import ServiceView, Snapshot
from meshd.core.verdict import Verdict

# Hosts heard of one side; of more than that the first are a sample.
MOST_HOSTS = 1000
# In all, some kilobytes each.
MOST_IN_ALL = 20_000
# The share of instances that are up is the mean of so many looks, from the fewest on: one that
# is just starting is no version that fails.
_LOOKS, _FEWEST_LOOKS = 10, 3
_NOTHING = Seen()
# Out by an operator's word, or not yet found to be up or down.
_NOT_JUDGED = (Verdict.FORCED_DOWN, Verdict.DRAINING, Verdict.RECOVERING)


class _Look(NamedTuple):
    """Instances of the new version that were judged, and how many of them were up."""

    judged: int
    up: int


@dataclass(slots=True)
class _Heard:
    """What was heard of one step."""

    rollout: str
    step: int
    to: Version
    since: float
    new: dict[Whence, Seen] = field(default_factory=dict)
    old: dict[Whence, Seen] = field(default_factory=dict)
    looks: deque[_Look] = field(default_factory=lambda: deque(maxlen=_LOOKS))

    def is_of(self, rollout: Rollout) -> bool:
        return (self.rollout, self.step) == (rollout.name, rollout.step)

    @property
    def size(self) -> int:
        return len(self.new) + len(self.old)


class Testimony:
    """The evidence on each rollout, from when this core began to move its step."""

    def __init__(self) -> None:
        self._heard: dict[str, _Heard] = {}
        self._size = 0
        # Outcomes that are not in it: there were too many hosts.
        self.crowded = 0

    def follow(self, moved: Mapping[str, Rollout], now: float) -> None:
        """These rollouts, by service, are moved here now; a new step begins with nothing."""
        for service in self._heard.keys() - moved.keys():
            self._size -= self._heard.pop(service).size
        for service, rollout in moved.items():
            before = self._heard.get(service)
            if before is not None and before.is_of(rollout):
                continue
            made = _Heard(rollout.name, rollout.step, rollout.to, now)
            if before is not None:
                self._size -= before.size
                if before.rollout == rollout.name:
                    made.looks = before.looks
            self._heard[service] = made

    def is_of(self, instance: Instance) -> bool:
        """True if outcomes of this instance are evidence now."""
        return instance.service in self._heard

    def note(self, instance: Instance, whence: Whence, outcome: Outcome) -> None:
        """Note what a host saw of an instance whose service's rollout is moved here."""
        heard = self._heard[instance.service]
        side = heard.new if instance.version == heard.to else heard.old
        before = side.get(whence)
        if before is None and (len(side) >= MOST_HOSTS or self._size >= MOST_IN_ALL):
            self.crowded += 1
            return
        self._size += before is None
        side[whence] = (before or _NOTHING).plus(outcome)

    def look(self, snapshot: Snapshot) -> None:
        """See which instances are up, as is done each second."""
        for service, heard in self._heard.items():
            view = snapshot.views.get(service)
            if view is not None:
                heard.looks.append(_look(view, heard.to))

    def evidence(self, rollout: Rollout) -> Evidence | None:
        """All of it on the step of a rollout; None: its step is not the one that is listened to."""
        heard = self._heard.get(rollout.service)
        if heard is None or not heard.is_of(rollout):
            return None
        looks = heard.looks if len(heard.looks) >= _FEWEST_LOOKS else ()
        judged = sum(look.judged for look in looks)
        up = sum(look.up for look in looks)
        count = max(1, len(looks))
        return Evidence(Side.of(heard.new), Side.of(heard.old), judged / count, up / count)

    def heard_s(self, rollout: Rollout, now: float) -> float:
        """For how long this core has listened to the step of a rollout."""
        heard = self._heard.get(rollout.service)
        return now - heard.since if heard is not None and heard.is_of(rollout) else 0.0


def _look(view: ServiceView, to: Version) -> _Look:
    judged = [
        member.verdict
        for member in view.members
        if member.instance.version == to and _is_judged(view, member)
    ]
    return _Look(len(judged), sum(verdict.is_ready for verdict in judged))


def _is_judged(view: ServiceView, member: Member) -> bool:
    is_watched = view.service.check is not None or member.instance.registered
    return is_watched and member.verdict not in _NOT_JUDGED
