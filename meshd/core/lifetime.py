"""How long an answer can live that holds an instance.

An answer lives no longer than its least member lets it, so what an instance itself allows bounds
every answer that holds it. Names that ask for the instance or for its Pop alone are left out:
`<instance>.instance.<service>` is answered whatever becomes of it.
"""

from bisect import bisect_left

from meshd.core.ranking import Member
from meshd.core.snapshot import ServiceView
from meshd.core.ttl import answer_ttl
from meshd.core.verdict import Verdict


def member_of(view: ServiceView | None, name: str) -> Member | None:
    """The member of that name, if there is one."""
    if view is None:
        return None
    at = bisect_left(view.members, name, key=lambda member: member.instance.name)
    found = view.members[at] if at < len(view.members) else None
    return found if found is not None and found.instance.name == name else None


def ready_families(view: ServiceView) -> frozenset[int]:
    """The IP versions that ready members have addresses of; none: nobody is ready."""
    ready = (member.instance for member in view.members if member.verdict.is_ready)
    return frozenset(address.version for instance in ready for address in instance.addresses)


def longest_s(view: ServiceView, member: Member, families: frozenset[int]) -> float:
    """The longest that an answer given now and holding `member` lives; 0: none holds it.

    `families` is what `ready_families` says of the view. Where nobody is ready all stand in but
    those forced down; who alone has addresses of a version stands in for it unless it drains.
    """
    is_ready = member.verdict.is_ready
    stands_in = not is_ready and _stands_in(view, member, families)
    if not (is_ready or stands_in):
        return 0.0
    return float(answer_ttl(view.service, (member,), stands_in).seconds)


def _stands_in(view: ServiceView, member: Member, families: frozenset[int]) -> bool:
    if member.verdict is Verdict.FORCED_DOWN:
        return False
    if not families:
        return view.service.fail_open
    if member.verdict is Verdict.DRAINING:
        return False
    return any(address.version not in families for address in member.instance.addresses)
