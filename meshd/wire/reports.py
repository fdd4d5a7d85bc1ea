"""Reports of clients: a batch as it came over gRPC, checked as a whole and each by each."""

import math

from meshd.core.errors import Invalid
from meshd.core.histogram import BUCKETS
from meshd.core.outcomes import Outcome
from meshd.v1 import reporter_pb2 as pb
from meshd.v1.cluster_pb2 import HeardOutcome

# What was gathered for longer is no news.
_LONGEST_S = 60.0
_NAME_LENGTH = 128


def reporter_name(request: pb.ReportRequest) -> str:
    """The name that a reporter gives itself; Invalid if it is none."""
    name = request.reporter
    if not (0 < len(name) <= _NAME_LENGTH and name.isprintable()):
        raise Invalid(f"reporter must be 1..{_NAME_LENGTH} printable characters")
    return name


def is_timely(request: pb.ReportRequest) -> bool:
    """True if the window of a batch can be, and was not so long that what it holds is old."""
    return math.isfinite(request.window_s) and 0 <= request.window_s <= _LONGEST_S


def outcome_from_message(message: pb.Outcomes | HeardOutcome) -> Outcome:
    """What one reporter saw of one instance; Invalid for counts that cannot be."""
    if len(message.latency) > BUCKETS:
        raise Invalid("latency has buckets that there are not")
    return Outcome(
        message.attempts,
        message.connect_errors,
        message.timeouts,
        message.failures,
        dict(message.latency),
    )
