"""A snapshot that was advanced is the one that would be built; what did not change is shared."""

from dataclasses import replace
from ipaddress import ip_address
from itertools import chain
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from meshd.core.model import Force, Instance, Override, Pop, Presence, Record
from meshd.core.names import to_wire
from meshd.core.release import Experiment, ExperimentArm, OnNew, Phase, Rollout, Scope
from meshd.core.resolve import Client, resolve
from meshd.core.rrsets import additional_of, rrsets_of
from meshd.core.selector import LATEST, Version
from meshd.core.signals import Signal
from meshd.core.snapshot import Snapshot
from meshd.core.topology import Change, Kind, Topology, kind_of
from meshd.core.verdict import Verdict
from tests import samples
from tests.core.strategies import SERVICES, SIGNALS, clients, records

ASKED = [to_wire(name.replace("*", "x")) for name in SERVICES.values()]


def said(snapshot: Snapshot, client: Client | None) -> list[str]:
    found = []
    for name in ASKED:
        answer = resolve(snapshot, name, client)
        found.append(f"{answer.status} {answer.scope} {rrsets_of(snapshot, answer, name)}")
    return found


signals = st.dictionaries(
    st.integers(0, 13).map(lambda n: f"i{n}"),
    st.sampled_from([None, Signal(0.5), Signal(0.95, Verdict.FAILING), Signal(0, Verdict.DOWN)]),
    max_size=3,
)


@settings(max_examples=60)
@given(records(), st.lists(st.tuples(records(), signals), max_size=3), clients())
def test_advance_equals_build(
    first: list[Record],
    steps: list[tuple[list[Record], dict[str, Signal | None]]],
    client: Client | None,
) -> None:
    snapshot = Snapshot.build(Topology.load("x", 1, first))
    held = {(kind_of(record), record.name): record for record in first}
    known: dict[str, Signal] = {}
    for number, (then, news) in enumerate(steps, start=2):
        wanted = {(kind_of(record), record.name): record for record in then}
        changes = [Change(*key, None) for key in held if key not in wanted]
        changes += [Change.put(r) for key, r in wanted.items() if held.get(key) != r]
        snapshot = snapshot.advance(changes, number, news)
        held = wanted
        known = {**known, **{name: s for name, s in news.items() if s is not None}}
        known = {name: s for name, s in known.items() if news.get(name, s) is not None}
        built = Snapshot.build(Topology.load("x", number, then), known)
        assert said(snapshot, client) == said(built, client)
        assert snapshot.topology.revision == number


@settings(max_examples=60)
@given(st.lists(records(), min_size=2, max_size=4), clients())
def test_several_revisions_at_once_equal_the_last(
    steps: list[list[Record]], client: Client | None
) -> None:
    """Records that come, change and go within one swap leave what the last revision holds."""
    snapshot = Snapshot.build(Topology.load("x", 1, steps[0]))
    changes: list[Change] = []
    held = {(kind_of(record), record.name): record for record in steps[0]}
    for then in steps[1:]:
        wanted = {(kind_of(record), record.name): record for record in then}
        changes += [Change(*key, None) for key in held if key not in wanted]
        changes += [Change.put(r) for key, r in wanted.items() if held.get(key) != r]
        held = wanted
    snapshot = snapshot.advance(changes, 2)
    built = Snapshot.build(Topology.load("x", 2, steps[-1]))
    assert said(snapshot, client) == said(built, client)
    full = [{k: v for k, v in each.rosters.items() if v} for each in (snapshot, built)]
    assert full[0] == full[1]


FRONTS = ("", "_http._tcp.", "eu.pop.", "1-2.version.", "i7.instance.")


def crowd(random: Random, number: int) -> Instance:
    """One of many instances of one service."""
    pop, version = random.choice(("eu", "eu", "us")), random.choice(("1.2.0", "1.2.0", "1.3.0"))
    addresses = (ip_address(f"10.9.0.{number}"), ip_address(f"2001:db8::{number:x}"))
    shown = addresses[: random.choice((1, 2, 2))]
    return Instance(f"i{number}", "api", Version(version), pop, shown)


def some_changes(random: Random) -> list[Change]:
    """Instances that come, change or go, and now and then something wider."""
    found = []
    for _ in range(random.choice((0, 1, 3, 20))):
        one = crowd(random, random.randrange(1, 160))
        is_gone = random.random() < 0.2
        found.append(Change(Kind.INSTANCES, one.name, None) if is_gone else Change.put(one))
    if random.random() < 0.2:
        pattern = random.choice(("i1*", "i?", "*"))
        found.append(Change.put(Override(pattern, random.choice(list(Force)))))
        found.append(Change(Kind.OVERRIDES, random.choice(("i1*", "i?", "*")), None))
    if random.random() < 0.2:
        found.append(Change.put(Pop("eu", (53.3, -6.3), (random.choice(("us", "ap")),))))
    return found


def all_said(snapshot: Snapshot) -> list[str]:
    """What many clients get at the names of one service."""
    found = []
    for at in (0x0A010001, 0x0A010002, 0x0A010701, 0x0A020001, 0x0A020002, 0x7F000001):
        for front in FRONTS:
            name = to_wire(front + "api.mesh.internal.")
            answer = resolve(snapshot, name, Client(4, at, 32))
            rrsets = rrsets_of(snapshot, answer, name)
            added = additional_of(answer, rrsets)
            ranked = answer.choice and [
                (r.member.instance.name, r.tier, r.cost) for r in answer.choice.ranked
            ]
            found.append(f"{front} {answer.status} {answer.scope} {rrsets} {added} {ranked}")
    return found


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32).map(Random))
def test_a_large_service_that_changes_is_as_if_built(random: Random) -> None:
    """Asked between its changes, so that memories are carried over; also two that follow one."""
    first = [record for record in samples.RECORDS if getattr(record, "service", "") != "api"]
    first += [crowd(random, number) for number in range(1, 150)]
    line = [Snapshot.build(Topology.load("x", 1, first))]
    for revision in range(2, 7):
        before = random.choice((line[-1], line[-1], random.choice(line)))
        news = {
            f"i{random.randrange(1, 160)}": random.choice((None, *SIGNALS))
            for _ in range(random.choice((0, 1, 5, 30)))
        }
        line.append(before.advance(some_changes(random), revision, news))
        if random.random() < 0.3:
            continue
        for snapshot in {id(each): each for each in (line[-1], before)}.values():
            records = chain.from_iterable(snapshot.topology.records(kind) for kind in Kind)
            topology = Topology.load("x", snapshot.topology.revision, records)
            assert all_said(snapshot) == all_said(Snapshot.build(topology, snapshot.signals))


def test_views_of_other_services_stay() -> None:
    before = samples.snapshot()
    change = Change(Kind.INSTANCES, "api-eu-1", None)
    after = before.advance([change], 8)
    assert after.views["api"] is not before.views["api"]
    assert after.views["old"] is before.views["old"]
    assert after.directory is before.directory
    quiet = after.advance(signals={"old-1": Signal(0.5)})
    assert quiet.views["api"] is after.views["api"]
    assert quiet.views["old"] is not after.views["old"]
    assert before.topology.instances.keys() - after.topology.instances.keys() == {"api-eu-1"}


def test_what_a_rollout_notes_renews_nothing() -> None:
    """It is written down every few seconds; what is remembered of answers must outlive it."""
    rollout = Rollout("api-7", "api", Version("1.3"), scope=Scope((), ("10.1.7.0/24",)))
    before = samples.snapshot().advance([Change.put(rollout)], 8)
    before.views["api"].replies["slot"] = {1: "reply"}
    noted = replace(rollout, held_s=5.0, reason="gates hold", figures=("99.9 %",),
                    changed_unix_s=7.0, began_unix_s=1.0, author="ci")  # fmt: skip
    after = before.advance([Change.put(noted)], 9)
    assert after.topology.rollouts["api-7"] == noted
    assert after.views is before.views
    assert after.topology.ranges is before.topology.ranges
    assert after.views["api"].replies == {"slot": {1: "reply"}}
    # Several at once, of which the last one counts.
    there_and_back = [Change.put(replace(noted, step=1)), Change.put(replace(noted, held_s=9.0))]
    assert after.advance(there_and_back, 10).views is before.views
    for change in (
        Change.put(replace(noted, step=1)),
        Change.put(replace(noted, phase=Phase.PAUSED, step=2)),
        Change.put(replace(noted, phase=Phase.ROLLED_BACK)),
        Change(Kind.ROLLOUTS, "api-7", None),
        Change.put(Experiment("cart", "api", (ExperimentArm("a", LATEST, 5),))),
    ):
        moved = after.advance([change], 10)
        assert moved.views["api"] is not before.views["api"]
        assert moved.views["old"] is before.views["old"]
    paused = after.advance([Change.put(replace(noted, phase=Phase.PAUSED))], 10)
    assert paused.views is before.views, "its share stays as it is"


def test_policies_are_told_apart_by_the_marks_that_a_service_uses() -> None:
    """Replies are remembered by it: clients of one pop, in and out of a rollout's range."""
    snapshot = samples.in_motion()
    table = snapshot.topology.ranges.v4
    inside, outside = table.policy(0x0A020005), table.policy(0xC0000205)
    assert inside.pop == outside.pop == "us"
    assert inside.marks == {"10.2.0.0/16"}
    api, old = snapshot.views["api"], snapshot.views["old"]
    assert api.policy_key(inside) != api.policy_key(outside)
    assert old.policy_key(inside) == old.policy_key(outside)


def test_motions_of_services_that_come_and_change() -> None:
    """A rollout that is there before its service; a policy that hides what it did not."""
    done = Rollout("api-1", "api", Version("1.2"), phase=Phase.DONE)
    early = Rollout("new-1", "new", Version("1.2"), phase=Phase.HELD)
    before = samples.snapshot().advance([Change.put(done), Change.put(early)], 8)
    assert not before.views["api"].hidden
    api = replace(before.topology.services["api"], on_new=OnNew.HOLD)
    new = replace(api, name="new", dns="new.mesh.internal.")
    after = before.advance([Change.put(api), Change.put(new)], 9)
    assert after.views["api"].hidden == {"1.3.0": "held back: 1.3.0 is not rolled out yet"}
    assert after.views["new"].motion.held == {Version("1.2")}
    gone = after.advance([Change(Kind.SERVICES, "new", None)], 10)
    assert "new" not in gone.views
    assert gone.advance([Change(Kind.ROLLOUTS, "new-1", None)], 11).views is gone.views


def test_presence_and_overrides_make_verdicts() -> None:
    snapshot = samples.snapshot()
    wild = snapshot.topology.instances["wild-1"]
    assert snapshot.verdict(wild) is Verdict.UP
    gone = snapshot.advance([Change(Kind.PRESENCE, "wild-1", None)], 8)
    assert gone.verdict(wild) is Verdict.DOWN
    forced = gone.advance([Change.put(Override("wild-1", Force.UP))], 9)
    assert forced.verdict(wild) is Verdict.FORCED_UP
    back = forced.advance(
        [Change.put(Presence("wild-1", 4)), Change(Kind.OVERRIDES, "wild-1", None)], 10
    )
    assert back.verdict(wild) is Verdict.UP


def test_a_pattern_touches_the_services_that_it_matches() -> None:
    before = samples.snapshot()
    put = before.advance([Change.put(Override("*-1", Force.DOWN))], 8)
    touched = {name for name in before.views if put.views[name] is not before.views[name]}
    assert touched == {"api", "old", "wild"}
    narrow = before.advance([Change.put(Override("[ow]*-1", Force.DOWN))], 8)
    assert narrow.views["api"] is before.views["api"]
    assert narrow.verdict(narrow.topology.instances["old-1"]) is Verdict.FORCED_DOWN
    gone = narrow.advance([Change(Kind.OVERRIDES, "[ow]*-1", None)], 9)
    assert gone.views["api"] is before.views["api"]
    assert gone.verdict(gone.topology.instances["old-1"]) is Verdict.UP
    garbage = before.advance([Change(Kind.OVERRIDES, "NO NAME", None)], 8)
    assert garbage.views is before.views


def test_members_that_a_pattern_leaves_alone_stay() -> None:
    before = samples.snapshot()
    after = before.advance([Change.put(Override("api-eu-*", Force.DRAIN))], 8)
    was = {member.instance.name: member for member in before.views["api"].members}
    for member in after.views["api"].members:
        is_eu = member.instance.pop == "eu"
        assert (member is was[member.instance.name]) != is_eu
        assert (member.verdict is Verdict.DRAINING) == (is_eu or member.instance.name == "api-us-3")


def test_another_fallback_is_another_order() -> None:
    before = samples.snapshot()
    down = {f"api-eu-{n}": Signal(0, Verdict.DOWN) for n in (1, 2, 3, 4, 5, 11, 12, 13, 14, 15)}
    before = before.advance(signals=down)
    after = before.advance([Change.put(Pop("eu", (53.3, -6.3), ("ap",)))], 8)
    name, client = to_wire("api.mesh.internal."), Client.parse("10.1.0.9")
    pops = []
    for snapshot in (before, after):
        choice = resolve(snapshot, name, client).choice
        assert choice is not None
        pops.append({ranked.member.instance.pop for ranked in choice.chosen})
    assert pops == [{"us"}, {"ap"}]
