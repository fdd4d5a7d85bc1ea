"""Cores are killed, hang, and are cut off from etcd, from each other, from instances and hosts."""

import signal

import pytest

from tests.docker.nodes import CORES, ETCDS, HOSTS, INSTANCES, Nodes
from tests.docker.probe import Load, Writer
from tests.docker.promises import Promises
from tests.docker.rows import in_words, is_alarmed, right
from tests.servers.processes import wait_until

pytestmark = [pytest.mark.docker, pytest.mark.faults, pytest.mark.timeout(900)]

# A core says nothing for four seconds, then answerers look for another one.
_FAIL_OVER_S = 8.0


def test_a_core_is_killed(nodes: Nodes, writer: Writer, promises: Promises) -> None:
    """It is started again beside its answerers, which go on."""
    with Load(nodes, writer) as load, load.broken(stale_s=5):
        nodes.signal("core1", signal.SIGKILL, "meshd.daemon")
        load.go_on(3)
    report = right(load.report())
    promises.kept("core: killed", "nothing: its answerers go on", in_words(report))


def test_a_core_hangs(nodes: Nodes, writer: Writer, promises: Promises) -> None:
    with Load(nodes, writer) as load, load.broken(stale_s=_FAIL_OVER_S), nodes.hanging("core2"):
        load.go_on(12)
    report = right(load.report())
    promises.kept("core: hangs", "nothing: its answerers go on", in_words(report))


def test_the_machine_of_a_core_loses_power(
    nodes: Nodes, writer: Writer, promises: Promises
) -> None:
    """Its own answerers are away with it; those on other hosts follow another core."""
    own = [way.name for way in nodes.ways if way.host == "core3"]
    with (
        Load(nodes, writer) as load,
        load.broken(stale_s=_FAIL_OVER_S, settle_s=5, fails=own),
        nodes.gone("core3"),
    ):
        load.go_on(12)
    report = right(load.report())
    promises.kept(
        "core: its machine loses power", "nothing on all others",
        f"{in_words(report)} (lost on it)",
    )  # fmt: skip


def test_a_core_is_cut_off_from_etcd(nodes: Nodes, writer: Writer, promises: Promises) -> None:
    """Its answerers go to a core that is not, after five seconds."""
    core = CORES[0]
    with (
        Load(nodes, writer) as load,
        load.broken(stale_s=15, settle_s=3),
        nodes.apart([core], ETCDS),
    ):
        load.go_on(20)
    report = right(load.report())
    promises.kept("partition: a core and etcd", "answers go on, heals in < 3 s", in_words(report))


def test_cores_are_cut_off_from_each_other(
    nodes: Nodes, writer: Writer, promises: Promises
) -> None:
    """Each decides for itself; what the store says is in the answers of all, in time."""
    with (
        Load(nodes, writer) as load,
        load.broken(stale_s=_FAIL_OVER_S),
        nodes.apart(["core1"], ["core2", "core3"]),
    ):
        load.go_on(10)
    report = right(load.report())
    promises.kept("partition: a core and the others", "no change", in_words(report))


def test_an_instance_is_cut_off_from_one_core(
    nodes: Nodes, writer: Writer, promises: Promises
) -> None:
    """It stays in all answers, for another core hears it."""
    with Load(nodes, writer) as load:
        for core in CORES:
            with load.broken(settle_s=1), nodes.apart([INSTANCES[0]], [core]):
                load.go_on(10)
    report = right(load.report())
    promises.kept("partition: an instance and one core", "it stays", in_words(report))


def test_answerers_are_cut_off_from_the_core_that_they_follow(
    nodes: Nodes, writer: Writer, promises: Promises
) -> None:
    with Load(nodes, writer) as load:
        for core in CORES:
            with load.broken(stale_s=_FAIL_OVER_S, settle_s=2), nodes.apart(HOSTS, [core]):
                load.go_on(7)
    report = right(load.report())
    promises.kept("partition: answerers and their core", "they go to another", in_words(report))


def test_answerers_are_cut_off_from_all_cores(
    nodes: Nodes, writer: Writer, promises: Promises
) -> None:
    host = HOSTS[1]
    ways = [way.name for way in nodes.ways if way.host == host]
    with (
        Load(nodes, writer) as load,
        load.broken(stale_s=30, stale=ways),
        nodes.apart([host], CORES),
    ):
        load.go_on(15)
    report = right(load.report())
    promises.kept("partition: answerers and all cores", "answers go on", in_words(report))


def test_the_clock_of_a_core_is_wrong(nodes: Nodes, writer: Writer, promises: Promises) -> None:
    own = [way.name for way in nodes.ways if way.host == "core2"]
    with Load(nodes, writer) as load:
        for clock in ("+10m", "-10m"):
            with load.broken(stale_s=_FAIL_OVER_S, fails=own):
                nodes.skew("core2", clock)
                load.go_on(3)
            load.go_on(2)
        with load.broken(stale_s=_FAIL_OVER_S, fails=own):
            nodes.skew("core2", "")
    report = right(load.report())
    promises.kept("clock: a core is ten minutes off", "no change", in_words(report))


def test_two_cores_have_one_name(nodes: Nodes, writer: Writer, promises: Promises) -> None:
    with Load(nodes, writer) as load:
        twin = nodes.start_twin("core1")
        try:
            took_s = wait_until("the second raises an alarm", lambda: is_alarmed(nodes, twin))
            load.go_on(5)
            assert not any(is_alarmed(nodes, core) for core in CORES)
        finally:
            nodes.kill(twin)
        load.go_on(2)
    report = right(load.report())
    promises.kept(
        "two cores of one name", "the second is refused, with an alarm",
        f"{in_words(report)}, alarm after {took_s:.1f} s",
    )  # fmt: skip
