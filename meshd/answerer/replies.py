"""From a packet and its source to a reply: what is remembered, else parse, resolve and encode."""

import struct
from collections.abc import Sequence

from meshd.answerer.fast import Remembered, Reply, Scope, Source, client_of_source
from meshd.answerer.state import State
from meshd.answerer.table import Table
from meshd.answerer.trust import Trusted
from meshd.core.errors import Malformed
from meshd.core.names import Place
from meshd.core.resolve import Answer, Client, Status, resolve
from meshd.core.rrsets import RRset, Type, additional_of, rrsets_of, soa_of
from meshd.core.snapshot import Snapshot
from meshd.wire.dns import (
    Body,
    Query,
    Rcode,
    assemble,
    encode_rrset,
    negative_soa,
    parse_query,
    udp_limit,
)
from meshd.wire.proxy import SIGNATURE, parse_proxy

# RFC 8482 4.2: one HINFO of "RFC8482" is the whole answer to ANY.
_ANY_HEAD = b"\xc0\x0c\x00\x0d\x00\x01"
_ANY_RDATA = b"\x07RFC8482\x00"


# IXFR and AXFR: there is no one view of a zone to be had (RFC 5936 5: refused).
_TRANSFERS = (251, 252)

# Clients behind proxies of which something is remembered; beyond that the memory starts anew.
_MAX_PROXIED = 100_000


def _error(rcode: Rcode) -> Body:
    return Body(rcode, 0, 0, b"", aa=False)


class Replier:
    """Answers packets from the state's snapshot."""

    def __init__(
        self, state: State, ecs_from: Trusted, proxy_from: Trusted, table: Table | None = None
    ) -> None:
        self._state = state
        self._ecs_from = ecs_from
        self._proxy_from = proxy_from
        self._table = table
        # Clients behind proxies.
        self._proxied: dict[Client, Source] = {}
        self._negatives: dict[tuple[bytes, int, Rcode], Body] = {}
        self._remembered = Remembered()
        state.on_swap(self._renew)
        # There may be a snapshot already, read from disk.
        self._renew()

    def _renew(self) -> None:
        self._negatives = {}
        if self._state.snapshot is not None:
            self._remembered.renew(self._state.snapshot)

    def source(self, version: int, address: int) -> Source:
        """What replies depend on of a source."""
        trusted = self._ecs_from.holds(version, address)
        proxy = self._proxy_from.holds(version, address)
        return Source(address if version == 4 else address | 1 << 128, trusted, proxy)

    def source_behind(self, client: Client) -> Source:
        """What replies depend on of a client for whom a proxy asks; it is no proxy itself."""
        known = self._proxied.get(client)
        if known is None:
            if len(self._proxied) >= _MAX_PROXIED:
                self._proxied.clear()
            made = self.source(client.version, client.address)
            known = self._proxied[client] = made._replace(is_proxy=False)
        return known

    def reply_udp(self, data: bytes, source: Source) -> bytes | None:
        """The reply to a UDP packet from a source, or None where silence is due."""
        try:
            found = self._remembered.find(data, source)
        except (IndexError, struct.error):
            # Cut short: the full way says what is due.
            found = None
        if found is None and source.is_proxy and data.startswith(SIGNATURE):
            return self._reply_behind(data, source)
        return found or self._reply(data, source, None)

    def _reply_behind(self, data: bytes, proxy: Source) -> bytes | None:
        """The reply to a packet that a proxy sent for a client."""
        try:
            client, size = parse_proxy(data)
        except Malformed:
            # For whom this was, nobody knows.
            return None
        query = data[size:]
        if client is None:
            return self.reply_udp(query, proxy._replace(is_proxy=False))
        source = self.source_behind(client)
        if self._table is not None:
            question = _question(query)
            if not self._table.holds(question, source.key):
                # The slow way, once, so that the proxy need not ask the next time.
                self._table.note(question, source.key)
                return self._reply(query, source, None, self._table)
        return self.reply_udp(query, source)

    def reply_tcp(self, data: bytes, source: Source) -> bytes | None:
        """The reply to one message of a TCP connection, or None where silence is due."""
        return self._reply(data, source, 65535)

    def _reply(
        self, data: bytes, source: Source, limit: int | None, table: Table | None = None
    ) -> bytes | None:
        query = parse_query(data)
        if query is None:
            return None
        limit = limit or udp_limit(query)
        snapshot = self._state.snapshot
        if query.error:
            return assemble(query, _error(query.error), 0, limit)
        if query.qclass != 1 or query.qtype in _TRANSFERS:
            return assemble(query, _error(Rcode.REFUSED), 0, limit)
        if snapshot is None:
            return assemble(query, _error(Rcode.SERVFAIL), 0, limit)
        ecs = query.edns.ecs if query.edns else None
        by_ecs = ecs is not None and source.trusted
        client = ecs.client if ecs and by_ecs else Client(*client_of_source(source.key))
        answer = resolve(snapshot, query.name, client)
        body = self._body(snapshot, answer, query)
        if client is not None:
            self._remember(answer, query, body)
        if table is not None and ecs is None and client is not None:
            _publish(table, answer, query, client, body)
        return assemble(query, body, answer.scope if by_ecs else 0, limit)

    def _body(self, snapshot: Snapshot, answer: Answer, query: Query) -> Body:
        """The sections that an answer makes for the type asked."""
        if answer.place is None:
            return _error(Rcode.REFUSED)
        if answer.status is Status.NOT_READY:
            return _error(Rcode.SERVFAIL)
        rrsets = rrsets_of(snapshot, answer, query.name, query.qtype)
        if query.qtype == Type.ANY and rrsets:
            return _minimal(rrsets)
        if rrsets:
            return _positive(rrsets, additional_of(answer, rrsets))
        return self._negative(snapshot, answer.place, answer.status, len(query.name))

    def _negative(self, snapshot: Snapshot, place: Place, status: Status, length: int) -> Body:
        """No such name, or no such type: alike for all names of one length in a zone."""
        rcode = Rcode.NXDOMAIN if status is Status.NO_NAME else Rcode.NOERROR
        key = (place.zone_wire, length, rcode)
        body = self._negatives.get(key)
        if body is None:
            soa = soa_of(place.zone, snapshot.topology.revision)
            authority = negative_soa(soa, len(place.zone_wire), length)
            body = self._negatives[key] = Body(rcode, 0, 1, encode_rrset(authority)[1])
        return body

    def _remember(self, answer: Answer, query: Query, body: Body) -> None:
        """Keep replies of service names; those of wildcards would be without number."""
        if body.rcode == Rcode.NXDOMAIN and answer.view is None:
            self._remembered.keep_missing(query.name, body)
        view, locus, choice, spot = answer.view, answer.locus, answer.choice, answer.spot
        if view is None or locus is None or choice is None or spot is None or body.rcode:
            return
        if answer.place is None or answer.place.wildcard:
            return
        # With the zone's serial in it, a reply lasts only as long as the revision.
        lasting = not body.authority and query.qtype != Type.SOA
        key = view.policy_key(locus.policy) << 10 | locus.bucket
        scope = Scope(choice.is_keyed and not spot.is_fixed, not spot.is_fixed)
        slot_key = query.name + query.question[-4:]
        self._remembered.keep(slot_key, view, key, Reply.of(body, scope), lasting)


def _question(query: bytes) -> bytes:
    """The bytes of the question, its name in lower case; of a cut packet, something."""
    end = query.find(0, 12) + 1
    # Not the type: HTTPS is 65, as `A` is.
    return query[12:end].lower() + query[end : end + 4]


def _publish(table: Table, answer: Answer, query: Query, client: Client, body: Body) -> None:
    """Put an answer of a service into the table; those of wildcards would be without number."""
    if answer.view is None or answer.place is None or answer.place.wildcard or body.rcode:
        return
    question = query.name + query.question[-4:]
    if body.authority or query.qtype == Type.SOA:
        # That there is no such type is so for every client, and has the zone's serial in it.
        table.put(question, client, 0, "", body)
    else:
        table.put(question, client, answer.scope, answer.view.service.name, body)


def _minimal(rrsets: Sequence[RRset]) -> Body:
    ttl = min(rrset.ttl for rrset in rrsets).to_bytes(4, "big")
    size = len(_ANY_RDATA).to_bytes(2, "big")
    return Body(Rcode.NOERROR, 1, 0, _ANY_HEAD + ttl + size + _ANY_RDATA)


def _positive(wanted: Sequence[RRset], additional: Sequence[RRset]) -> Body:
    answers = [encode_rrset(rrset) for rrset in wanted]
    return Body(
        Rcode.NOERROR,
        sum(count for count, _ in answers),
        0,
        b"".join(data for _, data in answers),
        tuple(encode_rrset(rrset) for rrset in additional),
    )
