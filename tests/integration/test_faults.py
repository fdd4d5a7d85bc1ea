"""Things are killed and stopped for real; answers go on."""

import os
import signal
from pathlib import Path

import dns.exception
import dns.rcode
import pytest

from tests.integration.conftest import need_powerdns
from tests.integration.probe import Probe
from tests.integration.topology import DOCUMENT, running
from tests.servers.fronts import PowerDns
from tests.servers.processes import Meshd, wait_until
from tests.servers.queries import Asker, addresses

pytestmark = pytest.mark.integration

ASKER = Asker("127.0.1.9")


def test_core_killed_and_stopped_under_load(folder: Path) -> None:
    """kill -9 and SIGSTOP of the core at 200 queries a second: no answer fails or changes."""
    need_powerdns()
    with running(folder) as meshd:
        server = PowerDns(folder, meshd.bridge, _patient(meshd))
        try:
            server.start_ready()
            with Probe(server.port, 200) as front, Probe(meshd.dns_port, 200) as direct:
                front.enough(100)
                first = meshd.core_pid
                meshd.kill_core()
                front.enough(300)
                wait_until("a new core is ready", lambda: meshd.core_pid not in (0, first))
                wait_until("answerers follow it", meshd.is_ready)
                os.kill(meshd.core_pid, signal.SIGSTOP)
                front.enough(400)
                os.kill(meshd.core_pid, signal.SIGCONT)
                front.enough(100)
                direct.enough(100)
        finally:
            server.stop()
    for probe in (front, direct):
        assert set(probe.counts) == {"NOERROR"}, probe.counts
        assert len(probe.sets) == 1


def _patient(meshd: Meshd) -> dict[str, str]:
    """Not the 200 ms of a calm machine: one with more to do than CPUs may take longer, core or no
    core, and the question here is whether there is an answer and which."""
    return {"remote-connection-string": f"unix:path={meshd.bridge},timeout=1000"}


def test_answers_from_disk_without_core_and_store(folder: Path) -> None:
    """The machine comes up, the store is unreadable: answers within 2 s, as they were."""
    with running(folder) as meshd:
        wait_until(
            "both answer",
            lambda: len(addresses(ASKER.ask(meshd.dns_port, "api.mesh.internal"))) == 4,
        )
        before = addresses(ASKER.ask(meshd.dns_port, "api.mesh.internal"))
        wait_until("a snapshot is on disk", lambda: (meshd.data / "snapshot").stat().st_size > 1000)
    again = Meshd(folder, 1)
    # The core could start; what it would answer from is gone, and so is its whole file.
    for path in meshd.data.glob("store.db*"):
        path.write_bytes(b"not a database, " * 1000)
    core = f"127.0.0.1:{again.grpc.rpartition(':')[2]}"
    alone = AnswererAlone(folder, core)
    took = []
    # Three starts: on a busy machine Python's own start may take its time once.
    for _ in range(3):
        try:
            alone.start()
            took.append(wait_until("an answer from disk", lambda: alone.answers() == before, 10))
        finally:
            alone.stop()
    assert min(took) < 2.0, took


class AnswererAlone(Meshd):
    """`meshd answer`, following a core that is not there."""

    def __init__(self, folder: Path, core: str) -> None:
        super().__init__(folder, 1)
        self._command = [*self._command[:3], "answer", "--data", str(self.data), "--core", core,
                         "--dns", f"127.0.0.1:{self.dns_port}", "--answerers", "1"]  # fmt: skip

    def answers(self) -> list[str]:
        """What it answers now; nothing while it does not."""
        try:
            return addresses(ASKER.ask(self.dns_port, "api.mesh.internal", timeout_s=0.2))
        except dns.exception.Timeout:
            return []


def test_an_answerer_killed_under_load(folder: Path) -> None:
    """Its siblings hold the same sockets; PowerDNS loses at most one query a connection."""
    need_powerdns()
    with running(folder) as meshd:
        # 2 receivers x 3 distributors, and one connection for TCP.
        connections = 7
        server = PowerDns(folder, meshd.bridge)
        try:
            server.start_ready()
            with Probe(server.port, 200) as front, Probe(meshd.dns_port, 200) as direct:
                front.enough(100)
                victim = meshd.answerer_pids[0]
                os.kill(victim, signal.SIGKILL)
                front.enough(100)
                took = wait_until("it is back", lambda: len(meshd.answerer_pids) == 2, 5)
                front.enough(200)
        finally:
            server.stop()
    assert set(front.counts) <= {"NOERROR", "SERVFAIL"}, front.counts
    assert front.counts["SERVFAIL"] <= connections
    # What one process had read but not yet answered goes with it.
    assert set(direct.counts) <= {"NOERROR", "timeout"}, direct.counts
    assert direct.counts["timeout"] <= 1
    assert took < 5


def test_powerdns_restarted_has_nothing_to_be_done(folder: Path) -> None:
    need_powerdns()
    with running(folder, 1) as meshd:
        server = PowerDns(folder, meshd.bridge)
        try:
            for _ in range(2):
                server.start_ready()
                assert len(addresses(ASKER.ask(server.port, "api.mesh.internal"))) == 4
                server.stop()
        finally:
            server.kill()


def test_powerdns_started_before_there_are_zones(folder: Path) -> None:
    """It runs, refuses, and answers soon after the first document is applied."""
    need_powerdns()
    meshd = Meshd(folder, 1)
    server = PowerDns(folder, meshd.bridge)
    try:
        meshd.start_ready()
        server.start_ready()
        assert ASKER.ask(server.port, "api.mesh.internal").rcode() == dns.rcode.REFUSED
        meshd.apply(DOCUMENT)
        # The list of zones is fetched every 10 s.
        wait_until(
            "answers",
            lambda: len(addresses(ASKER.ask(server.port, "api.mesh.internal"))) == 4,
            30,
        )
    finally:
        server.stop()
        meshd.stop()


def test_meshd_away_is_servfail_and_never_nxdomain(folder: Path) -> None:
    need_powerdns()
    with running(folder, 1) as meshd:
        server = PowerDns(folder, meshd.bridge)
        try:
            server.start_ready()
            assert len(addresses(ASKER.ask(server.port, "api.mesh.internal"))) == 4
            meshd.stop()
            for name in ("api.mesh.internal", "new.mesh.internal"):
                for _ in range(10):
                    assert ASKER.ask(server.port, name).rcode() == dns.rcode.SERVFAIL
            meshd.start_ready()
            wait_until(
                "answers are back",
                lambda: ASKER.ask(server.port, "api.mesh.internal").rcode() == dns.rcode.NOERROR,
            )
        finally:
            server.stop()


def test_a_core_without_a_readable_store_says_so_and_ends(folder: Path) -> None:
    made = Meshd(folder, 1)
    made.data.mkdir()
    (made.data / "store.db").write_bytes(b"not a database, " * 1000)
    made.start()
    try:
        wait_until("it ended", lambda: not made.is_running)
    finally:
        made.kill()
    assert "store.db" in made.tail()
