"""What clients get of versions in motion: rules as text cases, shares and arms as properties."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path
from random import Random

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from meshd.core.explain import explain
from meshd.core.hashing import BUCKETS, permuted, seed
from meshd.core.model import (
    Instance,
    NameServer,
    Pop,
    Port,
    Prefix,
    Range,
    Record,
    Service,
    Ttl,
    Zone,
)
from meshd.core.motion import STILL, Motion, changes_answers, marked
from meshd.core.names import to_wire
from meshd.core.ranges import Policy
from meshd.core.release import (
    Course,
    Experiment,
    ExperimentArm,
    OnNew,
    Phase,
    Rollout,
    Scope,
    steps_of,
)
from meshd.core.resolve import Choice, Client, Spot, choose, locate, resolve
from meshd.core.selector import (
    LATEST,
    Arm,
    Channel,
    Exact,
    Selector,
    Split,
    Version,
    parse_selector,
    select,
)
from meshd.core.signals import Signal
from meshd.core.snapshot import Snapshot
from meshd.core.topology import Change, Kind, Topology
from meshd.core.verdict import Verdict
from tests.core.strategies import SERVICES, clients, snapshots

CASES = Path(__file__).parent / "cases" / "motion.txt"
NAME = "api.mesh.internal."
API = Service("api", NAME, (Port("http", 80),), ttl=Ttl(5, 60))
BASE: tuple[Record, ...] = (
    Zone("mesh.internal.", (NameServer("ns.example."),), "h@mesh.internal"),
    Pop("eu", (53.3, -6.3), ("us",)),
    Pop("us", (39.0, -77.5)),
    Range(Prefix.parse("10.1.0.0/16"), "eu"),
    Range(Prefix.parse("10.2.0.0/16"), "us"),
)


def listed(text: str) -> tuple[str, ...]:
    return tuple(text.split(",")) if text else ()


def scope_of(options: dict[str, str]) -> Scope:
    return Scope(listed(options.get("pops", "")), listed(options.get("ranges", "")))


def record_of(words: Sequence[str], number: int) -> Record:
    """`service SELECTOR`, `range PREFIX POP [SELECTOR]`, `rollout ID TO PHASE PERCENT`,
    `experiment NAME ARM=SELECTOR:PERCENT ...`, each with options, else `INSTANCE POP VERSION`.
    """
    given = [word for word in words if re.fullmatch(r"[a-z_]+=[^:]+", word)]
    options = dict(word.split("=", 1) for word in given)
    kind, name, *rest = [word for word in words if word not in given]
    order = int(options.get("order", number))
    if kind == "service":
        on_new = OnNew(options.get("on_new", "follow"))
        beta = (("beta", parse_selector(options.get("beta", "9"))),)
        return replace(API, selector=parse_selector(name), channels=beta, on_new=on_new)
    if kind == "range":
        selectors = tuple(("api", parse_selector(text)) for text in rest[1:])
        return Range(Prefix.parse(name), rest[0], selectors)
    if kind == "rollout":
        percents = (float(rest[2]), 100.0) if rest[2] != "100" else (100.0,)
        course = Course(steps_of(percents, float(options.get("every", 300))))
        to, phase = Version(rest[0]), Phase(rest[1])
        return Rollout(name, "api", to, course, scope_of(options), phase, order=order)
    if kind == "experiment":
        parts = [word.replace("=", ":").split(":") for word in rest]
        arms = [ExperimentArm(arm, parse_selector(what), float(p)) for arm, what, p in parts]
        return Experiment(name, "api", tuple(arms), scope_of(options), order)
    return Instance(kind, "api", Version(rest[0]), name, (IPv4Address(0xC0000200 + number),))


def snapshot_of(text: str) -> Snapshot:
    lines = [line.split() for line in text.splitlines()]
    down = {line[0] for line in lines if line[-1] == "down"}
    made = [record_of([w for w in line if w != "down"], n) for n, line in enumerate(lines, 1)]
    records = {(type(record), record.name): record for record in (*BASE, API, *made)}
    signals = {name: Signal(verdict=Verdict.DOWN) for name in down}
    return Snapshot.build(Topology.load("x", 1, records.values()), signals)


def told(snapshot: Snapshot, client: str, front: str = "") -> str:
    found = explain(snapshot, to_wire(front + NAME), Client.parse(client))
    choice = found.answer.choice
    assert choice is not None
    names = " ".join(
        f"{r.member.instance.name}/{r.tier}{'*' if r in choice.chosen else ''}"
        for r in choice.ranked
    )
    arm = f"{choice.arm}, from {found.selector_from}"
    lines = [f"{front}{client} /{found.answer.scope}: {names or 'nobody'}", arm]
    lines.append(f"TTL {choice.ttl.seconds}: {choice.ttl.reason}")
    lines += [
        f"{line.member.instance.name}: {line.excluded}" for line in found.lines if not line.place
    ]
    return "\n".join([*lines, *found.notes])


def cases() -> Iterator[tuple[str, str, str, str]]:
    for block in CASES.read_text().strip().split("\n\n"):
        title, _, rest = block.partition("\n")
        topology, _, expected = rest.partition("\n----\n")
        setup, *asked = topology.split("\nask ")
        yield title, setup, "\n".join(asked), expected


def answers(setup: str, asked: str) -> str:
    snapshot = snapshot_of(setup)
    return "\n".join(told(snapshot, *line.split()) for line in asked.splitlines())


@pytest.mark.parametrize(("title", "setup", "asked", "expected"), list(cases()))
def test_case(title: str, setup: str, asked: str, expected: str) -> None:
    assert answers(setup, asked) == expected


class Twin:
    """The rules in so many words, for one service and one client."""

    def __init__(self, snapshot: Snapshot, service: Service, client: Client, bucket: int) -> None:
        self.topology, self.view = snapshot.topology, snapshot.views[service.name]
        self.service, self.bucket = service, bucket
        self.pop: str | None = None
        self.own: Selector | None = None
        self.around: list[str] = []
        for entry in sorted(self.topology.ranges, key=lambda entry: entry.prefix.length):
            prefix = entry.prefix
            if prefix.version == client.version and prefix.network <= client.address <= prefix.last:
                self.pop, self.own = entry.pop, dict(entry.selectors).get(service.name, self.own)
                self.around.append(entry.name)
        line = [r for r in self.topology.rollouts.values() if r.service == service.name]
        self.line = sorted(line, key=lambda rollout: rollout.order)

    def is_inside(self, scope: Scope) -> bool:
        everybody = not scope.pops and not scope.ranges
        named = any(name in self.around for name in scope.ranges)
        return everybody or self.pop in scope.pops or named

    def position(self, what: str) -> float:
        return permuted(self.bucket, seed(what)) / BUCKETS * 100

    def hidden(self) -> set[Version]:
        found: set[Version] = set()
        for rollout in self.line:
            (found.discard if rollout.phase is Phase.DONE else found.add)(rollout.to)
        done = [rollout.to for rollout in self.line if rollout.phase is Phase.DONE]
        if self.service.on_new is not OnNew.FOLLOW and done:
            found |= {version for version in self.view.versions if version > max(done)}
        return found

    def of_experiments(self) -> Selector | None:
        held = [e for e in self.topology.experiments.values() if e.service == self.service.name]
        for experiment in sorted(held, key=lambda each: each.order):
            for count, arm in enumerate(experiment.arms, start=1):
                end = sum(each.percent for each in experiment.arms[:count])
                is_here = self.position(f"experiment:{experiment.name}") < end
                if self.is_inside(experiment.scope) and is_here:
                    return arm.selector
        return None

    def of_rollout(self) -> Selector | None:
        if not self.line or self.line[-1].phase not in (Phase.RUNNING, Phase.PAUSED):
            return None
        last = self.line[-1]
        if isinstance(self.own, Split):
            return None
        if self.own is not None and not select(self.own, [last.to], self.view.channels):
            return None
        share = last.course.steps[last.step].percent
        is_moved = self.position(f"rollout:{last.name}") < share
        return Exact(last.to) if self.is_inside(last.scope) and is_moved else None

    def first(self) -> set[Version]:
        """The versions of which the first tier must be."""
        arm = self.of_experiments() or self.of_rollout() or self.own or self.service.selector
        if isinstance(arm, Split):
            arm = arm.arm_at(permuted(self.bucket, self.view.salt))
        served, chosen = set(self.view.versions), set[Version]()
        if not isinstance(arm, Exact | Channel):
            chosen = set(select(arm, served - self.hidden(), self.view.channels))
        return self.standing_in(arm, chosen or set(select(arm, served, self.view.channels)))

    def standing_in(self, arm: Arm, chosen: set[Version]) -> set[Version]:
        """The chosen ones, or the one that takes over."""
        members = self.view.members
        ready = {m.instance.version for m in members if m.is_ready}
        usable = {m.instance.version for m in members if m.verdict is not Verdict.FORCED_DOWN}
        if chosen & ready or (chosen & usable and not ready):
            return chosen
        found = (ready or usable) - chosen
        releases = {version for version in found if version.is_release}
        aim = max(chosen) if chosen else aim_of(arm)
        for part in (releases - self.hidden(), releases & self.hidden(), found):
            lower = [version for version in part if version < aim]
            higher = [version for version in part if version >= aim]
            if lower or higher:
                return {max(lower) if lower else min(higher)}
        return set()


def aim_of(arm: Arm) -> Version:
    """Where the selectors of strategies.py look when they find nothing."""
    return Version({"1.2.*": "1.2", ">=1.2.1,<2": "1.2.1", "beta": "2.0.0-rc.1",
                    "latest": "999"}.get(str(arm), str(arm)))  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(snapshots(), st.sampled_from(list(SERVICES)), clients())
def test_versions_are_those_of_a_dumb_twin(
    snapshot: Snapshot, service: str, client: Client | None
) -> None:
    assume(client is not None and service in snapshot.views)
    assert client is not None
    answer = resolve(snapshot, to_wire(SERVICES[service].replace("*", "x")), client)
    assert answer.choice is not None
    assert answer.locus is not None
    found = snapshot.topology.services[service]
    wanted = Twin(snapshot, found, client, answer.locus.bucket).first()
    versions = {ranked.member.instance.version for ranked in answer.choice.first}
    assert versions <= wanted
    assert bool(versions) == bool(wanted)
    behind = {r.member.instance.version for r in answer.choice.ranked} - wanted
    hidden = {Version(text) for text in snapshot.views[service].hidden}
    assert not behind & hidden
    assert all(version.is_release for version in behind)


def fleet(*more: Record) -> Snapshot:
    """Twenty instances of 1.2 and of 1.3 each, in two pops."""
    made = [
        Instance(f"i{n}", "api", Version(f"1.{2 + n % 2}"), ("eu", "us")[n // 2 % 2],
                 (IPv4Address(0xC0000200 + n),))
        for n in range(40)
    ]  # fmt: skip
    return Snapshot.build(Topology.load("x", 1, [*BASE, API, *made, *more]))


def crowd() -> list[Client]:
    """20,000 addresses of one range, and as many networks outside."""
    random = Random(7)
    known = [Client(4, 0x0A010000 + at, 32) for at in random.sample(range(1 << 16), 20_000)]
    others = random.sample(range(0x0B0000, 1 << 24), 20_000)
    return known + [Client(4, net << 8, 24) for net in others]


def choices(snapshot: Snapshot, asking: Iterable[Client]) -> Iterator[Choice]:
    """What each client gets, remembered as answerers do: by policy and bucket."""
    view, found = snapshot.views["api"], dict[tuple[int, int], Choice]()
    for client in asking:
        locus = locate(snapshot, view, client)
        key = view.policy_key(locus.policy), locus.bucket
        if key not in found:
            found[key] = choose(view, Spot(), locus.policy, locus.bucket)
        yield found[key]


def moved_to(snapshot: Snapshot, asking: Sequence[Client]) -> set[Client]:
    """The clients that get 1.3 only; all others get 1.2 only."""
    found = set()
    for client, choice in zip(asking, choices(snapshot, asking), strict=True):
        (version,) = {ranked.member.instance.version.text for ranked in choice.chosen}
        assert version in ("1.2", "1.3")
        found |= {client} if version == "1.3" else set()
    return found


@pytest.mark.parametrize("scope", [Scope(), Scope(("eu",)), Scope((), ("10.1.0.0/16",))], ids=str)
def test_shares_are_as_said_and_nobody_goes_back(scope: Scope) -> None:
    """20,000 client prefixes, at each step, over snapshots that follow one another."""
    percents = (1, 5, 25, 50, 100)
    rollout = Rollout("api-7", "api", Version("1.3"), Course(steps_of(percents, 300)), scope)
    asking = crowd()
    eligible = asking if scope.is_all else asking[:20_000]
    snapshot, moved = fleet(replace(rollout, phase=Phase.HELD)), set[Client]()
    assert not moved_to(snapshot, asking)
    for step, percent in enumerate(percents):
        snapshot = snapshot.advance([Change.put(replace(rollout, step=step))], 2 + step)
        now = moved_to(snapshot, asking)
        assert moved <= now <= set(eligible)
        assert abs(len(now) / len(eligible) * 100 - percent) < 1
        moved = now
    snapshot = snapshot.advance([Change.put(replace(rollout, phase=Phase.ROLLED_BACK))], 9)
    assert not moved_to(snapshot, asking)


def arms(snapshot: Snapshot, asking: Iterable[Client]) -> list[str]:
    return [choice.draw.arm for choice in choices(snapshot, asking)]


def test_arms_are_as_large_as_said_and_do_not_move() -> None:
    """Whatever else begins, and whichever versions come and go."""
    a, b = ExperimentArm("a", parse_selector("1.2"), 30), ExperimentArm("b", LATEST, 20)
    cart = Experiment("cart", "api", (a, b))
    asking = crowd()
    snapshot = fleet(cart)
    before = arms(snapshot, asking)
    shares = Counter(before)
    for arm, percent in (("a", 30), ("b", 20), ("", 50)):
        assert abs(shares[arm] / len(asking) * 100 - percent) < 1
    later = replace(cart, name="later", arms=(replace(a, name="c"), replace(b, name="d")), order=2)
    snapshot = snapshot.advance([Change.put(later)], 2)
    after = arms(snapshot, asking)
    assert all(was == arm for was, arm in zip(before, after, strict=True) if was)
    # Who is left is divided by the second one as if there were no first.
    left = Counter(arm for was, arm in zip(before, after, strict=True) if not was)
    assert abs(left["c"] / left.total() * 100 - 30) < 5
    rollout = Rollout("api-7", "api", Version("1.3"), phase=Phase.RUNNING, order=4)
    elsewhere = Rollout("old-1", "old", Version("7"), phase=Phase.RUNNING)
    snapshot = snapshot.advance([Change.put(rollout), Change.put(elsewhere)], 3)
    assert arms(snapshot, asking) == after
    gone = [Change(Kind.INSTANCES, f"i{n}", None) for n in range(0, 20, 2)]
    assert arms(snapshot.advance(gone, 4), asking) == after


def test_equal_motions_are_equal_answers() -> None:
    """What is noted for people, and how long it stood, is not in a motion."""
    rollout = Rollout("api-7", "api", Version("1.3"), scope=Scope((), ("10.1.0.0/16",)))
    motion = Motion.of(OnNew.HOLD, [rollout], [])
    noted = replace(rollout, held_s=7.0, reason="why", figures=("a",), author="me",
                    began_unix_s=1.0, changed_unix_s=2.0)  # fmt: skip
    assert Motion.of(OnNew.HOLD, [noted], []) == motion
    assert not changes_answers(rollout, noted)
    for other in (
        replace(rollout, step=1),
        replace(rollout, phase=Phase.DONE),
        replace(rollout, phase=Phase.HELD),
        replace(rollout, scope=Scope()),
        replace(rollout, to=Version("1.4")),
        replace(rollout, name="api-8"),
        replace(rollout, course=Course(steps_of((1, 100), 7))),
    ):
        assert changes_answers(rollout, other)
        assert Motion.of(OnNew.HOLD, [other], []) != motion
    assert changes_answers(None, rollout)
    assert Motion.of(OnNew.HOLD, [], []) == STILL


def test_ranges_are_named_as_they_are_written_or_not_at_all() -> None:
    """What is no prefix names nobody, and not everybody."""
    odd = Rollout("api-7", "api", Version("1.3"), scope=Scope((), ("2001:DB8::/32", "nowhere")))
    assert marked([odd], []) == {Prefix.parse("2001:db8::/32")}
    motion = Motion.of(OnNew.FOLLOW, [odd], [])
    assert motion.marks == {"2001:db8::/32", "nowhere"}
    assert not motion.draw(Policy("eu", {}), 0, None, {}).rollout
    inside = Policy("eu", {}, frozenset({"2001:db8::/32"}))
    assert motion.draw(inside, 0, None, {}).rollout == "api-7"
    assert marked([replace(odd, phase=Phase.HELD)], []) == set()


def rewrite() -> None:
    """`python -m tests.core.test_motion` writes the cases anew: look at the difference."""
    blocks = []
    for title, setup, asked, _ in cases():
        questions = "".join(f"\nask {line}" for line in asked.splitlines())
        blocks.append(f"{title}\n{setup}{questions}\n----\n{answers(setup, asked)}")
    CASES.write_text("\n\n".join(blocks) + "\n")


if __name__ == "__main__":
    rewrite()
