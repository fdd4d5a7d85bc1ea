"""Instances die, whole Pops die, all die and come back: what clients of each DNS server see."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from statistics import median

import pytest

from meshd.v1 import topology_pb2
from tests.integration.fleet import CLIENTS, NAME, Fleet, Watch, address, names, running
from tests.servers.fronts import Dnsdist, Front, PowerDns, unbound_module
from tests.servers.install import find
from tests.servers.processes import Meshd, wait_until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

FRONTS = {"powerdns": "pdns_server", "unbound": "unbound", "dnsdist": "dnsdist"}


class Scene:
    """meshd, the fleet, and every DNS server in front of it that is installed here."""

    def __init__(self, meshd: Meshd, fleet: Fleet, fronts: dict[str, Front]) -> None:
        self.meshd = meshd
        self.fleet = fleet
        self.ports = {"listener": meshd.dns_port, **{n: f.port for n, f in fronts.items()}}

    def watched(self, stack: ExitStack, pop: str) -> dict[str, Watch]:
        """A client of a Pop at each way in."""
        return {
            way: stack.enter_context(Watch(port, CLIENTS[pop])) for way, port in self.ports.items()
        }

    def verdicts(self) -> dict[str, str]:
        """What is held of each instance, as the core says."""
        found: dict[str, str] = {}
        with self.meshd.stubs() as (topology, _, _):
            for page in topology.Get(topology_pb2.GetRequest(kinds=["instances"]), timeout=5):
                found |= page.verdicts
        return found

    def all_up(self) -> bool:
        """True if the whole fleet is up."""
        found = self.verdicts()
        return set(found) == set(names()) and set(found.values()) == {"up"}


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """One fleet for all tests; each test leaves it whole."""
    with ExitStack() as stack:
        meshd, fleet = stack.enter_context(running(tmp_path_factory.mktemp("fleet")))
        fronts: dict[str, Front] = {}
        for way, program in FRONTS.items():
            if not find(program):
                continue
            folder = tmp_path_factory.mktemp(way)
            if way == "powerdns":
                fronts[way] = PowerDns(folder, meshd.bridge)
            elif way == "unbound":
                fronts[way] = unbound_module(folder, meshd.bridge)
            else:
                fronts[way] = Dnsdist(folder, meshd.dns_port, meshd.table)
            stack.callback(fronts[way].stop)
            fronts[way].start_ready()
        made = Scene(meshd, fleet, fronts)
        wait_until("all are up", made.all_up, 60)
        yield made


def gone_after(scene: Scene, pop: str, victims: list[str]) -> list[float]:
    """kill -9 one after the other: seconds until no way in answers each of them any more."""
    taken = []
    for victim in victims:
        with ExitStack() as stack:
            watches = scene.watched(stack, pop)
            here = address(victim)
            for way, watch in watches.items():
                wait_until(f"{way} answers {victim}", partial(watch.answers, here), 30)
            killed = scene.fleet.kill(victim)
            for way, watch in watches.items():
                wait_until(f"{way} lets go of it", partial(watch.lacks, here), 30)
            time.sleep(1)
            taken.append(max(watch.last_seen(here, killed) for watch in watches.values()))
            # Nobody was left without an answer meanwhile.
            assert all(found for watch in watches.values() for _, found, _ in watch.seen)
        scene.fleet.start([victim])
        wait_until("it is back", scene.all_up, 60)
    return taken


def test_a_killed_instance_that_is_only_probed(scene: Scene) -> None:
    """Default checks: gone from the answers of every DNS server within 3 s."""
    taken = gone_after(scene, "eu", ["api-eu-2", "api-eu-3", "api-eu-4"])
    assert median(taken) < 3.0, taken


def test_a_killed_instance_that_registered(scene: Scene) -> None:
    """Its stream is closed by the kernel: gone within a second."""
    taken = gone_after(scene, "us", ["api-us-1"] * 3)
    assert median(taken) < 1.0, taken


def test_a_whole_pop_dies_and_the_next_takes_over(scene: Scene) -> None:
    dead = {address(name) for name in names("eu")}
    next_pop = {address(name) for name in names("us")}
    with ExitStack() as stack:
        watches = scene.watched(stack, "eu")
        wait_until("all ask", lambda: all(watch.seen for watch in watches.values()))
        for name in names("eu"):
            scene.fleet.kill(name)
        for way, watch in watches.items():
            wait_until(f"{way}: the next pop", partial(watch.stays_in, next_pop), 20)
        scene.fleet.start(names("eu"))
        for way, watch in watches.items():
            wait_until(f"{way}: home again", partial(watch.stays_in, dead), 60)
        assert all(found for watch in watches.values() for _, found, _ in watch.seen)
    wait_until("all are up", scene.all_up, 60)


def test_all_die_and_the_last_set_is_answered(scene: Scene) -> None:
    """A fault freezes answers, it never empties them; the TTL is the shortest."""
    with ExitStack() as stack:
        watches = {pop: Watch(scene.meshd.dns_port, CLIENTS[pop]) for pop in CLIENTS}
        for watch in watches.values():
            stack.enter_context(watch)
        wait_until("all ask", lambda: all(watch.seen for watch in watches.values()))
        for name in names():
            scene.fleet.kill(name)
        wait_until("all answers are short", lambda: all(w.now[1] == 5 for w in watches.values()))
        wait_until("nobody is up", lambda: "up" not in scene.verdicts().values())
        time.sleep(1)
        everybody = {address(name) for name in names()}
        for watch in watches.values():
            assert watch.now[0], "an answer was emptied"
            assert set(watch.now[0]) <= everybody
            assert all(found for _, found, _ in watch.seen)
        scene.fleet.start(names())
        wait_until("all are up", scene.all_up, 120)
        home = {address(name) for name in names("eu")}
        wait_until("home again", partial(watches["eu"].stays_in, home), 30)


def test_the_core_starts_again_and_the_dead_stay_dead(scene: Scene) -> None:
    """A core begins with the verdicts that it ended with: no dead instance comes back for a moment.

    What happens in its absence (F10) is in test_faults.py.
    """
    victim = "api-ap-2"
    scene.fleet.kill(victim)
    wait_until("it is down", lambda: scene.verdicts()[victim] == "down", 20)
    with Watch(scene.meshd.dns_port, CLIENTS["ap"]) as watch:
        wait_until("out of the answers", partial(watch.lacks, address(victim)))
        # The signals are on disk a second after they changed.
        time.sleep(2.5)
        at = time.monotonic()
        first = scene.meshd.core_pid
        scene.meshd.kill_core()
        wait_until("a new core", lambda: scene.meshd.core_pid not in (0, first))
        wait_until("answerers follow it", scene.meshd.is_ready)
        time.sleep(2)
        assert watch.last_seen(address(victim), at) == 0.0
        assert all(found for _, found, _ in watch.seen)
    scene.fleet.start([victim])
    wait_until("all are up", scene.all_up, 60)


def test_a_probe_aimed_at_metadata_is_refused(scene: Scene) -> None:
    """169.254.169.254 answers credentials on many clouds: the document is refused, by line."""
    text = f"""
services:
  api: {{name: {NAME}, ports: {{http: 80/tcp}}, check: {{http: /}}}}
instances:
  bad: {{service: api, version: 1.0.0, pop: eu, address: 169.254.169.254}}
"""
    path = scene.meshd.data.parent / "bad.yaml"
    path.write_text(text)
    done = scene.meshd.meshctl("apply", "-f", str(path), "--yes", "--force")
    assert done.returncode == 1
    assert "169.254.169.254" in done.stderr
    assert "probe" in done.stderr
    assert "bad" not in scene.verdicts()
