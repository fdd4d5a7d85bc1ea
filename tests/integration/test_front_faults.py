"""Faults behind and in each DNS server, under load (design section 9): what its clients see."""

import contextlib
import os
import secrets
import signal
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import dns.exception
import dns.rcode
import pytest

from tests.integration.judge import NAME, expected_of, storm
from tests.integration.probe import Probe
from tests.integration.ways import ELSEWHERE, Way, Ways, forward
from tests.servers.between import UdpBetween
from tests.servers.fronts import Dnsdist, Unbound, unbound_module, unbound_subnetcache
from tests.servers.processes import Meshd, wait_until
from tests.servers.queries import Asker, addresses

pytestmark = pytest.mark.integration

EU = Asker("127.0.1.9")
OTHER, OTHER_ADDRESS = next(iter(ELSEWHERE.items()))
FRONTS = ("unbound module", "unbound subnetcache", "dnsdist forward", "dnsdist table")
# PowerDNS: test_faults.py.


@pytest.fixture(scope="module")
def mortal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ways]:
    """Ways in for tests that kill things."""
    made = Ways(lambda name: tmp_path_factory.mktemp("m-" + name.replace(" ", "-")))
    try:
        yield made
    finally:
        made.stop()


@pytest.fixture
def way(request: pytest.FixtureRequest, mortal: Ways) -> Way:
    """One way in, with meshd whole."""
    made = mortal.get(request.param)
    wait_until("meshd is whole", mortal.meshd.is_ready)
    return made


each_front = pytest.mark.parametrize("way", FRONTS, indirect=True)
# On a machine with more to do than CPUs any query may take longer than the module's 50 ms, calm or
# not. What is asked here is whether there is an answer and which, so the module waits longer.
each_front_under_load = pytest.mark.parametrize(
    "way", ("unbound module, patient", *FRONTS[1:]), indirect=True
)


@each_front_under_load
def test_core_killed_and_stopped_under_load(way: Way, mortal: Ways) -> None:
    """No answer fails or changes, of the mesh or elsewhere."""
    meshd = mortal.meshd
    with Probe(way.port, 100) as ours, Probe(way.port, 100, OTHER) as others:
        ours.enough(50)
        first = meshd.core_pid
        meshd.kill_core()
        ours.enough(100)
        wait_until("a new core is ready", lambda: meshd.core_pid not in (0, first))
        wait_until("answerers follow it", meshd.is_ready)
        os.kill(meshd.core_pid, signal.SIGSTOP)
        ours.enough(150)
        os.kill(meshd.core_pid, signal.SIGCONT)
        ours.enough(50)
    for probe in (ours, others):
        assert set(probe.counts) == {"NOERROR"}, probe.counts
        assert len(probe.sets) == 1


@each_front_under_load
def test_each_answerer_killed_under_load(way: Way, mortal: Ways) -> None:
    """What a killed process had in its hands may be lost, nothing else."""
    meshd = mortal.meshd
    with Probe(way.port, 100) as ours, Probe(way.port, 100, OTHER) as others:
        ours.enough(50)
        for victim in meshd.answerer_pids:
            os.kill(victim, signal.SIGKILL)
            ours.enough(50)
            wait_until("meshd is whole", meshd.is_ready)
        ours.enough(50)
    assert set(ours.counts) <= {"NOERROR", "SERVFAIL", "timeout"}, ours.counts
    # One for each of Unbound's threads, or a datagram, for each of two kills.
    assert ours.counts["SERVFAIL"] + ours.counts["timeout"] <= 4, ours.counts
    assert set(others.counts) == {"NOERROR"}, others.counts
    assert len([held for held in ours.sets if held]) == 1


@each_front
def test_meshd_away_is_servfail_and_only_for_its_names(way: Way, mortal: Ways) -> None:
    """Never NXDOMAIN, nothing kept of it, and back without anybody's help (K8)."""
    meshd = mortal.meshd
    meshd.stop()
    try:
        with Probe(way.port, 100, OTHER) as others:
            deadline = time.monotonic() + 15
            seen: list[int] = []
            # dnsdist notices within two checks, Unbound after retries; till then they are silent.
            while seen[-3:] != [dns.rcode.SERVFAIL] * 3 and time.monotonic() < deadline:
                try:
                    name = f"{secrets.token_hex(4)}.cold.mesh.internal"
                    seen.append(EU.ask(way.port, name, timeout_s=1).rcode())
                except dns.exception.Timeout:
                    continue
    finally:
        meshd.start_ready()
    assert seen[-3:] == [dns.rcode.SERVFAIL] * 3
    assert set(seen) <= {dns.rcode.SERVFAIL, dns.rcode.NOERROR}
    assert set(others.counts) == {"NOERROR"}, others.counts
    wait_until("answers are back", lambda: EU.ask(way.port, NAME).rcode() == dns.rcode.NOERROR, 10)
    name = f"{secrets.token_hex(4)}.cold.mesh.internal"
    # Unbound keeps SERVFAIL for a name (NORR_TTL in its iterator) and that a server is down
    # (infra-host-ttl) for 5 s of whole seconds, so less than 6, side by side. 15 s is time for one
    # more such round, should the first question after it be lost.
    wait_until("all of them", lambda: addresses(EU.ask(way.port, name))[:1] == ["192.0.2.41"], 15)


UNBOUNDS: dict[str, Callable[[Path, Meshd, str], Unbound]] = {
    "module": lambda folder, meshd, more: unbound_module(folder, meshd.bridge, more),
    "subnetcache": lambda folder, meshd, more: unbound_subnetcache(folder, meshd.dns_port, more),
}


@pytest.mark.parametrize("delay_s", [0.0, 0.7])
@pytest.mark.parametrize("name", list(UNBOUNDS))
def test_one_name_or_server_elsewhere_spoils_no_other(
    mortal: Ways, folder: Path, name: str, delay_s: float
) -> None:
    """What is set for meshd's sake must not make Unbound give up on the servers of others: not
    after a question that nobody answered, nor because they are slow."""
    mortal.get(f"unbound {name}")
    between = UdpBetween(mortal.elsewhere.port, delay_s, _lose_dead)
    front = UNBOUNDS[name](folder, mortal.meshd, forward(between.port))
    try:
        front.start_ready()
        with contextlib.suppress(dns.exception.Timeout):
            EU.ask(front.port, "dead.example", timeout_s=3)
        # Names of their own, so that no answer is kept; the server knows none of them.
        for _ in range(6):
            cold = f"{secrets.token_hex(4)}.example"
            assert EU.ask(front.port, cold, timeout_s=10).rcode() == dns.rcode.NXDOMAIN
    finally:
        front.stop()
        between.stop()


def _lose_dead(reply: bytes) -> bytes:
    return b"" if b"\x04dead" in reply else reply


@each_front
def test_a_restarted_server_has_nothing_to_be_done(way: Way, mortal: Ways) -> None:
    assert way.front is not None
    way.front.stop()
    way.front.start_ready()
    wait_until("it answers", lambda: len(addresses(EU.ask(way.port, NAME))) == 4, 10)
    assert addresses(EU.ask(way.port, OTHER)) == [OTHER_ADDRESS]


@pytest.mark.parametrize("way", ["unbound module"], indirect=True)
def test_a_hung_meshd_holds_nobody_up(way: Way, mortal: Ways) -> None:
    """50 ms for the first few, then nobody waits; names elsewhere never do."""
    meshd = mortal.meshd
    assert isinstance(way.front, Unbound)
    answerers = meshd.answerer_pids
    for pid in answerers:
        os.kill(pid, signal.SIGSTOP)
    try:
        with Probe(way.port, 100, OTHER) as others:
            waits = []
            for _ in range(30):
                began = time.monotonic()
                assert EU.ask(way.port, NAME).rcode() == dns.rcode.SERVFAIL
                waits.append(time.monotonic() - began)
            others.enough(50)
    finally:
        for pid in answerers:
            os.kill(pid, signal.SIGCONT)
    # The first three wait for meshd, and one each second; the others are refused at once.
    assert sum(wait > 0.03 for wait in waits) <= 6, waits
    assert set(others.counts) == {"NOERROR"}, others.counts
    wait_until("it asks again", lambda: EU.ask(way.port, NAME).rcode() == dns.rcode.NOERROR, 10)
    assert "meshd: away" in way.front.tail()
    assert "meshd: back" in way.front.tail()


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("way", ["unbound module"], indirect=True)
def test_unbound_reloaded(way: Way, mortal: Ways, folder: Path, threads: int) -> None:
    """K12: five times; no connection is left behind, and clients still get their own."""
    meshd = mortal.meshd
    expected = expected_of(meshd)
    front = unbound_module(folder, meshd.bridge, threads=threads)
    work = [[("source eu", "A"), ("source us", "A")] * 10] * 4
    try:
        front.start_ready()
        assert storm(front.port, expected, work) == []
        before = _sockets(meshd)
        for _ in range(5):
            front.control("reload")
            wait_until("it listens", front.is_ready)
            assert storm(front.port, expected, work) == []
        wait_until("old connections are gone", lambda: _sockets(meshd) <= before + threads, 5)
        assert front.is_running
    finally:
        front.stop()


def _sockets(meshd: Meshd) -> int:
    """Open sockets of the answerers."""
    links = [
        os.readlink(link)
        for pid in meshd.answerer_pids
        for link in Path(f"/proc/{pid}/fd").iterdir()
        if link.is_symlink()
    ]
    return sum(link.startswith("socket:") for link in links)


@pytest.mark.parametrize("way", ["dnsdist table"], indirect=True)
def test_the_table_is_what_answers(way: Way, mortal: Ways) -> None:
    """Asked before, it comes out of shared memory: by UDP, TCP, with EDNS or without."""
    assert isinstance(way.front, Dnsdist)
    # Of two answerers one keeps the table: each question gets its chance.
    for _ in range(20):
        for kind in ("A", "AAAA", "HTTPS", "MX"):
            EU.ask(way.port, NAME, kind)
    before = way.front.count("self-answered")
    replies = [EU.ask(way.port, NAME, kind, tcp=tcp) for kind in ("A", "AAAA", "HTTPS", "MX")
               for tcp in (False, True)]  # fmt: skip
    assert way.front.count("self-answered") == before + 8
    assert [len(reply.answer) for reply in replies] == [1, 1, 1, 1, 1, 1, 0, 0]
    assert replies[-1].authority


@pytest.mark.parametrize("way", ["dnsdist table"], indirect=True)
def test_the_table_follows_changes(way: Way, mortal: Ways) -> None:
    """An instance forced down is in no answer any more, at once; one at a time, by turns."""
    meshd = mortal.meshd
    expected = expected_of(meshd)
    for turn in range(10):
        name, address = f"api-eu-{1 + turn % 4}", f"10.1.0.{1 + turn % 4}"
        for verb, is_there in (("down", False), ("clear", True)):
            for _ in range(6):
                EU.ask(way.port, NAME)
            done = meshd.meshctl("instance", verb, name)
            assert done.returncode == 0, done.stderr
            wait_until(f"{name} {verb}", partial(_shows, way.port, address, is_there), 1)
    work = [[("source eu", "A"), ("source us", "A")] * 25] * 4
    assert storm(way.port, expected, work) == []


def _shows(port: int, address: str, expected: bool) -> bool:
    return (address in addresses(EU.ask(port, NAME))) == expected
