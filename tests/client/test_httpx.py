"""httpx over the mesh, against real servers."""

import asyncio
import contextlib
import socket
import ssl
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from meshd.client import Strategy, httpx_service
from meshd.client import httpx as transports
from meshd.client.httpx import BlockingMeshTransport, MeshTransport
from tests.client.names import NAME, Names, Place, answering
from tests.client.test_calls import Notebook
from tests.client.test_mesh import certificate
from tests.client.web import Web, webs
from tests.daemon.cores import until

URL = f"http://{NAME}/"


@asynccontextmanager
async def client(
    served: Names, timeout_s: float = 10.0, **ways: Any
) -> AsyncIterator[httpx.AsyncClient]:
    ways.setdefault("strategy", Strategy.ROUND_ROBIN)
    transport = MeshTransport(dns=served.address, **ways)
    async with httpx.AsyncClient(transport=transport, timeout=timeout_s) as made:
        yield made


@asynccontextmanager
async def serving(count: int = 3, **ways: Any) -> AsyncIterator[tuple[list[Web], Any]]:
    """Instances, and a client that finds them."""
    async with (
        webs(count) as made,
        answering(*(each.place for each in made)) as names,
        client(names, **ways) as under_test,
    ):
        yield made, under_test


async def who(under_test: httpx.AsyncClient, count: int = 9) -> Counter[str]:
    return Counter([(await under_test.get(URL)).text for _ in range(count)])


async def test_a_host_name_just_works() -> None:
    async with serving() as (made, under_test):
        assert set((await who(under_test)).values()) == {3}
        reply = await under_test.post(URL, content="said")
        assert (reply.status_code, str(reply.url)) == (200, URL)
        seen = [request for each in made for request in each.seen]
        assert ("POST", NAME, "said") in seen
        assert {host for _, host, _ in seen} == {NAME}


async def test_a_port_in_the_url_is_the_port() -> None:
    async with serving(1) as (made, under_test):
        reply = await under_test.get(f"http://{NAME}:{made[0].port}/")
        assert reply.text == "api-eu-1"
        assert made[0].seen[-1][1] == f"{NAME}:{made[0].port}"


async def test_what_is_no_service_goes_where_it_would() -> None:
    async with serving(1, names="mesh.internal") as (made, under_test):
        assert (await under_test.get(URL)).text == "api-eu-1"
        plain = f"http://{made[0].address}:{made[0].port}/"
        assert (await under_test.get(plain)).text == "api-eu-1"
        assert made[0].seen[-1][1] == f"127.0.1.1:{made[0].port}"
    transport = MeshTransport(names=["mesh.internal."])
    found = {
        host: transport._is_service(host)
        for host in ("api.mesh.internal", "mesh.internal", "notmesh.internal", "x.example")
    }
    assert list(found.values()) == [True, True, False, False]
    everything = MeshTransport()
    assert everything._is_service("x.example")
    assert not any(map(everything._is_service, ("localhost", "127.0.0.1", "::1")))


async def test_a_name_that_is_not_there_is_no_connection() -> None:
    async with serving(1) as (_, under_test):
        for _ in range(2):
            with pytest.raises(httpx.ConnectError, match="NXDOMAIN"):
                await under_test.get("http://none.mesh.internal/")


async def test_a_service_that_was_not_found_is_looked_for_again() -> None:
    async with webs(1) as made, answering(made[0].place) as names, client(names) as under_test:
        names.stop()
        with pytest.raises(httpx.ConnectError):
            await under_test.get(URL)
        await names.start()
        assert (await under_test.get(URL)).text == "api-eu-1"


@pytest.mark.parametrize("method", ["GET", "POST", "PATCH"])
async def test_who_refuses_got_nothing_so_anything_goes_elsewhere(method: str) -> None:
    notebook = Notebook()
    async with serving(report=notebook) as (made, under_test):
        await made[0].stop()
        replies = [await under_test.request(method, URL, content="x") for _ in range(9)]
        assert {reply.text for reply in replies} == {"api-eu-2", "api-eu-3"}
        assert sum(len(each.seen) for each in made) == 9
        await made[1].stop()
        await made[2].stop()
        with pytest.raises(httpx.ConnectError):
            await under_test.request(method, URL, content="x")
        await made[0].start()
    assert ("CONNECT_ERROR", "api-eu-1") in notebook.lines


@pytest.mark.parametrize("mood", ["502", "503", "504", "breaks"])
async def test_what_may_be_sent_twice_goes_elsewhere(mood: str) -> None:
    notebook = Notebook()
    async with serving(report=notebook) as (made, under_test):
        made[0].mood = mood
        for method in ("GET", "PUT", "DELETE"):
            replies = [await under_test.request(method, URL) for _ in range(5)]
            assert {reply.status_code for reply in replies} == {200}
        assert made[0].seen
    assert ("FAILURE", "api-eu-1") in notebook.lines
    assert ("FAILURE", "api-eu-2") not in notebook.lines
    began, ended = (
        Counter(key for what, key in notebook.lines if (what == "began") is is_began)
        for is_began in (True, False)
    )
    assert began == ended


async def test_the_overloaded_are_not_asked_to_accept_ever_new_connections() -> None:
    async with serving() as (made, under_test):
        made[0].mood = "503"
        while len(made[0].seen) < 5:
            assert (await under_test.get(URL)).status_code == 200
        assert len(made[0].peers) == 1


@pytest.mark.parametrize("mood", ["503", "breaks"])
async def test_what_may_not_be_sent_twice_is_not(mood: str) -> None:
    async with serving(1) as (made, under_test):
        made[0].mood = mood
        if mood == "503":
            assert (await under_test.post(URL)).status_code == 503
        else:
            with pytest.raises(httpx.RemoteProtocolError):
                await under_test.post(URL)
        assert len(made[0].seen) == 1


async def test_a_body_that_can_be_read_once_is_sent_once() -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"once"

    async with serving() as (made, under_test):
        for each in made:
            each.mood = "503"
        assert (await under_test.put(URL, content=body())).status_code == 503
        assert [each.seen for each in made].count([]) == 2


async def test_other_failures_are_replies() -> None:
    notebook = Notebook()
    async with serving(report=notebook) as (made, under_test):
        for each in made:
            each.mood = "500"
        assert (await under_test.get(URL)).status_code == 500
        assert sum(len(each.seen) for each in made) == 1
        made[0].mood = made[1].mood = made[2].mood = "404"
        assert (await under_test.get(URL)).status_code == 404
    assert [what for what, _ in notebook.lines] == ["began", "FAILURE", "began", "OK"]


async def test_if_all_fail_the_last_reply_is_the_reply() -> None:
    async with serving() as (made, under_test):
        for each in made:
            each.mood = "503"
        reply = await under_test.get(URL)
        assert (reply.status_code, reply.text[:4]) == (503, "api-")
        assert [len(each.seen) for each in made] == [1, 1, 1]


async def test_a_time_out_goes_elsewhere_and_is_told_as_one() -> None:
    notebook = Notebook()
    async with serving(report=notebook, timeout_s=0.5) as (made, under_test):
        made[0].mood = "hangs"
        assert (await who(under_test)).keys() == {"api-eu-2", "api-eu-3"}
        with pytest.raises(httpx.ReadTimeout):
            await under_test.post(f"{URL}hangs")
    assert ("TIMEOUT", "api-eu-1") in notebook.lines


async def test_retries_end_with_their_budget() -> None:
    async with serving() as (made, under_test):
        for each in made:
            each.mood = "503"
        loop = asyncio.get_running_loop()
        began = loop.time()
        for _ in range(300):
            assert (await under_test.get(URL)).status_code == 503
        retries = sum(len(each.seen) for each in made) - 300
        most = 100 + 0.2 * 300 + 10 * (loop.time() - began)
        assert 100 <= retries <= most + 1


async def test_a_reply_is_in_flight_until_it_is_read() -> None:
    notebook = Notebook()
    async with serving(1, report=notebook) as (_, under_test):
        async with under_test.stream("GET", URL) as reply:
            assert notebook.lines == [("began", "api-eu-1")]
            assert await reply.aread() == b"api-eu-1"
        assert notebook.lines[1:] == [("OK", "api-eu-1")]
        with pytest.raises(httpx.RemoteProtocolError):
            await under_test.get(f"{URL}drips")
        assert notebook.lines[-1] == ("FAILURE", "api-eu-1")
        # The reply began at once: how long it took to read is not its latency.
        assert notebook.latencies_s[-1] < 0.2


async def test_a_request_that_is_given_up_tells_nothing() -> None:
    notebook = Notebook()
    async with serving(1, report=notebook) as (_, under_test):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await under_test.get(f"{URL}hangs")
        assert notebook.lines == [("began", "api-eu-1"), ("ended", "api-eu-1")]


async def test_a_full_pool_is_no_fault_of_the_instance() -> None:
    notebook = Notebook()
    limits = httpx.Limits(max_connections=1)
    async with serving(1, report=notebook, limits=limits, timeout_s=0.5) as (_, under_test):
        async with under_test.stream("GET", URL):
            with pytest.raises(httpx.PoolTimeout):
                await under_test.get(URL)
        assert ("ended", "api-eu-1") in notebook.lines


async def test_connections_are_used_again_and_go_with_their_instance() -> None:
    async with (
        webs(2) as made,
        answering(*(each.place for each in made)) as names,
        client(names) as under_test,
    ):
        await who(under_test)
        names.put(made[0].place)
        transport: Any = under_test._transport
        (service,) = [task.result() for task in transport._services.values()]
        await until("its pool is closed", lambda: len(service._kept) == 1)
        assert (await who(under_test)).keys() == {"api-eu-1"}


async def test_tls_is_spoken_as_the_service(tmp_path: Path) -> None:
    key, cert = certificate(tmp_path)
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    served.load_cert_chain(cert, key)
    names_asked: list[str] = []
    served.sni_callback = lambda _, name, __: names_asked.append(name)
    made = Web("api-eu-1", "127.0.1.1", tls=served)
    await made.start()
    try:
        async with answering(made.place) as names:
            trusting = ssl.create_default_context(cafile=cert)
            async with client(names, verify=trusting, port="http") as under_test:
                assert (await under_test.get(f"https://{NAME}/")).text == "api-eu-1"
                assert names_asked == [NAME]
            async with client(names, port="http") as under_test:
                with pytest.raises(httpx.ConnectError, match="certificate verify failed"):
                    await under_test.get(f"https://{NAME}/")
    finally:
        await made.stop()


async def test_any_address_of_an_instance_will_do_and_the_good_one_stays() -> None:
    async with webs(1) as made:
        both = Place("api-eu-1", '["127.0.1.9", "127.0.1.1"]', made[0].port)
        async with answering(both) as names, client(names) as under_test:
            headers = {"Connection": "close"}
            assert (await under_test.get(URL, headers=headers)).text == "api-eu-1"
            late = Web("late", "127.0.1.9", made[0].port)
            await late.start()
            try:
                assert (await under_test.get(URL)).text == "api-eu-1"
            finally:
                await late.stop()


async def test_who_takes_long_to_connect_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its backlog is full: what wants to connect is neither accepted nor refused."""
    monkeypatch.setattr(httpx_service, "_CONNECT_S", 0.3)
    with socket.socket() as full, contextlib.ExitStack() as stack:
        full.bind(("127.0.1.9", 0))
        full.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        silent = Place("api-eu-9", *full.getsockname())
        async with (
            webs(1) as made,
            answering(silent, made[0].place) as names,
            client(names, timeout_s=60.0) as under_test,
            asyncio.timeout(20),
        ):
            assert (await who(under_test, 4)).keys() == {"api-eu-1"}


async def test_services_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transports, "_MOST_SERVICES", 2)
    async with serving(1) as (made, under_test):
        port = made[0].port
        others = [f"http://{NAME}:{port}/", f"http://api-eu-1.instance.{NAME}:{port}/"]
        for url in (URL, others[0], URL, others[1]):
            assert (await under_test.get(url)).text == "api-eu-1"
        transport: Any = under_test._transport
        assert [(host, number) for _, host, number in transport._services] == [
            (NAME, None),
            (f"api-eu-1.instance.{NAME}", port),
        ]


async def test_without_asyncio() -> None:
    async with webs(2) as made, answering(*(each.place for each in made)) as names:

        def program() -> None:
            transport = BlockingMeshTransport(dns=names.address, strategy=Strategy.ROUND_ROBIN)
            with httpx.Client(transport=transport, timeout=10) as under_test:
                found = {under_test.get(URL).text for _ in range(4)}
                assert found == {"api-eu-1", "api-eu-2"}
                assert under_test.post(URL, content=iter([b"a", b"b"])).status_code == 200
                with under_test.stream("GET", URL) as reply:
                    assert b"".join(reply.iter_bytes()).startswith(b"api-eu-")
                with pytest.raises(httpx.ConnectError):
                    under_test.get("http://none.mesh.internal/")

        await asyncio.to_thread(program)
        assert ("POST", NAME, "ab") in made[0].seen + made[1].seen
