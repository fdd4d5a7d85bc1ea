"""What a core makes of all rollouts before it moves any."""

from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from meshd.core.model import Instance, Pop, Port, Service
from meshd.core.release import Course, OnMissing, OnNew, Phase, Rollout, steps_of
from meshd.core.selector import Exact, Selector, Version, parse_selector
from meshd.core.snapshot import Snapshot
from meshd.core.topology import Change, Topology
from meshd.daemon.lines import Lines, note_in_s, patient, settled, what_became

COURSE = Course(steps_of((5, 100), 60.0), on_gate_missing=OnMissing.FAIL)
R = Rollout("r", "api", Version("1.3.0"), COURSE)


def snapshot(selector: Selector, *rollouts: Rollout) -> Snapshot:
    service = Service(
        "api", "api.mesh.internal.", (Port("http", 80),), selector,
        channels=(("beta", Exact(Version("1.3.0"))),),
    )  # fmt: skip
    instances = [
        Instance(f"i{n}", "api", Version(version), "eu", (IPv4Address(n + 1),))
        for n, version in enumerate(("1.2.0", "1.3.0", "1.4.0"))
    ]
    return Snapshot.build(Topology.load("x", 1, [Pop("eu"), service, *instances, *rollouts]))


def test_the_newest_of_each_service_counts_while_it_is_under_way() -> None:
    done = replace(R, name="q", phase=Phase.DONE)
    made = snapshot(parse_selector("latest"), done, replace(R, order=2))
    lines = Lines.of(made.topology)
    assert [each.name for each in lines.by_service["api"]] == ["q", "r"]
    assert (set(lines.moving), lines.receiving) == ({"api"}, [])
    assert lines.are_of(made.topology)
    for phase in (Phase.HELD, Phase.DONE, Phase.ROLLED_BACK):
        after = made.advance([Change.put(replace(R, order=2, phase=phase))], 2).topology
        assert not lines.are_of(after)
        assert Lines.of(after).moving == {}
    canary = replace(made.topology.services["api"], on_new=OnNew.CANARY)
    assert Lines.of(made.advance([Change.put(canary)], 3).topology).receiving == ["api"]


@pytest.mark.parametrize(
    ("selector", "becomes"),
    [
        ("latest", "1.3.0"),
        ("1.3", None),
        ("beta", None),
        ("1.2.0", "1.3.0"),
        ("1.2.*", "1.3.0"),
        ("1.3.*", None),
        (">=1.3,<1.4", None),
        (">=1.2", "1.3.0"),
        ("1.2.0:90 1.3.0:10", None),
    ],
)
def test_done_leaves_a_selector_that_gives_it_to_all(selector: str, becomes: str | None) -> None:
    """With `latest` it is 1.4.0 that all would get."""
    made = settled(snapshot(parse_selector(selector), R), R)
    assert (made and str(made.selector)) == becomes


def test_a_held_version_above_does_not_count() -> None:
    held = replace(R, name="s", to=Version("1.4.0"), phase=Phase.ROLLED_BACK)
    rollout = replace(R, order=2)
    assert settled(snapshot(parse_selector("latest"), held, rollout), rollout) is None


def test_who_took_over_waits_for_gates_for_a_whole_step() -> None:
    assert patient(R, 59.9).course.on_gate_missing is OnMissing.WAIT
    assert patient(R, 60.0) is R


def test_notes_become_rarer() -> None:
    assert note_in_s(R) == 6.0
    assert note_in_s(replace(R, course=Course(steps_of((100,), 1.0)))) == 5.0
    assert note_in_s(replace(R, held_s=1000.0)) == 100.0


def test_what_the_audit_says() -> None:
    assert what_became(R, replace(R, step=1)) == "rollout r step 2: 100 %"
    assert what_became(R, replace(R, held_s=6.0)) == "rollout r noted"
    back = replace(R, phase=Phase.ROLLED_BACK, reason="rolled back at 5 %: by hand")
    assert what_became(R, back) == "rollout r rolled-back: rolled back at 5 %: by hand"
    assert what_became(R, replace(R, phase=Phase.PAUSED)) == "rollout r paused"
