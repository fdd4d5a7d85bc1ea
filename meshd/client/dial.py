"""Connecting to one instance over whichever of its addresses answers first (RFC 8305)."""

import asyncio
import ssl
from asyncio.staggered import staggered_race
from functools import partial
from typing import NamedTuple

from meshd.client.endpoint import Endpoint

# RFC 8305 8: how long the next address waits for the one before it.
_HEAD_START_S = 0.25


class Streams(NamedTuple):
    """An open connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


async def dial(endpoint: Endpoint, tls: ssl.SSLContext | None = None) -> Streams:
    """Connect; with TLS as the name of the service. The first address's OSError if none answers."""
    if not endpoint.others:
        return await _open(endpoint.address, endpoint, tls)
    addresses = (endpoint.address, *endpoint.others)
    opens = [partial(_open, address, endpoint, tls) for address in addresses]
    winner: Streams | None
    winner, _, errors = await staggered_race(opens, _HEAD_START_S)
    if winner is None:
        raise next(filter(None, errors), ConnectionError("not connected"))
    return winner


async def _open(address: str, endpoint: Endpoint, tls: ssl.SSLContext | None) -> Streams:
    name = endpoint.service if tls else None
    return Streams(
        *await asyncio.open_connection(address, endpoint.port, ssl=tls, server_hostname=name)
    )
