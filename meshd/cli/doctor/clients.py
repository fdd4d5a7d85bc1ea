"""Does each client get its own list? Asked by turns and all at once, so that caches show."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_network
from typing import NamedTuple

from meshd.cli.doctor.subject import Asker, Finding, Level, Seen, Subject, Truth, outcome

_ROUNDS = 3
_THREADS = 8

MENDS = {
    "own list": "the server must pass the client on: dnsdist useProxyProtocol=true (PowerDNS "
    "behind it: proxy-protocol-from); Unbound send-client-subnet and subnetcache, or the module "
    "with a security status; the server's address in meshd's --proxy-from or --ecs-from",
    "subnet": "PowerDNS edns-subnet-processing=yes; dnsdist without setECSOverride; the server's "
    "address in meshd's --ecs-from; --no-subnet if its clients never send subnets",
    "mixed up": "a cache that knows no client: dnsdist without packet cache on this pool; "
    "Unbound's module with no_cache_store, or subnetcache first in module-config; PowerDNS rows "
    "with scopeMask, and cache-ttl=0",
}


class Asked(NamedTuple):
    """One question of a client, what is due to it, and what came.

    `is_wider`: what came is right for a wider subnet, for which somebody asked before. Resolvers
    may keep that for all in it (RFC 7871 7.3.1).
    """

    asker: Asker
    kind: str
    due: Truth
    seen: Seen | None
    is_wider: bool

    def __str__(self) -> str:
        return f"{self.asker} {self.kind}"


def ask_all(subject: Subject) -> list[Asked]:
    """All clients ask by turns, again and again, then at once."""
    turns = [(asker, kind) for kind in subject.kinds for asker in subject.askers] * _ROUNDS

    def ask(turn: tuple[Asker, str]) -> Asked:
        asker, kind = turn
        due = subject.truth(subject.name, kind, asker.client)
        seen = subject.ask(asker, subject.name, kind)
        return Asked(asker, kind, due, seen, _is_wider(subject, asker, kind, due, seen))

    found = [ask(turn) for turn in turns]
    with ThreadPoolExecutor(_THREADS) as threads:
        return [*found, *threads.map(ask, turns)]


def _is_wider(subject: Subject, asker: Asker, kind: str, due: Truth, seen: Seen | None) -> bool:
    if seen is None or not seen.scope or not asker.subnet or seen.scope >= due.scope:
        return False
    address, _, _ = asker.subnet.partition("/")
    wider = ip_network(f"{address}/{seen.scope}", strict=False)
    return seen.records == subject.truth(subject.name, kind, str(wider)).records


class _Lists:
    """Whose list is whose. Where the server spoils the order, only the set can tell."""

    def __init__(self, subject: Subject, asked: Sequence[Asked], *, ordered: bool) -> None:
        self._plain: Callable[[tuple[str, ...]], tuple[str, ...]]
        self._plain = (lambda held: held) if ordered else (lambda held: tuple(sorted(held)))
        self.of_clients = {
            (each.kind, self._plain(each.due.records)): str(each.asker) for each in asked
        }
        # Of those who are taken for everybody by mistake.
        self._suspects = {
            (kind, self._plain(subject.truth(subject.name, kind, client).records)): who
            for client, who in (
                ("", "nobody"), ("::1", "::1"), ("127.0.0.1", "127.0.0.1"),
                (subject.host, f"{subject.host}, the server itself"),
            )
            for kind in subject.kinds
        }  # fmt: skip
        self._by_source = {
            (each.asker.source, each.kind): self._plain(each.due.records)
            for each in asked
            if not each.asker.subnet
        }

    def fault(self, each: Asked) -> tuple[str, str] | None:
        """The check that an answer fails, and how; None if it is right."""
        seen, due = each.seen, each.due
        wrong = f"{each}: {outcome(seen)} instead of {outcome(due)}"
        if seen is None or seen.rcode != due.rcode:
            return "own list", wrong
        got = self._plain(seen.records)
        if got == self._plain(due.records) or each.is_wider:
            return None
        source = each.asker.source
        if each.asker.subnet and got == self._by_source.get((source, each.kind)):
            return "subnet", f"{each}: the list of its source, {source}"
        for check, lists in (("own list", self._suspects), ("mixed up", self.of_clients)):
            if (each.kind, got) in lists:
                return check, f"{each}: the list of {lists[each.kind, got]}"
        return "own list", wrong


def client_findings(
    subject: Subject, asked: Sequence[Asked], *, ordered: bool
) -> Iterator[Finding]:
    """Own list by source, by subnet, and nobody another's."""
    lists = _Lists(subject, asked, ordered=ordered)
    faults: dict[str, list[str]] = {check: [] for check in MENDS}
    for each in asked:
        fault = lists.fault(each)
        if fault is not None:
            faults[fault[0]].append(fault[1])
    with_subnet = sum(bool(asker.subnet) for asker in subject.askers)
    without = len(subject.askers) - with_subnet
    can_tell = len(lists.of_clients) > len(subject.kinds)
    fine = {
        "own list": f"{without} clients by source, each its own list",
        "subnet": f"{with_subnet} client subnets, each its own list" if with_subnet else "",
        "mixed up": f"{len(asked)} questions by turns and at once, nobody got another's list"
        if can_tell
        else "",
    }
    for check, wrong in faults.items():
        if wrong:
            more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
            yield Finding(check, Level.FAIL, wrong[0] + more, MENDS[check])
        elif fine[check]:
            yield Finding(check, Level.OK, fine[check])
        else:
            yield Finding(check, Level.SKIPPED, "all clients asked as have one list")
