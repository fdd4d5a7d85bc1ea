"""The bridge on a unix socket: PowerDNS's remote backend, and whole answers for resolvers.

It looks up and reports, nothing else.
"""

import asyncio
import json
import logging
import socket
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, cast

from meshd.answerer.state import State
from meshd.answerer.trust import Trusted
from meshd.core.errors import Malformed
from meshd.core.resolve import Answer, Client, Status, aim, decide, scope_of
from meshd.core.rrsets import rrsets_of
from meshd.core.snapshot import Snapshot
from meshd.wire import answers, remote

log = logging.getLogger(__name__)

# Whole request lines with their replies, kept until the next swap.
_MAX_LINES = 50_000
# Rows of one service, by spot, policy and bucket.
_MAX_ROWS = 200_000


class _Rows(NamedTuple):
    """What is said of a name, to be filled: all of it, each row with its type, how it is scoped."""

    whole: str
    each: tuple[tuple[str, str], ...] = ()
    scope: int = 0
    is_keyed: bool = False
    is_static: bool = True
    is_lasting: bool = True


class Bridge:
    """Turns request lines into reply lines, from the state's snapshot."""

    def __init__(self, state: State, ecs_from: Trusted) -> None:
        self._state = state
        self._ecs_from = ecs_from
        self._lines: dict[bytes, bytes] = {}
        self._stored = 0
        self._methods: Mapping[str, Callable[[Snapshot, Mapping[str, Any]], str]] = {
            "lookup": self._lookup,
            "answer": self._answer,
            "getAllDomains": self._all_domains,
            "getDomainInfo": self._domain_info,
            "getAllDomainMetadata": lambda snapshot, parameters: "{}",
            "getDomainMetadata": lambda snapshot, parameters: "[]",
        }
        state.on_swap(self._lines.clear)

    def reply(self, line: bytes) -> bytes:
        """The reply to one request line; failures are replies without `result`."""
        known = self._lines.get(line)
        if known is not None:
            return known
        try:
            made = self._reply(line)
        except Malformed as error:
            return remote.failure(str(error))
        except Exception as error:
            log.exception("no reply to a request: line=%r", line[:500])
            return remote.failure(f"internal error: {type(error).__name__}")
        if len(self._lines) >= _MAX_LINES:
            self._lines.clear()
        self._lines[line] = made
        return made

    def _reply(self, line: bytes) -> bytes:
        request = remote.parse_request(line)
        if request.method == "initialize":
            return remote.reply("true")
        method = self._methods.get(request.method)
        if method is None:
            # AXFR, DNSSEC keys, updates: not here, and `false` says so.
            return remote.reply("false")
        snapshot = self._state.snapshot
        if snapshot is None:
            raise Malformed("no topology yet")
        return remote.reply(method(snapshot, request.parameters))

    def _all_domains(self, snapshot: Snapshot, parameters: Mapping[str, Any]) -> str:
        serial = snapshot.topology.revision
        zones = snapshot.topology.zones.values()
        return json.dumps([remote.domain_info(zone, serial) for zone in zones])

    def _domain_info(self, snapshot: Snapshot, parameters: Mapping[str, Any]) -> str:
        zone = snapshot.directory.zones.get(remote.zone_name(parameters))
        if zone is None:
            return "false"
        return json.dumps(remote.domain_info(zone, snapshot.topology.revision))

    def _lookup(self, snapshot: Snapshot, parameters: Mapping[str, Any]) -> str:
        lookup = remote.parse_lookup(parameters)
        client, _ = self._client(lookup)
        rows = self._remembered(snapshot, lookup.name, client, None)
        if lookup.qtype == "ANY":
            template = rows.whole
        else:
            template = ",".join(row for kind, row in rows.each if kind == lookup.qtype)
        # Even where all clients get the same: unscoped rows would be kept past a change.
        scope = 0 if rows.is_static else max(1, rows.scope)
        return f"[{remote.fill(template, lookup.qname, scope)}]"

    def _answer(self, snapshot: Snapshot, parameters: Mapping[str, Any]) -> str:
        lookup, qtype = answers.parse_question(parameters)
        client, by_ecs = self._client(lookup)
        rows = self._remembered(snapshot, lookup.name, client, qtype)
        return answers.fill(rows.whole, lookup.qname, rows.scope if by_ecs else 0)

    def _client(self, lookup: remote.Lookup) -> tuple[Client | None, bool]:
        """For whom an answer is, and whether it is because of a client subnet that is believed."""
        asker, named = lookup.remote, lookup.real_remote
        if asker is not None and not self._ecs_from.holds(asker.version, asker.address):
            return asker, False
        return named, named != asker

    def _remembered(
        self, snapshot: Snapshot, name: bytes, client: Client | None, qtype: int | None
    ) -> _Rows:
        """Rows (qtype None) or a whole answer, remembered in the service's view if of a service."""
        aimed = aim(snapshot, name, client)
        place, view, locus = aimed.place, aimed.view, aimed.locus
        if view is None or locus is None or place is None or aimed.spot is None:
            return _make(snapshot, decide(snapshot, aimed, client), name, qtype)
        if place.wildcard or place.zone_wire == name:
            return _make(snapshot, decide(snapshot, aimed, client), name, qtype)
        known = view.replies.setdefault(("rows", name, qtype), {})
        key = view.policy_key(locus.policy) << 10 | locus.bucket
        rows: _Rows | None = known.get(key)
        if rows is None:
            self._stored += 1
            if self._stored > _MAX_ROWS:
                self._stored = 0
                view.replies.clear()
            rows = _make(snapshot, decide(snapshot, aimed, client), name, qtype)
            if rows.is_lasting:
                known[key] = rows
        if aimed.spot.is_fixed:
            return rows
        return rows._replace(scope=scope_of(snapshot, rows.is_keyed, locus, client))


def _make(snapshot: Snapshot, answer: Answer, name: bytes, qtype: int | None) -> _Rows:
    if qtype is None:
        made = _rows(snapshot, answer, name)
    else:
        whole, is_lasting = answers.answer_template(snapshot, answer, name, qtype)
        made = _Rows(whole, is_lasting=is_lasting)
    is_keyed = answer.choice is not None and answer.choice.is_keyed
    return made._replace(scope=answer.scope, is_keyed=is_keyed, is_static=answer.choice is None)


def _rows(snapshot: Snapshot, answer: Answer, name: bytes) -> _Rows:
    """All rows at a name, for PowerDNS."""
    if answer.status is Status.NOT_READY:
        raise Malformed("no instance is ready and the service does not fail open")
    if answer.place is None or answer.status is not Status.FOUND:
        return _Rows("")
    zone = answer.place.zone
    found = remote.row_templates(rrsets_of(snapshot, answer, name), zone)
    found = found or [remote.empty_template(zone, zone.negative_ttl_s)]
    return _Rows(",".join(row for _, row in found), tuple(found))


class BridgeServer:
    """Serves the bridge on a listening unix socket."""

    def __init__(self, sock: socket.socket, bridge: Bridge) -> None:
        self._sock = sock
        self._bridge = bridge
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Accept from now on."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(
            lambda: _Connection(self._bridge), sock=self._sock
        )

    def stop(self) -> None:
        """Accept no more."""
        if self._server is not None:
            self._server.close()


class _Connection(asyncio.Protocol):
    """One connection of PowerDNS: a line in, exactly one line out, in order."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge
        self._rest = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are of no asyncio class.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None, "asyncio calls connection_made first"
        if not self._rest and data.find(b"\n") == len(data) - 1:
            # PowerDNS waits for each reply, so this is how nearly all requests come.
            self._transport.write(self._bridge.reply(data[:-1]))
            return
        lines = (self._rest + data).split(b"\n") if self._rest else data.split(b"\n")
        self._rest = lines.pop()
        if len(self._rest) > remote.MAX_LINE:
            log.warning("bridge: a line of more than %d bytes, closed", remote.MAX_LINE)
            self._transport.close()
            return
        replies = [self._bridge.reply(line) for line in lines if line]
        if replies:
            self._transport.write(b"".join(replies))
