"""What is kept of clients' words and probes for the gates of a rollout."""

from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from meshd.core.evidence import Evidence, Whence
from meshd.core.model import Check, Force, Instance, Override, Pop, Port, Record, Service
from meshd.core.outcomes import Outcome
from meshd.core.release import Rollout
from meshd.core.selector import Version
from meshd.core.signals import Signal
from meshd.core.snapshot import Snapshot
from meshd.core.topology import Change, Topology
from meshd.core.verdict import Verdict
from meshd.daemon import evidence as module

R = Rollout("r", "api", Version("1.3.0"))


def instance(name: str, version: str, service: str = "api") -> Instance:
    return Instance(name, service, Version(version), "eu", (IPv4Address("10.0.0.1"),))


OLD, NEW = instance("old", "1.2.0"), instance("new", "1.3.0")


def told(
    testimony: module.Testimony, host: str = "a", of: Instance = NEW, failures: int = 0
) -> None:
    testimony.note(of, Whence(host, "eu"), Outcome(10, failures=failures))


def evidence(testimony: module.Testimony, rollout: Rollout = R) -> Evidence:
    found = testimony.evidence(rollout)
    assert found is not None, "it is listened to"
    return found


def test_sides_are_by_version_and_steps_begin_with_nothing() -> None:
    testimony = module.Testimony()
    assert not testimony.is_of(NEW)
    testimony.follow({"api": R}, 1.0)
    assert testimony.is_of(OLD)
    assert not testimony.is_of(instance("x", "1.3.0", "other"))
    told(testimony, failures=1)
    told(testimony, "b")
    told(testimony, of=OLD, failures=2)
    found = evidence(testimony)
    assert (found.new.attempts, found.new.failed, found.new.hosts) == (20, 1, 2)
    assert (found.old.attempts, found.old.failed, found.old.hosts) == (10, 2, 1)
    testimony.follow({"api": R}, 4.0)
    assert (testimony.heard_s(R, 5.0), evidence(testimony).new.attempts) == (4.0, 20)
    following = replace(R, step=1)
    assert (testimony.evidence(following), testimony.heard_s(following, 5.0)) == (None, 0.0)
    testimony.follow({"api": following}, 6.0)
    assert (testimony.heard_s(following, 7.0), testimony.evidence(R)) == (1.0, None)
    assert evidence(testimony, following).new.attempts == 0
    testimony.follow({}, 8.0)
    assert not testimony.is_of(NEW)


def test_memory_is_bounded_however_many_hosts_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_HOSTS", 3)
    monkeypatch.setattr(module, "MOST_IN_ALL", 5)
    testimony = module.Testimony()
    testimony.follow({"api": R}, 1.0)
    for host in "abcde":
        told(testimony, host)
        told(testimony, host, of=OLD)
    found = evidence(testimony)
    assert (found.new.hosts, found.old.hosts, testimony.crowded) == (3, 2, 5)
    told(testimony, "a")
    assert testimony.crowded == 5
    # What is let go of makes room.
    testimony.follow({"api": replace(R, step=1)}, 2.0)
    for host in "xyz":
        told(testimony, host)
    assert evidence(testimony, replace(R, step=1)).new.hosts == 3


def snapshot(*verdicts: Verdict, checked: bool = True) -> Snapshot:
    check = Check("tcp") if checked else None
    service = Service("api", "api.mesh.internal.", (Port("http", 80),), check=check)
    made = [instance(f"new-{n}", "1.3.0") for n in range(len(verdicts))]
    records: list[Record] = [Pop("eu"), service, OLD, *made]
    signals = {f"new-{n}": Signal(verdict=verdict) for n, verdict in enumerate(verdicts)}
    return Snapshot.build(Topology.load("x", 1, records), signals)


def looked(testimony: module.Testimony, of: Snapshot, times: int = 3) -> tuple[float, float]:
    for _ in range(times):
        testimony.look(of)
    found = evidence(testimony)
    return found.instances, found.up


def test_instances_count_that_probes_judged_and_nobody_forced() -> None:
    testimony = module.Testimony()
    testimony.follow({"api": R}, 1.0)
    down = snapshot(Verdict.UP, Verdict.DOWN, Verdict.RECOVERING, Verdict.FAILING)
    assert looked(testimony, down, times=2) == (0, 0), "too few looks to say"
    assert looked(testimony, down) == (3, 2)
    forced = down.advance([Change.put(Override("new-1", Force.DOWN))], 2)
    testimony.follow({}, 2.0)
    testimony.follow({"api": R}, 3.0)
    assert looked(testimony, forced) == (2, 2)
    testimony.follow({}, 4.0)
    testimony.follow({"api": R}, 5.0)
    assert looked(testimony, snapshot(Verdict.UP, checked=False)) == (0, 0)


def test_a_moment_down_is_a_part_of_the_mean_and_steps_do_not_end_it() -> None:
    testimony = module.Testimony()
    testimony.follow({"api": R}, 1.0)
    looked(testimony, snapshot(Verdict.UP, Verdict.UP), times=9)
    assert looked(testimony, snapshot(Verdict.UP, Verdict.DOWN), times=1) == (2, 1.9)
    following = replace(R, step=1)
    testimony.follow({"api": following}, 2.0)
    assert (evidence(testimony, following).instances, evidence(testimony, following).up) == (2, 1.9)
