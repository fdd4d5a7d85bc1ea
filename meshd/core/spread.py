"""How the clients of each Pop spread over the instances of a service, by sampled buckets."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from meshd.core.hashing import BUCKETS
from meshd.core.ranges import Policy
from meshd.core.resolve import Spot, choose
from meshd.core.snapshot import ServiceView

_SAMPLED_BUCKETS = 128


@dataclass(frozen=True, slots=True)
class Spread:
    """What the clients of one Pop get: instance -> the share given it first, and the TTLs."""

    firsts: Mapping[str, float]
    ttl_min_s: int
    ttl_max_s: int


def spread(view: ServiceView, pop: str) -> Spread:
    """The spread for clients of a Pop whose Range names no version."""
    policy = Policy(pop, {})
    buckets = range(0, BUCKETS, BUCKETS // _SAMPLED_BUCKETS)
    firsts: Counter[str] = Counter()
    ttls = set()
    for bucket in buckets:
        choice = choose(view, Spot(), policy, bucket)
        ttls.add(choice.ttl.seconds)
        firsts.update(ranked.member.instance.name for ranked in choice.chosen[:1])
    shares = {name: count / len(buckets) for name, count in firsts.items()}
    return Spread(shares, min(ttls), max(ttls))
