"""Three cores on one etcd, their clocks apart, and an answerer that follows them while they die."""

import os
import signal
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import dns.exception
import pytest

from meshd.client import BlockingRegistration
from meshd.daemon.settings import CoreSettings, EtcdSettings
from tests.integration.probe import Probe
from tests.integration.topology import DOCUMENT
from tests.servers.etcd import Etcd, program
from tests.servers.processes import Meshd, wait_until
from tests.servers.queries import Asker, addresses

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        program("etcd") is None, reason="etcd is not installed here (Debian: etcd-server)"
    ),
]

ASKER = Asker("127.0.1.9")
NAME = "api.mesh.internal"
# Without it (Debian: faketime) clocks are right, and the rest is as it is.
FAKETIME = tuple(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))


class Core(Meshd):
    """A core alone on the shared store, its wall clock wrong by so many seconds."""

    def __init__(self, folder: Path, etcd: Etcd, name: str, wrong_s: int) -> None:
        folder.mkdir()
        super().__init__(folder)
        settings = CoreSettings(
            node=name,
            data=self.data,
            store="etcd",
            etcd=EtcdSettings(endpoints=etcd.endpoints),
            grpc=self.grpc,
            http=self.http,
        )
        self.data.mkdir()
        self._command = [sys.executable, "-m", "meshd.daemon", settings.model_dump_json()]
        for library in FAKETIME:
            # A wall clock that was set wrong does not move the monotonic one.
            self._environment |= {
                "LD_PRELOAD": str(library),
                "FAKETIME": f"{wrong_s:+}s",
                "DONT_FAKE_MONOTONIC": "1",
            }

    def is_ready(self) -> bool:
        """True if it has its store."""
        if not self.is_running:
            raise RuntimeError(f"the core ended: {self.tail()}")
        try:
            with urllib.request.urlopen(f"http://{self.http}/readyz", timeout=1) as reply:
                return b'"reached"' in reply.read()
        except OSError:
            return False

    def signal(self, number: int) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)


class Answerer(Meshd):
    """`meshd answer` beside a DNS server."""

    def __init__(self, folder: Path, cores: list[Core]) -> None:
        folder.mkdir()
        super().__init__(folder, 1)
        addresses_of_cores = ",".join(core.grpc for core in cores)
        self._command = [*self._command[:3], "answer", "--data", str(self.data),
                         "--core", addresses_of_cores, "--answerers", "1",
                         "--dns", f"127.0.0.1:{self.dns_port}"]  # fmt: skip

    def answered(self) -> list[str]:
        try:
            return addresses(ASKER.ask(self.dns_port, NAME, timeout_s=0.5))
        except dns.exception.Timeout:
            return []


@dataclass
class Fleet:
    """All of it."""

    cores: list[Core]
    answerer: Answerer

    def change(self, through: int, most: int) -> None:
        """A change through one core is what the answerer answers."""
        text = DOCUMENT.replace("version: 1.2.*", f"version: 1.2.*\n    max_answers: {most}")
        self.cores[through].apply(text, timeout_s=20)
        wait_until("the change is answered", lambda: len(self.answerer.answered()) == most)


@contextmanager
def running(folder: Path) -> Iterator[Fleet]:
    etcd = Etcd(folder / "etcd")
    cores = [
        Core(folder / name, etcd, name, wrong_s)
        for name, wrong_s in (("a", 0), ("b", 600), ("c", -600))
    ]
    answerer = Answerer(folder / "d", cores)
    try:
        etcd.start_ready()
        for core in cores:
            core.start()
        for core in cores:
            wait_until("a core is ready", core.is_ready)
        cores[0].apply(DOCUMENT)
        answerer.start()
        wait_until("it is answered", lambda: len(answerer.answered()) == 4)
        yield Fleet(cores, answerer)
    finally:
        answerer.stop()
        for core in cores:
            core.stop()
        etcd.stop()


def test_cores_die_and_hang_and_nobody_notices(tmp_path: Path) -> None:
    """Each answer is one that was decided, each change arrives, whoever was asked to make it."""
    with running(tmp_path) as made, Probe(made.answerer.dns_port, 50) as probe:
        host, port = made.cores[1].grpc.split(":")
        registration = BlockingRegistration(
            f"{host}:{port}", name="own-1", service="only", version="1.0.0", addresses=["10.1.0.9"]
        )
        with registration:
            for through, most in ((0, 3), (1, 2), (2, 4)):
                made.change(through, most)
            made.cores[0].kill()
            made.change(1, 3)
            made.change(2, 2)
            made.cores[0].start_ready()
            made.cores[0].signal(signal.SIGSTOP)
            made.cores[1].signal(signal.SIGSTOP)
            made.change(2, 4)
            made.cores[0].signal(signal.SIGCONT)
            made.cores[1].signal(signal.SIGCONT)
            for through, most in ((0, 2), (1, 3), (2, 2)):
                made.change(through, most)
            shown = made.cores[2].meshctl("get", "presence")
            assert "own-1" in shown.stdout, shown
        probe.enough(50)
    assert set(probe.counts) == {"NOERROR"}, probe.counts
    assert {len(each) for each in probe.sets} <= {2, 3, 4}
