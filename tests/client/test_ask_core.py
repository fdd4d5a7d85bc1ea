"""What is read out of a core's answer."""

from pathlib import Path

import pytest

from meshd.client.ask_core import CoreLookup, _seen_from
from meshd.client.lookup import Answer, Denied, Sought, Unresolved
from meshd.core.errors import Invalid
from meshd.daemon.server import start_server
from tests.daemon.cores import DOCUMENT, core
from tests.servers.processes import free_port

NOBODY = "127.0.0.1:1"


async def ask(*cores: str, name: str = "api.mesh.internal", client: str = "10.2.0.7") -> Answer:
    return await CoreLookup(Sought(name, "http"), cores, client)()


async def test_tiers_weights_and_ports(tmp_path: Path) -> None:
    async with core(tmp_path) as made:
        await made.apply()
        answer = await ask(NOBODY, made.address)
        first = answer.endpoints[0]
        assert (first.instance, first.address, first.port) == ("api-us-2", "10.2.0.12", 8080)
        assert {each.instance: each.tier for each in answer.endpoints}["api-eu-3"] > 0
        assert answer.ttl_s > 0
        found = {each.instance: each for each in answer.endpoints}
        assert found["api-eu-3"].port == 8081
        assert [each.tier for each in answer.endpoints] == sorted(
            each.tier for each in answer.endpoints
        )


async def test_another_client_gets_another_list(tmp_path: Path) -> None:
    async with core(tmp_path) as made:
        await made.apply()
        answer = await ask(made.address, client="10.1.0.7")
        assert {each.instance for each in answer.endpoints if each.tier == 0} == {
            "api-eu-1",
            "api-eu-2",
        }
        first = next(each for each in answer.endpoints if each.instance == "api-eu-1")
        assert first.others == ("2001:db8:1::11",)


async def test_without_a_client_it_asks_as_itself(tmp_path: Path) -> None:
    async with core(tmp_path) as made:
        await made.apply(DOCUMENT.replace("0.0.0.0/0: us", "127.0.0.0/8: eu\n  0.0.0.0/0: us"))
        for address, pop in (("127.0.0.1", "api-eu"), ("[::1]", "api-us")):
            where = f"{address}:{free_port()}"
            server = await start_server([where], made.store, made.state, made.pump)
            answer = await ask(where, client="")
            assert {each.instance[:6] for each in answer.endpoints if each.tier == 0} == {pop}
            await server.stop(0)


async def test_who_asks_is_who_the_core_sees() -> None:
    found = [
        await _seen_from(core) for core in ("127.0.0.1:7700", "[::1]:7700", "unix:/x", "dns:///x")
    ]
    assert found == ["127.0.0.1", "::1", "", ""]


async def test_what_is_said_of_a_name_and_what_is_not(tmp_path: Path) -> None:
    async with core(tmp_path) as made:
        await made.apply()
        with pytest.raises(Denied, match="no such name"):
            await ask(made.address, name="none.mesh.internal")
        with pytest.raises(Denied, match="not in a zone of ours"):
            await ask(made.address, name="example.com")
        with pytest.raises(Invalid):
            await ask(made.address, client="nonsense")
        with pytest.raises(Unresolved, match="UNAVAILABLE"):
            await ask(NOBODY)
