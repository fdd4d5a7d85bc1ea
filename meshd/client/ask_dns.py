"""The endpoints of a service out of DNS: SRV with its addresses, or plain A and AAAA.

`_<port>._tcp.<name>` has it all: tiers as priorities, weights, and targets whose first label is the
name of the instance. Names are absolute: search lists are for people.
"""

import asyncio
import socket
from collections.abc import Iterable, Sequence
from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import dns.asyncquery
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.resolver

from meshd.client.endpoint import Endpoint
from meshd.client.lookup import (
    MOST_ENDPOINTS,
    Answer,
    Denied,
    Sought,
    Unresolved,
    endpoint_of,
    split_address,
)
from meshd.core.errors import Fault, Invalid

_WAIT_S = 1.0
_ROUNDS = 2
# What passes any network unfragmented (DNS flag day 2020).
_PAYLOAD = 1232

Records = tuple[Sequence[Any], float, dns.message.Message]


class DnsLookup:
    """Asks the servers given (`host:port`), or those of /etc/resolv.conf, in order."""

    def __init__(self, sought: Sought, servers: Iterable[str] = ()) -> None:
        self.sought = sought
        self._servers = _parsed(servers)
        self._name = _absolute(sought.name)
        # Who had SRV once has more than addresses on a port that everybody knows.
        self._had_srv = False

    def __repr__(self) -> str:
        asked = ", ".join(f"{host} port {port}" for host, port in self._servers)
        return f"<DnsLookup {self.sought} at {asked or 'the system servers'}>"

    async def __call__(self) -> Answer:
        """Ask once, of each server that does not answer, twice. Unresolved or Denied."""
        port = self.sought.port
        if isinstance(port, int):
            return await self._plain(port)
        try:
            return await self._srv(dns.name.Name([f"_{port}".encode(), b"_tcp"]) + self._name)
        except Denied:
            number = _well_known(port)
            if number is None or self._had_srv:
                raise
            return await self._plain(number)

    async def _srv(self, name: dns.name.Name) -> Answer:
        records, ttl_s, message = await self._ask(name, "SRV")
        self._had_srv = True
        ranked = sorted(records, key=lambda srv: (srv.priority, -srv.weight))
        # RFC 2782: the root as a target means that there is decidedly no such service.
        targets = [srv for srv in ranked if srv.target != dns.name.root][:MOST_ENDPOINTS]
        if not targets:
            raise Denied(f"{name}: not served")
        held = _addresses_in(message)
        missing = {srv.target for srv in targets} - held.keys()
        found = await asyncio.gather(*map(self._addresses, missing), return_exceptions=True)
        for target, each in zip(missing, found, strict=True):
            if isinstance(each, tuple):
                held[target], ttl_s = each[0], min(ttl_s, each[1])
        tiers = {priority: tier for tier, priority in enumerate({s.priority: 0 for s in ranked})}
        endpoints = tuple(
            replace(
                endpoint_of(self.sought, _first_label(srv.target), held[srv.target], srv.port),
                tier=tiers[srv.priority],
                weight=max(1, srv.weight),
            )
            for srv in targets
            if held.get(srv.target)
        )
        if not endpoints:
            raise Unresolved(f"{name}: no address of a target is known")
        return Answer(endpoints, ttl_s)

    async def _plain(self, port: int) -> Answer:
        """Each address one endpoint, in the order answered.

        AAAA as the next tier: they are mostly the same instances once more, so who has both is
        not counted twice, and who has no route for one family takes the other.
        """
        families = await asyncio.gather(
            self._ask(self._name, "A"), self._ask(self._name, "AAAA"), return_exceptions=True
        )
        had = [family for family in families if isinstance(family, tuple)]
        if not had:
            raise _worst(families)
        endpoints: list[Endpoint] = []
        for tier, (records, _, _) in enumerate(had):
            endpoints += [
                replace(endpoint_of(self.sought, "", [record.address], port), tier=tier)
                for record in records[:MOST_ENDPOINTS]
            ]
        return Answer(tuple(endpoints), min(ttl_s for _, ttl_s, _ in had))

    async def _addresses(self, name: dns.name.Name) -> tuple[list[str], float]:
        """All addresses of a target."""
        families = await asyncio.gather(
            self._ask(name, "A"), self._ask(name, "AAAA"), return_exceptions=True
        )
        had = [family for family in families if isinstance(family, tuple)]
        if not had:
            raise _worst(families)
        addresses = [record.address for records, _, _ in had for record in records]
        return addresses, min(ttl_s for _, ttl_s, _ in had)

    async def _ask(self, name: dns.name.Name, kind: str) -> Records:
        """The records of a type, how long they hold, and the message they came in."""
        servers = self._servers or _system_servers()
        failures: dict[str, None] = {}
        for host, port in servers * _ROUNDS:
            try:
                reply = await _exchanged(name, kind, host, port)
                found = reply.resolve_chaining()
            except (dns.exception.DNSException, OSError, EOFError) as error:
                failures[f"{host}: {error or type(error).__name__}"] = None
                continue
            if reply.rcode() not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
                failures[f"{host}: {dns.rcode.to_text(reply.rcode())}"] = None
                continue
            if found.answer is None:
                raise Denied(f"{name} {kind}: {dns.rcode.to_text(reply.rcode())}, no records")
            return list(found.answer), float(found.minimum_ttl), reply
        raise Unresolved(f"{name} {kind}: {'; '.join(failures) or 'no DNS server is known'}")


async def _exchanged(name: dns.name.Name, kind: str, host: str, port: int) -> Any:
    """One question to one server, over TCP if the reply does not fit."""
    query = dns.message.make_query(name, kind, use_edns=0, payload=_PAYLOAD)
    reply, _ = await dns.asyncquery.udp_with_fallback(
        query, host, _WAIT_S, port, ignore_unexpected=True, ignore_errors=True
    )
    return reply


def _addresses_in(message: dns.message.Message) -> dict[dns.name.Name, list[str]]:
    """The addresses that came along (RFC 2782), IPv4 first: it is what all instances have."""
    held: dict[dns.name.Name, list[str]] = {}
    for kind in (dns.rdatatype.A, dns.rdatatype.AAAA):
        for rrset in (*message.answer, *message.additional):
            if rrset.rdtype == kind:
                held.setdefault(rrset.name, []).extend(record.address for record in rrset)
    return held


def _first_label(name: dns.name.Name) -> str:
    return name.labels[0].decode("latin-1").lower()


def _worst(errors: Iterable[object]) -> Exception:
    """What is said of a name whose families both failed: down, if one of them is not known."""
    found = [error for error in errors if isinstance(error, Exception)]
    return next((error for error in found if not isinstance(error, Denied)), found[0])


def _well_known(port: str) -> int | None:
    """The number of a port that has one everywhere (/etc/services)."""
    try:
        return socket.getservbyname(port, "tcp")
    except OSError:
        return None


def _absolute(name: str) -> dns.name.Name:
    try:
        return dns.name.from_text(name)
    except dns.exception.DNSException as error:
        raise Invalid(f"{name!r} is no DNS name: {error}") from None


def _system_servers() -> list[tuple[str, int]]:
    try:
        system = dns.resolver.Resolver()
    except dns.resolver.NoResolverConfiguration:
        return []
    return [(str(server), system.port) for server in system.nameservers]


def _parsed(servers: Iterable[str]) -> list[tuple[str, int]]:
    """Servers as host and port; Invalid with everything that is wrong."""
    parsed, faults = [], []
    for server in servers:
        try:
            host, port = split_address(server, 53)
            parsed.append((str(ip_address(host)), port))
        except ValueError as error:
            faults.append(Fault("dns", str(error)))
    if faults:
        raise Invalid(faults)
    return parsed
