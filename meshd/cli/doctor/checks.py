"""The checks: one function and one line each, with the setting that mends what is wrong."""

from collections.abc import Iterator, Sequence
from secrets import token_hex

from dns.flags import TC
from dns.rdatatype import RdataType

from meshd.cli.doctor.clients import Asked, ask_all, client_findings
from meshd.cli.doctor.subject import Asker, Finding, Level, Seen, Subject, Truth, outcome

_ORDER_ASKS = 20


def examine(subject: Subject) -> Iterator[Finding]:
    """All checks, as they are done; only the first if the server does not reply at all."""
    silent = _silent(subject)
    yield _reach(subject, silent)
    if len(silent) == 2:
        return
    order = _order(subject)
    asked = ask_all(subject)
    clients = list(client_findings(subject, asked, ordered=order.level is not Level.FAIL))
    yield from clients
    yield order
    yield _ttl(asked)
    yield _scope(asked)
    yield _negative(subject)
    # Where clients are confused, other records are too: then only their number tells something.
    is_own = not any(finding.level is Level.FAIL for finding in clients)
    yield _srv(subject, is_own=is_own)
    yield _https(subject, is_own=is_own)
    yield _case(subject)


def _silent(subject: Subject) -> list[str]:
    """The transports that get no reply."""
    return [
        how
        for how in ("UDP", "TCP")
        if not subject.ask(subject.askers[0], subject.name, "SOA", by_tcp=how == "TCP")
    ]


def _reach(subject: Subject, silent: Sequence[str]) -> Finding:
    mend = "does it run, and let this machine ask (Unbound access-control, dnsdist setACL)?"
    if silent:
        text = f"{subject.host} port {subject.port}: no reply by {' or '.join(silent)}"
        return Finding("reach", Level.FAIL, text, mend)
    seen = subject.ask(subject.askers[0], subject.name, subject.kinds[0])
    if seen is not None and seen.message.flags & TC:
        return Finding("reach", Level.NOTE, "replies do not fit UDP: clients ask again by TCP")
    return Finding("reach", Level.OK, "replies by UDP and TCP")


def _order(subject: Subject) -> Finding:
    mend = "PowerDNS no-shuffle=yes; Unbound rrset-roundrobin: no; BIND rrset-order { order none; }"
    asker = subject.askers[0]
    for kind in subject.kinds:
        due = subject.truth(subject.name, kind, asker.client).records
        seen = [subject.ask(asker, subject.name, kind) for _ in range(_ORDER_ASKS)]
        orders = {reply.records for reply in seen if reply and reply.records}
        sets = {tuple(sorted(order)) for order in orders}
        if len(due) < 2 or not orders:
            continue
        if len(orders) > len(sets):
            text = f"{len(orders)} orders in {_ORDER_ASKS} {kind} replies to one client"
            return Finding("order", Level.FAIL, text, mend)
        if sets == {tuple(sorted(due))} and orders != {due}:
            text = f"{kind} records sorted anew: {' '.join(min(orders))}"
            return Finding("order", Level.FAIL, text, mend)
        return Finding("order", Level.OK, f"one order in {_ORDER_ASKS} {kind} replies to {asker}")
    return Finding("order", Level.SKIPPED, f"{subject.name} has one address for {asker}")


def _ttl(asked: Sequence[Asked]) -> Finding:
    mend = "no minimum TTL: Unbound cache-min-ttl: 0, PowerDNS Recursor minimum-ttl-override=0"
    found = [
        (each.seen.ttl_s - each.due.ttl_s, each.seen.ttl_s, each.due.ttl_s, str(each))
        for each in asked
        if each.seen is not None and each.seen.records and each.due.records
    ]
    if not found:
        return Finding("TTL", Level.SKIPPED, "no records to look at")
    above, ttl_s, due_s, who = max(found)
    if above > 0:
        text = f"{who}: {ttl_s} s instead of {due_s} s"
        return Finding("TTL", Level.FAIL, text, mend)
    if min(found)[0] < 0:
        text = f"counts down: answers are kept here, a change shows up to {due_s} s later"
        return Finding("TTL", Level.NOTE, text)
    return Finding("TTL", Level.OK, f"as meshd says ({due_s} s), and nothing is kept")


def _scope(asked: Sequence[Asked]) -> Finding:
    mend = (
        "PowerDNS edns-subnet-processing=yes; Unbound with subnetcache first in module-config; "
        "the server's address in meshd's --ecs-from"
    )
    found = [
        (each.asker.subnet, each.seen.scope, each.due.scope, each.is_wider)
        for each in asked
        if each.asker.subnet and each.seen is not None
    ]
    if not found:
        return Finding("scope", Level.SKIPPED, "no client subnets")
    for subnet, scope, due, is_wider in found:
        if scope is None:
            text = f"subnet {subnet}: none in the reply, resolvers would keep it for everybody"
            return Finding("scope", Level.FAIL, text, mend)
        if scope < due and not is_wider:
            text = f"subnet {subnet}: /{scope}, but the answer holds in /{due} only"
            return Finding("scope", Level.FAIL, text, mend)
    if any(is_wider for *_, is_wider in found):
        text = "wider for some: somebody asked for a wider subnet, and that is kept"
        return Finding("scope", Level.NOTE, text)
    if any(scope != due for _, scope, due, _ in found):
        return Finding("scope", Level.NOTE, "narrower than meshd's: safe, but caches hold less")
    return Finding("scope", Level.OK, f"as meshd says, in {len(found)} replies")


def _negative(subject: Subject) -> Finding:
    mend = (
        'Unbound local-zone: "<zone>" transparent; no RPZ and no made-up NXDOMAIN for these '
        "names; PowerDNS negquery-cache-ttl=5"
    )
    missing = f"meshd-doctor-{token_hex(4)}.{subject.zone}"
    for name, kind in ((missing, "A"), (subject.name, "MX")):
        for asker in (subject.askers[0], subject.askers[-1]):
            due = subject.truth(name, kind, asker.client)
            fault = _negative_fault(due, subject.ask(asker, name, kind))
            if fault:
                return Finding("negative", Level.FAIL, f"{asker} {name} {kind}: {fault}", mend)
    return Finding("negative", Level.OK, "no such name, no such type: as meshd says, with SOA")


def _negative_fault(due: Truth, seen: Seen | None) -> str:
    if seen is None or seen.rcode != due.rcode or set(seen.records) != set(due.records):
        return f"{outcome(seen)} instead of {outcome(due)}"
    if due.records:
        # A wildcard holds the name.
        return ""
    soa = next((found for found in seen.message.authority if found.rdtype == RdataType.SOA), None)
    if soa is None:
        return "no SOA, so that it is kept as long as a resolver likes"
    if soa.ttl > due.ttl_s:
        return f"kept for {soa.ttl} s instead of {due.ttl_s} s"
    return ""


def _srv(subject: Subject, *, is_own: bool) -> Finding:
    mend = "no filter of SRV records and of names with _ on the way"
    asker = subject.askers[0]
    due = subject.truth(subject.srv, "SRV", asker.client)
    seen = subject.ask(asker, subject.srv, "SRV")
    if seen is None or not _alike(seen, due, is_own=is_own):
        text = f"{subject.srv}: {outcome(seen)} instead of {outcome(due)}"
        return Finding("SRV", Level.FAIL, text, mend)
    for target in (record.split()[3] for record in seen.records):
        if not _resolves(subject, asker, target):
            return Finding("SRV", Level.FAIL, f"its target {target} has no address", mend)
    return Finding("SRV", Level.OK, f"{len(seen.records)} targets, each with an address")


def _alike(seen: Seen, due: Truth, *, is_own: bool) -> bool:
    if seen.rcode != due.rcode or len(seen.records) != len(due.records):
        return False
    return not is_own or set(seen.records) == set(due.records)


def _resolves(subject: Subject, asker: Asker, target: str) -> bool:
    found = (subject.ask(asker, target, kind) for kind in subject.kinds)
    return any(seen is not None and seen.records for seen in found)


def _https(subject: Subject, *, is_own: bool) -> Finding:
    asker = subject.askers[0]
    due = subject.truth(subject.name, "HTTPS", asker.client)
    seen = subject.ask(asker, subject.name, "HTTPS")
    if seen is None or not _alike(seen, due, is_own=is_own):
        text = f"{outcome(seen)} instead of {outcome(due)}"
        return Finding("HTTPS", Level.FAIL, text, "no filter of type 65 on the way")
    if not due.records:
        return Finding("HTTPS", Level.OK, "no records: the service has no port `https`")
    return Finding("HTTPS", Level.OK, f"{len(seen.records)} records with port and hints")


def _case(subject: Subject) -> Finding:
    """Resolvers write names in odd case, and drop replies that do not repeat it (0x20)."""
    mend = "no rewriting of names on the way"
    odd = "".join(
        char.upper() if place % 2 else char.lower() for place, char in enumerate(subject.name)
    )
    seen = subject.ask(subject.askers[0], odd, subject.kinds[0])
    if seen is None or not seen.records:
        return Finding("case", Level.FAIL, f"{odd}: {outcome(seen)}", mend)
    written = str(seen.message.question[0].name)
    if written != odd:
        return Finding("case", Level.FAIL, f"{odd} came back as {written}", mend)
    return Finding("case", Level.OK, "any case is answered, and comes back as it was written")
