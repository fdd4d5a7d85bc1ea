"""Plans: what is written, what is refused, what needs force, and whom it moves."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from meshd.core.errors import Invalid
from meshd.core.hashing import BUCKETS
from meshd.core.model import Force, Instance, Override, Pop, Port, Prefix, Range, Record, Service
from meshd.core.plan import Document, Plan, plan_document, plan_edits
from meshd.core.release import Experiment, ExperimentArm, Phase, Rollout, Scope
from meshd.core.resolve import Spot, choose
from meshd.core.selector import Version, parse_selector
from meshd.core.snapshot import Snapshot
from meshd.core.topology import Change, Kind, kind_of
from tests import samples

BEFORE = samples.snapshot()
HELD = [r for r in samples.RECORDS if not isinstance(r, Instance) or not r.registered]


def document(records: Sequence[Record], *kinds: Kind) -> Document:
    wanted = kinds or (Kind.ZONES, Kind.POPS, Kind.RANGES, Kind.SERVICES, Kind.INSTANCES)
    return Document(frozenset(wanted), tuple(r for r in records if kind_of(r) in wanted))


def planned(records: Sequence[Record], *kinds: Kind) -> Plan:
    return plan_document(BEFORE, document(records, *kinds))


def without(*names: str) -> list[Record]:
    return [record for record in HELD if record.name not in names]


def test_the_same_is_nothing_to_do() -> None:
    plan = planned(HELD)
    assert (plan.edits, plan.moves, plan.unsafe, plan.revision) == ((), (), (), 7)


def test_edits() -> None:
    api = replace(BEFORE.topology.services["api"], max_answers=2)
    changed = [*without("api-eu-1", "api"), api]
    plan = planned([*changed, Pop("sa")])
    assert {(e.kind, e.name, e.action) for e in plan.edits} == {
        (Kind.SERVICES, "api", "update"),
        (Kind.INSTANCES, "api-eu-1", "delete"),
        (Kind.POPS, "sa", "create"),
    }
    after = BEFORE.advance(plan.changes(), 8)
    assert plan_document(after, document([*changed, Pop("sa")])).edits == ()


def test_kinds_that_are_not_named_stay() -> None:
    assert planned([], Kind.OVERRIDES).edits == ()
    plan = planned([Pop("eu"), Pop("us"), Pop("ap")], Kind.POPS)
    assert {edit.kind for edit in plan.edits} == {Kind.POPS}


def test_registered_instances_are_not_touched() -> None:
    assert "wild-1" not in {edit.name for edit in planned(HELD).edits}
    twin = replace(BEFORE.topology.instances["wild-1"], registered=False)
    with pytest.raises(Invalid, match="registered itself"):
        planned([*HELD, twin])


def faults(changes: Sequence[Change], held: Snapshot = BEFORE) -> list[str]:
    with pytest.raises(Invalid) as refused:
        plan_edits(held, changes)
    return [f"{fault.where}: {fault.what}" for fault in refused.value.faults]


def test_what_stays_may_not_refer_to_what_goes() -> None:
    found = faults([Change(Kind.POPS, "ap", None)])
    assert "ranges.2001:db8::/32.pop: there is no pop 'ap'" in found
    assert any(line.startswith("instances.api-ap-1.pop") for line in found)
    assert faults([Change(Kind.ZONES, "mesh.internal.", None)]) == [
        f"services.{name}.name: {dns} lies in no zone"
        for name, dns in (
            ("api", "api.mesh.internal."),
            ("old", "old.deep.mesh.internal."),
            ("wild", "*.apps.mesh.internal."),
        )
    ]


API_7 = Rollout("api-7", "api", Version("1.3"), scope=Scope(("ap",), ("10.2.0.0/16",)))
CART = Experiment("cart", "api", (ExperimentArm("a", parse_selector("beta"), 5),), API_7.scope)


@pytest.mark.parametrize("record", [API_7, CART], ids=["rollout", "experiment"])
def test_what_versions_in_motion_name_must_be_there_and_stay(record: Rollout | Experiment) -> None:
    where = f"{kind_of(record)}.{record.name}"
    odd = replace(record, service="none", scope=Scope(("mars",), ("10.77.0.0/16", "nowhere")))
    assert faults([Change.put(odd)]) == [
        f"{where}.service: there is no service 'none'",
        f"{where}.scope: there is no pop 'mars'",
        f"{where}.scope: there is no range '10.77.0.0/16'",
        f"{where}.scope: there is no range 'nowhere'",
    ]
    held = BEFORE.advance([Change.put(record)], 8)
    for kind, name, fault in (
        (Kind.SERVICES, "api", f"{where}.service: there is no service 'api'"),
        (Kind.POPS, "ap", f"{where}.scope: there is no pop 'ap'"),
        (Kind.RANGES, "10.2.0.0/16", f"{where}.scope: there is no range '10.2.0.0/16'"),
    ):
        assert fault in faults([Change(kind, name, None)], held)
    wanted = [each for each in HELD if each.name != "10.2.0.0/16"]
    with pytest.raises(Invalid, match=r"there is no range '10.2.0.0/16'"):
        plan_document(held, document(wanted))


def test_what_versions_in_motion_ask_of_their_service() -> None:
    api = BEFORE.topology.services["api"]
    split = replace(api, selector=parse_selector("{1.2: 50, 1.3: 50}"))
    what = "service 'api' is split already, {1.2: 50, 1.3: 50}"
    assert faults([Change.put(split), Change.put(API_7)]) == [f"rollouts.api-7.service: {what}"]
    held = BEFORE.advance([Change.put(API_7), Change.put(CART)], 8)
    assert faults([Change.put(split)], held) == [f"rollouts.api-7.service: {what}"]
    assert faults([Change.put(replace(api, channels=()))], held) == [
        "experiments.cart.arms.a: 'beta' is neither a version nor a channel of 'api'"
    ]
    # What is over is history, and needs nothing any more.
    over = BEFORE.advance([Change.put(replace(API_7, phase=Phase.DONE))], 8)
    assert plan_edits(over, [Change(Kind.RANGES, "10.2.0.0/16", None)]).edits
    assert plan_edits(over, [Change.put(split)]).edits


def test_single_edits_are_checked() -> None:
    assert faults([Change(Kind.POPS, "none", None)]) == ["pops.none: there is nothing to delete"]
    assert faults([Change.put(Override("none", Force.UP))]) == [
        "overrides.none: there is no instance 'none'"
    ]
    twin = Service("twin", "api.mesh.internal.", (Port("http", 80),))
    assert faults([Change.put(twin)]) == [
        "services.twin.name: api.mesh.internal. is the name of service 'api' already"
    ]
    lost = samples.instance("eu", 99)
    lost = replace(lost, service="none", pop="none")
    assert len(faults([Change.put(lost)])) == 2


def test_faults_that_were_there_before_are_nobodys() -> None:
    """A document must be appliable on top of a store that something else has damaged."""
    dangling = replace(samples.instance("eu", 77), service="gone", registered=True)
    damaged = BEFORE.advance([Change.put(dangling)], 8)
    assert plan_document(damaged, document([*HELD, Pop("sa")])).edits[0].name == "sa"


@pytest.mark.parametrize(
    ("gone", "unsafe"),
    [
        (["api-eu-1"], ""),
        ([f"api-eu-{n}" for n in (1, 2, 3, 4, 5, 11, 12, 13, 14)], ""),
        (
            [f"api-eu-{n}" for n in (1, 2, 3, 4, 5, 11, 12, 13, 14, 15)],
            "10 of 30 instances at once",
        ),
        (["old-1"], "its last 1 instances"),
        (["old", "old-1"], "service old would be deleted with 1 instances"),
    ],
)
def test_what_needs_force(gone: list[str], unsafe: str) -> None:
    reasons = planned(without(*gone)).unsafe
    assert len(reasons) == bool(unsafe)
    assert unsafe in "".join(reasons)


def test_emptying_a_kind_needs_force() -> None:
    plan = planned([], Kind.RANGES)
    assert plan.unsafe == ("all 5 ranges would be deleted",)


def forced(*said: tuple[str, Force], on: Snapshot = BEFORE) -> tuple[str, ...]:
    return plan_edits(on, [Change.put(Override(*each)) for each in said]).unsafe


@pytest.mark.parametrize("force", [Force.DOWN, Force.LEAVE, Force.DRAIN])
def test_overrides_that_take_out_too_much_need_force(force: Force) -> None:
    assert forced(("api-eu-1", force)) == ()
    # One of 30 is drained already; 9 more are the share that may go at once.
    assert forced(*((f"api-eu-{n}", force) for n in (1, 2, 3, 4, 5, 11, 12, 13, 14))) == ()
    assert forced(("api-eu-*", force)) == (
        "service api would lose 10 of 29 ready instances at once",
    )
    assert forced(("old-1", force)) == ("service old would have no ready instance left of 1",)
    assert len(forced(("*", force))) == 3


def test_what_was_announced_needs_force_once() -> None:
    """A drain lets an instance leave first: that was asked for, and its end is no news."""
    leaving = BEFORE.advance([Change.put(Override("api-eu-*", Force.LEAVE))], 8)
    assert forced(("api-eu-*", Force.DRAIN), on=leaving) == ()
    assert forced(("old-1", Force.DOWN), on=leaving) != ()


def test_forcing_up_is_safe_and_a_pattern_without_instances_is_not() -> None:
    assert forced(("api-*", Force.UP)) == ()
    for force in Force:
        assert forced(("nobody-*", force)) == ("no instance matches 'nobody-*' now",)
    plan = plan_edits(BEFORE, [Change(Kind.OVERRIDES, "api-us-3", None)])
    assert (plan.unsafe, [edit.action for edit in plan.edits]) == ((), ["delete"])


def test_an_override_is_written_again_for_its_time() -> None:
    plan = plan_edits(BEFORE, [Change.put(Override("api-us-3", Force.DRAIN))])
    assert [edit.name for edit in plan.edits] == ["api-us-3"]


def brute(before: Snapshot, after: Snapshot, prefix: Prefix) -> tuple[float, float]:
    """The share of all buckets of one Range whose set, and whose first, differ."""
    sets = firsts = 0
    for bucket in range(BUCKETS):
        was, becomes = (
            [
                r.member.instance.name
                for r in choose(
                    s.views["api"],
                    Spot(),
                    s.topology.ranges.family(prefix.version).policy(prefix.network),
                    bucket,
                ).chosen
            ]
            for s in (before, after)
        )
        sets += set(was) != set(becomes)
        firsts += was[:1] != becomes[:1]
    return sets / BUCKETS, firsts / BUCKETS


@pytest.mark.parametrize(
    "change",
    [
        Change(Kind.INSTANCES, "api-us-11", None),
        Change.put(replace(samples.instance("us", 12, "1.3.0"), capacity=4.0)),
        Change.put(Range(Prefix.parse("10.2.0.0/16"), "us", (("api", parse_selector("1.2")),))),
        Change.put(Range(Prefix.parse("10.2.0.0/16"), "ap")),
        Change.put(replace(samples.instance("us", 99), version=Version("1.4.0"))),
    ],
    ids=["removed", "heavier", "pinned", "moved", "new version"],
)
def test_moves_are_what_all_buckets_say(change: Change) -> None:
    plan = plan_edits(BEFORE, [change])
    after = BEFORE.advance([change], 8)
    ranges = [Prefix.parse(text) for text in ("10.2.0.0/16", "0.0.0.0/0")]
    shares = [brute(BEFORE, after, prefix) for prefix in ranges]
    wanted = [sum(column) / len(shares) for column in zip(*shares, strict=True)]
    move = next(m for m in plan.moves if (m.service, m.pop) == ("api", "us"))
    assert move.set_changes == pytest.approx(wanted[0], abs=1e-5)
    assert move.first_changes == pytest.approx(wanted[1], abs=1e-5)
    flows = [f.share for f in plan.flows if (f.service, f.pop) == ("api", "us")]
    assert sum(flows) == pytest.approx(int(move.first_changes > 0), abs=1e-5)


def test_nobody_moves_by_what_concerns_others() -> None:
    plan = plan_edits(BEFORE, [Change(Kind.INSTANCES, "api-ap-11", None)])
    assert {(move.service, move.pop) for move in plan.moves} == {("api", "ap")}
    assert planned([*HELD, Pop("sa")]).moves == ()


def test_new_services_move_nobody() -> None:
    new = Service("new", "new.mesh.internal.", (Port("http", 80),))
    plan = planned([*HELD, new])
    assert plan.moves == ()
    assert plan.notes == ("service new is new",)
