"""Deployments over HTTP, for systems that cannot run meshctl: POST begins a rollout, GET shows it.

Whoever asks shows the token of a file, which is read each time: a new one counts at once.
"""

import asyncio
import hmac
import json
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Protocol

from aiohttp import web

from meshd.core.errors import Conflict, Invalid, MeshError, NotFound, Refused, Unavailable
from meshd.core.release import Rollout
from meshd.core.topology import Kind
from meshd.daemon.state import State
from meshd.v1.rollout_pb2 import StartRequest
from meshd.wire.rollout_form import rollout_entry
from meshd.wire.start_form import read_start

log = logging.getLogger(__name__)

PATH = "/v1/deployments"
_BEGUN, _WRONG, _UNKNOWN, _AWAY = 201, 401, 404, 503
_TABLE: tuple[tuple[type[MeshError], int], ...] = (
    (NotFound, _UNKNOWN),
    (Conflict, 409),
    (Invalid, 400),
    (Refused, 409),
    (Unavailable, _AWAY),
    (MeshError, 500),
)


class Starts(Protocol):
    """Whoever begins rollouts."""

    async def start(self, request: StartRequest) -> tuple[Rollout, bool, int]:
        """The rollout, whether it is new, and the revision; MeshError."""


Answer = Callable[[web.Request], Awaitable[web.Response]]


class Deployments:
    """The routes, and what they answer."""

    def __init__(self, state: State, rollouts: Starts, token_file: Path) -> None:
        self._state = state
        self._rollouts = rollouts
        self._token_file = token_file

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Add the routes."""
        router.add_post(PATH, self._guarded(self._begin))
        router.add_get(PATH + "/{id}", self._guarded(self._show))

    def _guarded(self, answer: Answer) -> Answer:
        """Answer who shows the token; errors as statuses."""

        async def guarded(request: web.Request) -> web.Response:
            try:
                if not await self._is_let_in(request):
                    said = {"error": "the token is missing or wrong", "faults": []}
                    headers = {"WWW-Authenticate": "Bearer"}
                    return web.json_response(said, status=_WRONG, headers=headers)
                return await answer(request)
            except MeshError as error:
                return _refused(error)

        return guarded

    async def _is_let_in(self, request: web.Request) -> bool:
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        try:
            token = (await asyncio.to_thread(self._token_file.read_bytes)).strip()
        except OSError as error:
            log.warning("token not read: path=%s error=%s", self._token_file, error.strerror)
            raise Unavailable("this core cannot read its token") from None
        shown = given.strip().encode("utf-8", "surrogateescape")
        is_same = hmac.compare_digest(shown, token)
        return bool(token) and scheme.lower() == "bearer" and is_same

    async def _begin(self, request: web.Request) -> web.Response:
        if not self._state.is_loaded:
            raise Unavailable("the store was not reached yet")
        form = read_start(await _body(request))
        service = self._state.snapshot.topology.services.get(form.service)
        if service is None:
            raise NotFound(f"no service is called {form.service!r}")
        asked = form.request(service.course)
        asked.author = asked.author or f"webhook@{request.remote}"
        rollout, is_new, revision = await self._rollouts.start(asked)
        said = {"is_new": is_new, "revision": revision, "rollout": rollout_entry(rollout)}
        headers = {"Location": f"{PATH}/{rollout.name}"}
        return web.json_response(said, status=_BEGUN if is_new else 200, headers=headers)

    async def _show(self, request: web.Request) -> web.Response:
        name = request.match_info["id"]
        found = self._state.snapshot.topology.get(Kind.ROLLOUTS, name)
        if not isinstance(found, Rollout):
            raise NotFound(f"no rollout is called {name!r}")
        return web.json_response(rollout_entry(found))


async def _body(request: web.Request) -> dict[str, Any]:
    """What was sent, a JSON object; Invalid."""
    try:
        found = json.loads(await request.read())
    except (ValueError, RecursionError) as error:
        raise Invalid(f"the body is no JSON: {error}") from None
    if not isinstance(found, dict):
        raise Invalid('the body is no JSON object, as in {"service": "api", "version": "1.3.0"}')
    return found


def _refused(error: MeshError) -> web.Response:
    faults = [str(fault) for fault in error.faults] if isinstance(error, Invalid) else []
    status = next(status for kind, status in _TABLE if isinstance(error, kind))
    headers = {"Retry-After": "5"} if status == _AWAY else {}
    said = {"error": (faults or [str(error)])[0], "faults": faults}
    return web.json_response(said, status=status, headers=headers)
