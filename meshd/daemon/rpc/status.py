"""Errors -> gRPC status, the one table, as a decorator for unary and streaming methods."""

import functools
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NoReturn

import grpc

from meshd.core.errors import (
    Conflict,
    Invalid,
    LeaseLost,
    Malformed,
    MeshError,
    NotFound,
    Refused,
    Unavailable,
)

log = logging.getLogger(__name__)

_TABLE: tuple[tuple[type[MeshError], grpc.StatusCode], ...] = (
    (Invalid, grpc.StatusCode.INVALID_ARGUMENT),
    (Malformed, grpc.StatusCode.INVALID_ARGUMENT),
    (Conflict, grpc.StatusCode.ABORTED),
    (NotFound, grpc.StatusCode.NOT_FOUND),
    (LeaseLost, grpc.StatusCode.NOT_FOUND),
    (Refused, grpc.StatusCode.FAILED_PRECONDITION),
    (Unavailable, grpc.StatusCode.UNAVAILABLE),
    (MeshError, grpc.StatusCode.INTERNAL),
)
# Trailing metadata is bounded by the peer (8 KiB as a rule).
_MAX_DETAILS = 6000


def details_of(error: MeshError) -> str:
    """What the caller is told: every fault on a line of its own, cut where it would not fit."""
    if not isinstance(error, Invalid):
        return str(error)
    lines: list[str] = []
    size = 0
    for at, fault in enumerate(error.faults):
        size += len(str(fault)) + 1
        if size > _MAX_DETAILS:
            lines.append(f"... and {len(error.faults) - at} more")
            break
        lines.append(str(fault))
    return "\n".join(lines)


async def _abort(context: grpc.aio.ServicerContext[Any, Any], error: MeshError) -> NoReturn:
    code = next(code for kind, code in _TABLE if isinstance(error, kind))
    await context.abort(code, details_of(error))
    raise AssertionError("abort raises")


Unary = Callable[[Any, Any, Any], Awaitable[Any]]
Streaming = Callable[[Any, Any, Any], AsyncIterator[Any]]


def unary(method: Unary) -> Unary:
    """Translate the errors of a method that returns one message."""

    @functools.wraps(method)
    async def translated(self: Any, request: Any, context: Any) -> Any:
        try:
            return await method(self, request, context)
        except MeshError as error:
            await _abort(context, error)

    return translated


def streaming(method: Streaming) -> Streaming:
    """Translate the errors of a method that returns many messages."""

    @functools.wraps(method)
    async def translated(self: Any, request: Any, context: Any) -> AsyncIterator[Any]:
        try:
            async for message in method(self, request, context):
                yield message
        except MeshError as error:
            await _abort(context, error)

    return translated
