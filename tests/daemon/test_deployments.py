"""Rollouts by HTTP: who is let in, what begins, and how each refusal is told."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from meshd.daemon.deployments import Deployments
from meshd.daemon.http import start_http
from tests.daemon.cores import DOCUMENT, Core, core, until
from tests.servers.processes import free_port

TOKEN = "0123456789abcdef"
WANTED = {"service": "api", "version": "1.4.0", "id": "build-7"}


class Site:
    """The HTTP face of a core that lets in who has the token."""

    def __init__(self, made: Core, token: Path, url: str) -> None:
        self.core = made
        self.token = token
        self._url = url

    async def ask(
        self, method: str, path: str = "", shown: str | None = f"Bearer {TOKEN}", **more: Any
    ) -> tuple[int, Any, Any]:
        """Status, what was said, headers."""
        headers = {} if shown is None else {"Authorization": shown}
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, self._url + path, headers=headers, **more) as reply,
        ):
            text = await reply.text()
            is_json = reply.content_type == "application/json"
            return reply.status, json.loads(text) if is_json else text, reply.headers

    async def post(self, **changed: Any) -> tuple[int, Any, Any]:
        return await self.ask("POST", json=WANTED | changed)

    def rollouts(self) -> set[str]:
        return set(self.core.state.snapshot.topology.rollouts)


@asynccontextmanager
async def site(path: Path) -> AsyncIterator[Site]:
    token = path / "token"
    token.write_text(f"{TOKEN}\n")
    async with core(path) as made:
        await made.apply(DOCUMENT.replace('services: ["api@{1.2: 95, 1.3: 5}"]', "services: []"))
        port = free_port()
        deployments = Deployments(made.state, made.server.rollouts, token)
        runner = await start_http(made.state, made.pump, ("127.0.0.1", port), [], deployments)
        try:
            yield Site(made, token, f"http://127.0.0.1:{port}/v1/deployments")
        finally:
            await runner.cleanup()


async def test_a_deployment_begins_once(tmp_path: Path) -> None:
    async with site(tmp_path) as made:
        status, said, headers = await made.post(
            steps=[10, 100], every="1m", gates=["probes>=50%"], pops=["eu"]
        )
        assert (status, said["is_new"]) == (201, True)
        assert headers["Location"] == "/v1/deployments/build-7"
        rollout = said["rollout"]
        assert (rollout["to"], rollout["phase"], rollout["percent"]) == ("1.4.0", "running", 10)
        assert rollout["author"] == "webhook@127.0.0.1"
        assert rollout["scope"] == {"pops": ["eu"], "ranges": []}
        await until("it is there", lambda: made.rollouts() == {"build-7"})
        again = await made.post(steps=[10, 100], every=60, gates=["probes>=50%"], pops=["eu"])
        assert (again[0], again[1]["is_new"]) == (200, False)
        status, shown, _ = await made.ask("GET", "/build-7")
        assert (status, shown) == (200, rollout)


async def test_another_one_is_moving(tmp_path: Path) -> None:
    async with site(tmp_path) as made:
        assert (await made.post())[0] == 201
        await until("it is there", lambda: made.rollouts() == {"build-7"})
        status, said, _ = await made.post(id="build-8", version="1.5.0")
        assert (status, "build-7" in said["error"]) == (409, True)
        status, said, _ = await made.post(version="1.5.0")
        assert (status, "is another one" in said["error"]) == (409, True)
        assert made.rollouts() == {"build-7"}


@pytest.mark.parametrize(
    "shown", [None, "", "Bearer", "Bearer ", f"Basic {TOKEN}", TOKEN, "Bearer 0123456789abcdeF",
              f"Bearer {TOKEN}x", "Bearer \u00e9"]
)  # fmt: skip
async def test_nobody_without_the_token(tmp_path: Path, shown: str | None) -> None:
    async with site(tmp_path) as made:
        for method, path in (("POST", ""), ("GET", "/build-7")):
            status, said, headers = await made.ask(method, path, shown=shown, json=WANTED)
            assert (status, headers["WWW-Authenticate"]) == (401, "Bearer")
            assert TOKEN not in json.dumps(said)
        assert made.rollouts() == set()


async def test_the_token_changes_while_it_runs(tmp_path: Path) -> None:
    async with site(tmp_path) as made:
        made.token.write_text("another-token-of-16")
        assert (await made.post())[0] == 401
        status, _, _ = await made.ask("GET", "/none", shown="bearer another-token-of-16")
        assert status == 404
        made.token.write_text("\n")
        assert (await made.ask("POST", shown="Bearer ", json=WANTED))[0] == 401
        made.token.unlink()
        assert (await made.post())[0] == 503
        assert made.rollouts() == set()


async def test_what_is_wrong_is_listed_whole(tmp_path: Path) -> None:
    async with site(tmp_path) as made:
        status, said, _ = await made.post(version="new", steps=[5, 1], stepz=1, min_outcomes=1e30)
        assert status == 400
        assert [fault.partition(":")[0] for fault in said["faults"]] == [
            "version", "steps", "min_outcomes", "stepz"
        ]  # fmt: skip
        status, said, _ = await made.post(pops=["mars"], ranges=["10.9.0.0/16"])
        assert (status, len(said["faults"])) == (400, 2)
        for body in (b"", b"{", b"[]", b"\xff", b"[" * 60_000, b'{"service": "\\ud800"}'):
            status, said, _ = await made.ask("POST", data=body)
            assert (status, bool(said["error"])) == (400, True), body[:9]
        assert made.rollouts() == set()


async def test_what_is_not_there(tmp_path: Path) -> None:
    async with site(tmp_path) as made:
        status, said, _ = await made.post(service="none")
        assert (status, said["error"]) == (404, "no service is called 'none'")
        status, said, _ = await made.ask("GET", "/build-7")
        assert (status, said["error"]) == (404, "no rollout is called 'build-7'")
        assert (await made.ask("DELETE", "/build-7"))[0] == 405


async def test_a_body_has_its_bounds(tmp_path: Path) -> None:
    async with site(tmp_path) as made:
        assert (await made.ask("POST", data=b" " * 70_000))[0] == 413


async def test_the_store_is_away(tmp_path: Path) -> None:
    async with site(tmp_path) as made:
        with made.core.store.away():
            status, said, headers = await made.post()
            assert (status, headers["Retry-After"]) == (503, "5")
            assert said["error"]
        assert (await made.post())[0] == 201
