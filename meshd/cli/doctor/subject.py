"""The server under examination, the clients to ask it as, and the truth that meshd has."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from dns.edns import ECSOption
from dns.exception import DNSException
from dns.message import Message, make_query
from dns.query import tcp, udp
from dns.rcode import to_text as rcode_text
from dns.rdatatype import RdataType

_TIMEOUT_S = 2.0
_TRIES = 2


class Asker(NamedTuple):
    """A client: the address that it sends from, and the subnet that it names, if any."""

    source: str
    subnet: str = ""

    @property
    def client(self) -> str:
        """For whom meshd should answer."""
        return self.subnet or self.source

    def __str__(self) -> str:
        return f"subnet {self.subnet}" if self.subnet else self.source


class Truth(NamedTuple):
    """What meshd answers to a question: rcode, data of the records in order, TTL, scope."""

    rcode: str
    records: tuple[str, ...]
    ttl_s: int
    scope: int


class Seen(NamedTuple):
    """What the server answered."""

    rcode: str
    records: tuple[str, ...]
    ttl_s: int
    scope: int | None
    message: Message


@dataclass(frozen=True)
class Subject:
    """A DNS server, and how to look at it."""

    host: str
    port: int
    askers: Sequence[Asker]
    # The name to ask for, its zone, the types of addresses that it has, a name with SRV records.
    name: str
    zone: str
    kinds: Sequence[str]
    srv: str
    # (name, type, client: an address, a prefix or nothing) -> what meshd answers.
    truth: Callable[[str, str, str], Truth]

    def ask(self, asker: Asker, name: str, kind: str = "A", *, by_tcp: bool = False) -> Seen | None:
        """Ask the server; None if it does not reply."""
        options = []
        if asker.subnet:
            address, _, length = asker.subnet.partition("/")
            options.append(ECSOption(address, int(length)))
        query = make_query(name, kind, use_edns=0, payload=1232, options=[*options])
        exchange = tcp if by_tcp else udp
        for _ in range(_TRIES):
            try:
                reply = exchange(
                    query, self.host, _TIMEOUT_S, port=self.port, source=asker.source or None
                )
            except (OSError, DNSException):
                continue
            return _seen(reply, RdataType.from_text(kind))
        return None


def _seen(reply: Message, kind: RdataType) -> Seen:
    found = [rrset for rrset in reply.answer if rrset.rdtype == kind]
    scopes = [option.scopelen for option in reply.options if isinstance(option, ECSOption)]
    return Seen(
        rcode_text(reply.rcode()),
        tuple(rdata.to_text() for rrset in found for rdata in rrset),
        min((rrset.ttl for rrset in found), default=0),
        scopes[0] if scopes else None,
        reply,
    )


def outcome(found: Seen | Truth | None) -> str:
    """An answer in a few words."""
    if found is None:
        return "no reply"
    if found.rcode != "NOERROR":
        return found.rcode
    return " ".join(found.records) or "no records"


class Level(StrEnum):
    """How a check ended."""

    OK = "ok"
    NOTE = "note"
    FAIL = "FAIL"
    SKIPPED = "-"


class Finding(NamedTuple):
    """What one check found, and where something is wrong, the setting that mends it."""

    check: str
    level: Level
    text: str
    mend: str = ""
