"""A core whose store is etcd, which goes, is emptied, and comes back older: answers go on."""

import os
import signal
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dns.rcode
import grpc
import pytest

from tests.integration.topology import DOCUMENT
from tests.servers.etcd import Etcd, program
from tests.servers.processes import Meshd, wait_until
from tests.servers.queries import Asker, addresses

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(
        program("etcd") is None, reason="etcd is not installed here (Debian: etcd-server)"
    ),
]

ASKER = Asker("127.0.1.9")
NAME = "api.mesh.internal"


class Core(Meshd):
    """`meshd serve` with its store in etcd."""

    def __init__(self, folder: Path, etcd: Etcd) -> None:
        endpoints = ",".join(etcd.endpoints)
        super().__init__(folder, 1, "--store", "etcd", "--etcd", endpoints, "--node", "one")

    def answered(self) -> list[str]:
        return addresses(ASKER.ask(self.dns_port, NAME))

    def health(self) -> str:
        """What /healthz says; empty while there is none."""
        try:
            with urllib.request.urlopen(f"http://{self.http}/healthz", timeout=2) as reply:
                return str(reply.read().decode())
        except OSError:
            return ""

    def restart_core(self) -> float:
        """kill -9; seconds until the next one answers HTTP."""
        before = self.core_pid
        self.kill_core()
        wait_until("it is gone", lambda: self.core_pid != before)
        return wait_until("the next core is there", lambda: bool(self.health()), 20)

    def refusal(self, text: str) -> tuple[float, grpc.StatusCode, str]:
        """Seconds that a write took to be refused, and how."""
        began = time.monotonic()
        with pytest.raises(grpc.RpcError) as refused:
            self.apply(text)
        took = time.monotonic() - began
        return took, refused.value.code(), refused.value.details()


@contextmanager
def running(folder: Path) -> Iterator[tuple[Etcd, Core]]:
    etcd = Etcd(folder / "etcd")
    core = Core(folder, etcd)
    try:
        etcd.start_ready()
        core.start_ready()
        core.apply(DOCUMENT)
        wait_until("it is answered", lambda: len(core.answered()) == 4)
        yield etcd, core
    finally:
        core.stop()
        etcd.stop()


def changed(most: int) -> str:
    return DOCUMENT.replace("version: 1.2.*", f"version: 1.2.*\n    max_answers: {most}")


def is_saved(core: Core) -> bool:
    path = core.data / "state"
    return path.exists() and b"api-eu-1" in path.read_bytes()


def test_a_core_begins_from_disk_while_etcd_is_away(tmp_path: Path) -> None:
    with running(tmp_path) as (etcd, core):
        before = core.answered()
        wait_until("it is saved", lambda: is_saved(core))
        etcd.members[0].pause()
        assert core.restart_core() < 10
        assert core.answered() == before
        wait_until("it follows", core.is_ready)
        took, code, text = core.refusal(changed(2))
        assert code is grpc.StatusCode.UNAVAILABLE, text
        assert etcd.endpoints[0] in text
        assert took < 4, "2 s, and what a busy machine adds"
        assert core.answered() == before
        etcd.members[0].resume()
        wait_until("etcd is reached", lambda: "store_age_s 0." in core.health())
        core.apply(changed(2))
        wait_until("the change", lambda: len(core.answered()) == 2)


def test_with_nothing_on_disk_it_is_servfail_until_etcd_is_there(tmp_path: Path) -> None:
    etcd = Etcd(tmp_path / "etcd")
    core = Core(tmp_path, etcd)
    try:
        core.start()
        wait_until("the store is known to be away", lambda: "store_away" in core.health())
        assert "store_age_s never" in core.health()
        reply = ASKER.ask(core.dns_port, NAME)
        assert reply.rcode() == dns.rcode.SERVFAIL
        took, code, text = core.refusal(DOCUMENT)
        assert (code, took < 4) == (grpc.StatusCode.UNAVAILABLE, True)
        assert "nothing to answer from" in text
        assert etcd.endpoints[0] in text
        etcd.start_ready()
        wait_until("it is reached", core.is_ready)
        core.apply(DOCUMENT)
        wait_until("it is answered", lambda: len(core.answered()) == 4)
    finally:
        core.stop()
        etcd.stop()


def is_refused(core: Core, word: str, before: list[str]) -> None:
    """The core has an alarm, and starting it again accepts nothing."""
    wait_until("an alarm", lambda: word in core.health(), 30)
    assert core.restart_core() < 10
    wait_until("the alarm again", lambda: word in core.health(), 30)
    assert core.answered() == before
    _, code, text = core.refusal(changed(3))
    assert code is grpc.StatusCode.UNAVAILABLE
    assert "accept-store" in text


def test_wiped_and_older_stores_change_no_answer(tmp_path: Path) -> None:
    with running(tmp_path) as (etcd, core):
        etcd.save(tmp_path / "backup")
        core.apply(changed(2))
        wait_until("the change", lambda: len(core.answered()) == 2)
        before = core.answered()
        wait_until("it is saved", lambda: is_saved(core))
        time.sleep(2)
        etcd.wipe()
        is_refused(core, "empty", before)
        etcd.restore(tmp_path / "backup")
        is_refused(core, "behind", before)
        done = core.meshctl("accept-store", "--yes")
        assert done.returncode == 0, done.stderr + done.stdout
        wait_until("the backup is answered", lambda: len(core.answered()) == 4)
        core.apply(changed(3))
        wait_until("writes go on", lambda: len(core.answered()) == 3)


def test_a_core_that_stood_still_while_history_went(tmp_path: Path) -> None:
    """SIGSTOP, 1,000 keys and a compaction, SIGCONT: it loads, and goes on."""
    with running(tmp_path) as (etcd, core):
        os.kill(core.core_pid, signal.SIGSTOP)
        try:
            for number in range(20):
                etcd.etcdctl("put", f"/meshd/data/others/{number}", "x")
            etcd.compact()
            # The watch of the core is far behind, and cut off.
            etcd.members[0].kill()
            etcd.start_ready()
            for number in range(20):
                etcd.etcdctl("put", f"/meshd/data/others/{number}", "y")
            etcd.compact()
        finally:
            os.kill(core.core_pid, signal.SIGCONT)
        core.apply(changed(2), timeout_s=30)
        wait_until("the change", lambda: len(core.answered()) == 2)
        assert "alarm" not in core.health()
