"""The closed loop: what programs with the library see changes what everybody is answered."""

import os
import signal
import time
from collections.abc import Iterator
from itertools import pairwise

import pytest

from tests.integration.conftest import need_powerdns
from tests.integration.loop import HOSTS, Callers, Flood, Scene, Voices, running
from tests.servers.processes import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

_HALF_BAD = dict.fromkeys(list(HOSTS)[:3], 10)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """One scene for all tests; each test leaves it whole."""
    need_powerdns()
    with running(tmp_path_factory.mktemp("loop")) as made:
        yield made


@pytest.fixture(autouse=True)
def _all_well(scene: Scene) -> None:
    """Nothing of the test before is left."""
    wait_until("all are up, and nobody complains", scene.all_up, 90)


def test_what_clients_see_fail_is_no_longer_answered_first(scene: Scene) -> None:
    """Its health checks pass all the time, and half of its requests fail.

    Clients without the library have it first no more within five seconds of the first report of
    it. When it works again they come back one after the other.
    """
    with Callers(scene, 4, 50) as callers:
        wait_until("all are called", lambda: sum(callers.ok.values()) > 200)
        victim = callers.ok.most_common(1)[0][0]
        before = scene.firsts()[victim]
        assert before > 0
        scene.fail(victim, 0.5)
        wait_until("clients complain", lambda: scene.success(victim) < 1, 10)
        took_s = wait_until("nobody has it first", lambda: not scene.firsts()[victim], 30)
        assert took_s < 5.0
        assert scene.told()[victim]["verdict"] == "up"
        scene.fail(victim, 0)
        shares = came_back(scene, victim, before)
    # No herd: it takes seconds from the first client to half of them, and no step brings more.
    assert shares[-1][0] - shares[0][0] > 3.0, shares
    counts = [count for _, count in shares]
    assert all(b - a <= max(2, before // 2) for a, b in pairwise(counts))


def came_back(scene: Scene, victim: str, before: int) -> list[tuple[float, int]]:
    """How many clients have it first, from the first one until most that had are back."""
    shares: list[tuple[float, int]] = []

    def is_back() -> bool:
        count = scene.firsts()[victim]
        if count:
            shares.append((time.monotonic(), count))
        time.sleep(0.2)
        return count >= 0.7 * before

    wait_until("its clients are back", is_back, 90)
    return shares


@pytest.mark.parametrize("liars", [1, 2])
def test_liars_among_eight_change_nothing(scene: Scene, liars: int) -> None:
    """They say that half of those that are good are bad, and nobody's list changes for it."""
    honest = scene.lists()
    with Voices(scene, "honest", 8 - liars, {}), Voices(scene, "liar", liars, _HALF_BAD):
        stays(scene, honest, 10.0)


def stays(scene: Scene, lists: list[list[str]], seconds: float) -> None:
    """Nobody's list changes for some time."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        assert scene.lists() == lists
        time.sleep(0.2)


@pytest.mark.parametrize("liars", [1, 2])
def test_liars_among_eight_save_nobody(scene: Scene, liars: int) -> None:
    """They say that the one that is bad is good, and the good ones are bad."""
    victim = "api-3"
    lie = {name: 10 for name in HOSTS if name != victim}
    with Voices(scene, "honest", 8 - liars, {victim: 5}), Voices(scene, "liar", liars, lie):
        wait_until("nobody has it first", lambda: not scene.firsts()[victim], 15)
        successes = {name: scene.success(name) for name in HOSTS}
        assert successes == {**dict.fromkeys(HOSTS, 1.0), victim: 0.0}


def test_no_request_fails_while_instances_come_and_go(scene: Scene) -> None:
    """200 requests a second: each instance is restarted, two at once are killed, DNS is away."""
    with Callers(scene, 4, 200) as callers:
        wait_until("all call", lambda: sum(callers.ok.values()) > 400)
        for name, instance in scene.instances.items():
            instance.kill()
            instance.start()
            wait_until(f"{name} is called again", lambda: called(callers, name), 60)  # noqa: B023
        killed = [name for name, _ in callers.ok.most_common(2)]
        for name in killed:
            os.kill(scene.instances[name].pid, signal.SIGKILL)
        served(callers, 3.0)
        for name in killed:
            scene.instances[name].kill()
            scene.instances[name].start()
        scene.dns.kill()
        served(callers, 60.0)
        scene.dns.start_ready()
        served(callers, 2.0)
    assert callers.failed == []


def called(callers: Callers, name: str) -> bool:
    """True once an instance was called with success in the last moment."""
    before = callers.ok[name]
    time.sleep(0.5)
    return callers.ok[name] > before


def served(callers: Callers, seconds: float) -> None:
    """Let requests be served for a time; at least a fifth of those that are due are."""
    before = sum(callers.ok.values())
    time.sleep(seconds)
    assert sum(callers.ok.values()) - before > 200 * seconds / 5


def test_without_a_core_clients_work_and_reports_flow_again(scene: Scene) -> None:
    """It hangs for longer than reports are worth, then it is killed."""
    with Callers(scene, 4, 50) as callers:
        wait_until("all report", lambda: all(r.sent for r in callers.reporters))
        hung = scene.meshd.core_pid
        os.kill(hung, signal.SIGSTOP)
        before = sum(callers.ok.values())
        time.sleep(20)
        assert sum(callers.ok.values()) > before + 200
        assert all(reporter.waiting <= 5 for reporter in callers.reporters)
        assert all(reporter.dropped for reporter in callers.reporters)
        os.kill(hung, signal.SIGCONT)
        flow_again(callers)
        scene.meshd.kill_core()
        wait_until("it is back", lambda: scene.meshd.core_pid not in (0, hung))
        wait_until("it answers", scene.meshd.is_ready)
        flow_again(callers)
    assert callers.failed == []


def flow_again(callers: Callers) -> None:
    """All reports are answered within five seconds."""
    before = [reporter.sent for reporter in callers.reporters]
    took_s = wait_until(
        "all report again",
        lambda: all(r.sent > b for r, b in zip(callers.reporters, before, strict=True)),
    )
    assert took_s < 5.0


def test_a_flood_of_reports_drowns_nobody(scene: Scene) -> None:
    """One reporter sends all that it can and says that all is bad; eight others are honest."""
    lists = scene.lists()
    with Voices(scene, "honest", 8, {}), Flood(scene) as flood:
        began_at, heard, early = time.monotonic(), calls_heard(scene), left_out(scene)
        stays(scene, lists, 10.0)
        took_s = time.monotonic() - began_at
        # A batch each two seconds is what a reporter is asked for.
        assert flood.batches > 100 * took_s / 2
        # Eight say ten of each of six instances each second; of the flood sixty in two count.
        assert calls_heard(scene) - heard > 0.5 * 8 * 60 * took_s
        assert left_out(scene) - early > 0.5 * 6 * flood.batches


def calls_heard(scene: Scene) -> float:
    """Calls that the core was told of and counted."""
    return scene.metric("meshd_outcomes_total")


def left_out(scene: Scene) -> float:
    """Outcomes that the core left out."""
    return scene.metric("meshd_outcomes_ignored_total")
