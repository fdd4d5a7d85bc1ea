"""What a core is called among others, and how it says it is."""

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from meshd import __version__
from meshd.daemon.probes.prober import Prober
from meshd.daemon.pump import Pump
from meshd.daemon.settings import CoreSettings
from meshd.daemon.state import State
from meshd.v1.cluster_pb2 import Node, NodeState

_MOST_ANSWERERS = 1000


def own_node(settings: CoreSettings) -> Node:
    """This process as others are to see it."""
    address = settings.advertise or settings.grpc
    return Node(name=settings.node, address=address, version=__version__, session=uuid.uuid4().hex)


def swap_session(path: Path, session: str) -> str:
    """Keep the session of this process in a file; returns that of the one before it."""
    before = path.read_text().strip() if path.exists() else ""
    path.write_text(session)
    return before


@dataclass(frozen=True, slots=True)
class OwnState:
    """Makes the state that other cores and operators are told."""

    state: State
    pump: Pump
    prober: Prober
    # How many processes are registered here.
    streams: Callable[[], int]

    def __call__(self) -> NodeState:
        """How this core is now."""
        targets = self.prober.targets.by_name.values()
        answerers = self.state.follower_names[:_MOST_ANSWERERS]
        confirmed = self.state.confirmed
        return NodeState(
            store_age_s=self.pump.reach.age_s(time.monotonic()),
            alarm=self.pump.alarm,
            instances=self.streams(),
            probed=sum(not target.refusal for target in targets),
            reporters=self.pump.reports.reporters,
            answerers=answerers,
            confirmed={name: confirmed[name] for name in answerers if name in confirmed},
        )
