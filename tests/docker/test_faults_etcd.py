"""etcd loses members, its quorum, its history, its data; answers go on, and writes come back."""

import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.docker.history import Outcome, Write, longest_pause_s
from tests.docker.nodes import ETCDS, Nodes
from tests.docker.probe import Load, Way, Writer
from tests.docker.promises import Promises
from tests.docker.rows import in_words, right, wait_alarmed, wait_healthy, wait_taken
from tests.servers.processes import wait_until

pytestmark = [pytest.mark.docker, pytest.mark.faults, pytest.mark.timeout(900)]

# What one second is on a machine that is busy with more than twenty processes.
_PAUSE_S = 5.0


def test_a_follower_is_killed(nodes: Nodes, writer: Writer, promises: Promises) -> None:
    with Load(nodes, writer) as load, load.broken(stale_s=5):
        follower = next(member for member in ETCDS if member != nodes.leader())
        with nodes.gone(follower):
            load.go_on(5)
        wait_healthy(nodes)
    report = right(load.report())
    pause_s = longest_pause_s(load.writes)
    assert pause_s < _PAUSE_S
    promises.kept(
        "etcd: a follower is killed", "no answer fails, writes pause < 5 s",
        f"{in_words(report)}, pause {pause_s:.1f} s",
    )  # fmt: skip


def test_the_leader_is_killed(nodes: Nodes, writer: Writer, promises: Promises) -> None:
    with Load(nodes, writer) as load, load.broken(stale_s=5):
        with nodes.gone(nodes.leader()):
            load.go_on(6)
        wait_healthy(nodes)
    report = right(load.report())
    pause_s = longest_pause_s(load.writes)
    assert pause_s < _PAUSE_S
    promises.kept(
        "etcd: the leader is killed", "no answer fails, writes pause < 5 s",
        f"{in_words(report)}, pause {pause_s:.1f} s",
    )  # fmt: skip


def test_the_leader_hangs(nodes: Nodes, writer: Writer, promises: Promises) -> None:
    """A watch on a member that hangs is silent; that is noticed, and goes elsewhere."""
    with Load(nodes, writer) as load, load.broken(stale_s=10):
        with nodes.paused(nodes.leader()):
            load.go_on(12)
        wait_healthy(nodes)
    report = right(load.report())
    pause_s = longest_pause_s(load.writes)
    assert pause_s < _PAUSE_S
    promises.kept(
        "etcd: the leader hangs", "no answer fails, writes pause < 5 s",
        f"{in_words(report)}, pause {pause_s:.1f} s",
    )  # fmt: skip


def _refused(load: Load, began: float, ended: float) -> list[Write]:
    """What was written while nothing could be."""
    return [each for each in load.writes if began < each.began and each.ended < ended]


def _say_why(refusals: Sequence[str], *words: str) -> None:
    """Each refusal tells an operator where to look."""
    assert refusals
    silent = [each for each in refusals if not any(word in each for word in words)]
    assert silent == []


def test_etcd_has_no_quorum_for_a_minute(nodes: Nodes, writer: Writer, promises: Promises) -> None:
    with Load(nodes, writer) as load, load.broken():
        wait_until("it is settled", lambda: len(load.writes) > 5)
        with nodes.paused(*ETCDS[:2]):
            # What is under way is not answered for as long as what begins now.
            load.go_on(2)
            refused_before, began = len(writer.refusals), time.monotonic()
            load.go_on(58)
            refused, ended = writer.refusals[refused_before:], time.monotonic()
    report = right(load.report())
    during = _refused(load, began, ended)
    assert during
    assert {write.outcome for write in during} <= {Outcome.REFUSED, Outcome.UNKNOWN}
    slowest_s = max(write.ended - write.began for write in during)
    assert slowest_s < 2.5
    _say_why(refused, "etcd", "the store")
    promises.kept(
        "etcd: no quorum for 60 s",
        "answers go on, writes refused < 2 s, all catches up",
        f"{in_words(report)}, {len(during)} refused in {slowest_s:.1f} s at most, "
        f"writes after {_first_s(load, ended):.1f} s",
    )


def _first_s(load: Load, healed: float) -> float:
    """When the first write was acknowledged after all was well."""
    done = [each.ended for each in load.writes if each.outcome is Outcome.ACKNOWLEDGED]
    return min(ended for ended in done if ended > healed) - healed


def test_all_of_etcd_is_gone_and_a_core_restarts(
    nodes: Nodes, writer: Writer, promises: Promises
) -> None:
    own = [way for way in nodes.ways if way.host == "core1"]
    with Load(nodes, writer) as load, load.broken(stale_s=5, fails=[way.name for way in own]):
        with nodes.gone(*ETCDS):
            load.go_on(2)
            # Python's own start may take its time once, on a machine that is busy.
            took = [_restart_s(nodes, own[0]) for _ in range(3)]
        wait_healthy(nodes)
    report = right(load.report())
    assert min(took) < 2
    promises.kept(
        "etcd: all gone, a core restarts", "back < 2 s from disk, answers unchanged",
        f"{in_words(report)}, back after {min(took):.1f} s",
    )  # fmt: skip


def _restart_s(nodes: Nodes, way: Way) -> float:
    """How long the node of a way takes to answer after it was killed."""
    with nodes.gone(way.host):
        began = time.monotonic()
    wait_until(f"{way.host} answers", lambda: _answers(way), 20)
    return time.monotonic() - began


def _answers(way: Way) -> bool:
    return way.ask("wave-0", timeout_s=0.1).rcode == "NOERROR"


def test_history_is_compacted_while_a_core_hangs(
    nodes: Nodes, writer: Writer, promises: Promises
) -> None:
    with Load(nodes, writer) as load:
        load.cores = ["core1", "core2"]
        with load.broken(stale_s=30):
            with nodes.hanging("core3"):
                for number in range(10):
                    writer.fill("core1", f"bulk-{number}", 100)
                nodes.etcdctl("compact", str(nodes.revision()))
                # What is on its way to the core is lost with the connection.
                for member in ETCDS:
                    with nodes.gone(member):
                        pass
                    wait_healthy(nodes)
            newest = nodes.state("core1").revision
            took_s = wait_until(
                "core3 has caught up", lambda: nodes.state("core3").revision >= newest
            )
    report = right(load.report())
    assert took_s < 2
    promises.kept(
        "etcd: history compacted while a core hung", "re-list < 2 s",
        f"{in_words(report)}, caught up after {took_s:.1f} s",
    )  # fmt: skip


def test_etcd_is_full(nodes: Nodes, writer: Writer, promises: Promises) -> None:
    with Load(nodes, writer) as load, load.broken(), nodes.filled_up():
        load.go_on(1)
        refused_before, began = len(writer.refusals), time.monotonic()
        load.go_on(4)
        refused, ended = writer.refusals[refused_before:], time.monotonic()
    report = right(load.report())
    during = _refused(load, began, ended)
    assert during
    assert {write.outcome for write in during} == {Outcome.REFUSED}
    _say_why(refused, "space", "full")
    promises.kept(
        "etcd: its quota is used up", "writes refused clearly, answers go on",
        f"{in_words(report)}, {len(during)} refused, writes after {_first_s(load, ended):.1f} s",
    )  # fmt: skip


def test_etcd_is_wiped(nodes: Nodes, writer: Writer, promises: Promises, tmp_path: Path) -> None:
    """The cores keep what they have, and give it back when an operator says so."""
    saved = tmp_path / "saved"
    with Load(nodes, writer) as load, load.broken(stale_s=5):
        nodes.renew_etcd()
        wait_healthy(nodes)
        wait_alarmed(nodes)
        load.go_on(3)
        nodes.must("core1", "snapshot", "save", str(saved))
    report = right(load.report())
    nodes.must("core1", "accept-store", "--yes")
    nodes.must("core1", "snapshot", "restore", str(saved), "--yes", "--force")
    # The others take it by themselves: it is empty no more.
    wait_taken(nodes)
    # It has all names again, and who registered itself comes back.
    with Load(nodes, writer) as load, load.broken():
        load.go_on(2)
    right(load.report())
    promises.kept("etcd: wiped", "answers go on, an alarm, restored from a core", in_words(report))


def test_an_older_snapshot_of_etcd_is_restored(
    nodes: Nodes, writer: Writer, promises: Promises, tmp_path: Path
) -> None:
    older = tmp_path / "older.db"
    with Load(nodes, writer) as load:
        nodes.etcdctl("snapshot", "save", str(older), members=ETCDS[:1])
        load.go_on(3)
        with load.broken(stale_s=5):
            nodes.renew_etcd(older)
            wait_healthy(nodes)
            wait_alarmed(nodes)
            load.go_on(3)
    report = right(load.report())
    nodes.must("core1", "accept-store", "--yes")
    wait_taken(nodes)
    # What is written now is in all answers.
    with Load(nodes, writer) as load, load.broken():
        load.go_on(2)
    right(load.report())
    promises.kept(
        "etcd: an older snapshot restored", "the newer state is kept, an alarm",
        in_words(report),
    )  # fmt: skip
