"""How long an answer can live that holds an instance.

An answer lives no longer than its least member lets it, so what an instance itself allows bounds
every answer that holds it. Names that ask for the instance or for its Pop alone are left out:
`<instance>.instance.<service>` is answered whatever becomes of it.
"""

from bisect import bisect_left

from meshd.core.ranking import Member
from meshd.core.signals import headroom
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


def all_stand_in(view: ServiceView) -> bool:
    """True if nobody is ready, so that all that are not forced down are answered."""
    return view.service.fail_open and not any(member.verdict.is_ready for member in view.members)


def longest_s(view: ServiceView, member: Member, stand_in: bool) -> float:
    """The longest that an answer given now and holding `member` lives; 0: none holds it.

    `stand_in` is what `all_stand_in` says of the view.
    """
    stands_in = stand_in and member.verdict is not Verdict.FORCED_DOWN
    if not (member.verdict.is_ready or stands_in):
        return 0.0
    free = headroom(member.signal)
    return float(answer_ttl(view.service.ttl, free, member.verdict, stands_in).seconds)
