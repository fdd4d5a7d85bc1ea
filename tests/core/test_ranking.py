"""Who is answered, in which order: rules as text cases, shares and disruption as properties."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from ipaddress import IPv4Address
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshd.core.hashing import BUCKETS, rendezvous_cost
from meshd.core.model import Force, Instance, NameServer, Override, Pop, Port, Record, Service, Zone
from meshd.core.ranges import Policy
from meshd.core.ranking import Leaders, Member
from meshd.core.resolve import Choice, Spot, choose
from meshd.core.selector import Version, parse_selector
from meshd.core.signals import Signal
from meshd.core.snapshot import Snapshot
from meshd.core.topology import Topology
from meshd.core.verdict import Verdict

CASES = Path(__file__).parent / "cases" / "ranking.txt"
BASE: tuple[Record, ...] = (
    Zone("mesh.internal.", (NameServer("ns.example."),), "h@mesh.internal"),
    Pop("eu", (53.3, -6.3), ("us",)),
    Pop("us", (39.0, -77.5)),
    Pop("ap", (1.3, 103.8)),
)


def snapshot_of(text: str) -> Snapshot:
    """`name pop version [capacity=2] [load=.9] [share=.5] [kept=.8] [success=.5] [held]`, one of
    `down`, `failing`, `forced-down`, `drain`, `leave`, `forced-up`.
    """
    records: list[Record] = [*BASE]
    signals: dict[str, Signal] = {}
    selector = "latest"
    for number, line in enumerate(text.splitlines()):
        words = line.split()
        if words[0] == "service":
            selector = words[1]
            continue
        options = dict(word.split("=") for word in words[3:] if "=" in word)
        flags = [word for word in words[3:] if "=" not in word]
        address = IPv4Address(0xC0000200 + number)
        capacity = float(options.get("capacity", 1))
        version = Version(words[2])
        records.append(Instance(words[0], "api", version, words[1], (address,), (), capacity))
        verdict = Verdict(flags[0]) if flags and flags[0] in ("down", "failing") else Verdict.UP
        share, kept = float(options.get("share", 1)), float(options.get("kept", 1))
        load = float(options.get("load", 0))
        success = float(options.get("success", 1))
        signals[words[0]] = Signal(load, verdict, share, kept, "held" in flags, success)
        forces = {
            "forced-down": Force.DOWN,
            "drain": Force.DRAIN,
            "leave": Force.LEAVE,
            "forced-up": Force.UP,
        }
        records += [Override(words[0], forces[flag]) for flag in flags if flag in forces]
    service = Service("api", "api.mesh.internal.", (Port("http", 80),), parse_selector(selector))
    return Snapshot.build(Topology.load("x", 1, [*records, service]), signals)


def chosen(snapshot: Snapshot, pop: str | None, bucket: int, selector: str = "") -> Choice:
    own = {"api": parse_selector(selector)} if selector else {}
    return choose(snapshot.views["api"], Spot(), Policy(pop, own), bucket)


def told(choice: Choice) -> str:
    names = " ".join(
        f"{r.member.instance.name}/{r.tier}{'*' if r in choice.chosen else ''}"
        for r in choice.ranked
    )
    lines = [names or "nobody", f"TTL {choice.ttl.seconds}: {choice.ttl.reason}"]
    return "\n".join([*lines, *([choice.ladder.note] if choice.ladder.note else [])])


def cases() -> Iterator[tuple[str, str, str, str]]:
    for block in CASES.read_text().strip().split("\n\n"):
        title, _, rest = block.partition("\n")
        topology, _, expected = rest.partition("\n----\n")
        setup, _, question = topology.rpartition("\nask ")
        yield title, setup, question, expected


def answer(setup: str, question: str) -> str:
    pop, bucket, *selector = question.split(maxsplit=2)
    place = None if pop == "nowhere" else pop
    return told(chosen(snapshot_of(setup), place, int(bucket), *selector))


@pytest.mark.parametrize(("title", "setup", "question", "expected"), list(cases()))
def test_case(title: str, setup: str, question: str, expected: str) -> None:
    assert answer(setup, question) == expected


def rewrite() -> None:
    """`python -m tests.core.test_ranking` writes the cases anew: look at the difference."""
    blocks = [
        f"{title}\n{setup}\nask {question}\n----\n{answer(setup, question)}"
        for title, setup, question, _ in cases()
    ]
    CASES.write_text("\n\n".join(blocks) + "\n")


EIGHT = "\n".join(f"i{n} eu 1.0 capacity={c}" for n, c in enumerate((1, 1, 1, 1, 2, 2, 4, 0.5)))


def firsts(snapshot: Snapshot, pop: str | None = "eu") -> list[str]:
    """The first instance of each bucket."""
    found = (chosen(snapshot, pop, bucket).chosen for bucket in range(BUCKETS))
    return [entry[0].member.instance.name for entry in found]


def test_first_places_follow_capacity() -> None:
    counts = Counter(firsts(snapshot_of(EIGHT)))
    for number, capacity in enumerate((1, 1, 1, 1, 2, 2, 4, 0.5)):
        share = capacity / 12.5
        assert abs(counts[f"i{number}"] - BUCKETS * share) < 4 * (BUCKETS * share) ** 0.5


def test_a_loaded_instance_loses_clients_in_proportion() -> None:
    """What its load makes of its share (test_balance.py) is what it gets of the clients."""
    for share in (0.05, 0.25, 0.5, 2.0):
        counts = Counter(
            firsts(snapshot_of(EIGHT.replace("i6 eu 1.0", f"i6 eu 1.0 share={share}")))
        )
        part = 4 * share / (8.5 + 4 * share)
        assert abs(counts["i6"] - BUCKETS * part) < 4 * (BUCKETS * part) ** 0.5
        assert all(counts[f"i{n}"] for n in (0, 1, 2, 3, 4, 5, 7))


def test_what_clients_see_fail_counts_by_the_square() -> None:
    for success in (0.1, 0.5, 0.8):
        counts = Counter(
            firsts(snapshot_of(EIGHT.replace("i6 eu 1.0", f"i6 eu 1.0 success={success}")))
        )
        part = 4 * success**2 / (8.5 + 4 * success**2)
        assert abs(counts["i6"] - BUCKETS * part) < 4 * (BUCKETS * part) ** 0.5


def test_who_loses_clients_gets_none_from_others() -> None:
    before = firsts(snapshot_of(EIGHT))
    after = firsts(snapshot_of(EIGHT.replace("i6 eu 1.0", "i6 eu 1.0 share=.5")))
    moved = [(was, becomes) for was, becomes in zip(before, after, strict=True) if was != becomes]
    assert {was for was, _ in moved} == {"i6"}


def test_one_change_moves_only_who_must_move() -> None:
    before, after = firsts(snapshot_of(EIGHT)), firsts(snapshot_of(EIGHT + "\nnew eu 1.0"))
    moved = [(was, becomes) for was, becomes in zip(before, after, strict=True) if was != becomes]
    assert {becomes for _, becomes in moved} == {"new"}
    assert len(moved) < BUCKETS * 0.12
    gone = firsts(snapshot_of(EIGHT.replace("i6 eu 1.0", "i6 eu 1.0 down") + "\nnew eu 1.0"))
    stayed = [n for n, (a, b) in enumerate(zip(after, gone, strict=True)) if a not in ("i6", b)]
    assert stayed == []


FOUR_AND_TWO = "a eu 1.0\nb eu 1.0\nc eu 1.0{c}\nd eu 1.0{d}\ne us 1.0\nf us 1.0"


@pytest.mark.parametrize(
    ("c", "d", "share"),
    [
        ("", "", 1.0),
        (" down", "", 1.0),
        (" down", " down", 0.7),
        (" down held", " down held", 0.7),
        ("", " kept=.6", 0.6),
        (" down", " down kept=.6", 0.7),
        (" down kept=.5", " down", 0.7),
        (" kept=.5", " down", 0.5),
        (" success=0", " success=0", 0.7),
        (" success=.05", " success=.05", 1.0),
    ],
)
def test_spill(c: str, d: str, share: float) -> None:
    """Half of the capacity gone, held back or ejected: 1.4 x 0.5 of the clients stay; of a full Pop
    the part that it keeps. Whole buckets, always the same.
    """
    snapshot = snapshot_of(FOUR_AND_TWO.format(c=c, d=d))
    tiers = [chosen(snapshot, "eu", b).chosen[0].member.instance.pop for b in range(BUCKETS)]
    assert tiers.count("eu") == round(share * BUCKETS)
    assert set(tiers) <= {"eu", "us"}
    again = snapshot_of(FOUR_AND_TWO.format(c=c, d=d))
    assert tiers == [chosen(again, "eu", b).chosen[0].member.instance.pop for b in range(BUCKETS)]


def test_a_split_gives_its_shares() -> None:
    text = "\n".join(f"i{n} eu {'1.2' if n < 5 else '1.3'}" for n in range(8))
    snapshot = snapshot_of(text)
    versions = [
        str(chosen(snapshot, "eu", b, "{1.2: 90, 1.3: 10}").chosen[0].member.instance.version)
        for b in range(BUCKETS)
    ]
    assert abs(versions.count("1.3") - BUCKETS * 0.1) <= 1


def drawn(random: Random, number: int) -> Member:
    """Some member of that number: of any weight, held back, ejected, or nothing of it."""
    instance = Instance(f"i{number}", "s", Version("1.0"), "eu", (IPv4Address(1 + number),))
    share = random.choice((0.05, 0.5, 1.0, 2.0))
    success = random.choice((1.0, 1.0, 1.0, 0.5, 0.0))
    signal = Signal(share=share, held=random.random() < 0.1, success=success)
    return Member.of(instance, Verdict.UP, signal)


def sorted_whole(members: Iterable[Member], bucket: int) -> list[Member]:
    """What `Leaders` must find, without any memory."""

    def place(member: Member) -> tuple[int, int, str]:
        cost = rendezvous_cost(bucket, member.seed, member.weight)
        return member.is_ejected + member.is_last_resort, cost, member.instance.name

    return sorted(members, key=place)


def changed(random: Random, members: Sequence[Member], times: int) -> list[Member]:
    """Members of which some went, came or changed: most of them among the first of a bucket."""
    found = {member.instance.name: member for member in members}
    for _ in range(times):
        number = random.randrange(140)
        if found and random.random() < 0.8:
            first = sorted_whole(found.values(), random.randrange(2))[:14]
            number = int(random.choice(first).instance.name[1:])
        found[f"i{number}"] = drawn(random, number)
        if random.random() < 0.4:
            del found[f"i{number}"]
    return list(found.values())


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 2**32).map(Random), st.sampled_from((5, 47, 60, 130)))
def test_leaders_are_the_first_of_all(random: Random, count: int) -> None:
    """Whatever changed since they were remembered, and whether or not they were asked between."""
    leaders = Leaders([drawn(random, number) for number in range(count)])
    for _ in range(12):
        before = leaders
        # Two that follow one: only the first finds its memories.
        leaders = Leaders(changed(random, before.members, random.choice((0, 1, 3, 12))), before)
        other = Leaders(changed(random, before.members, 1), before)
        for at in random.choices((before, leaders, leaders, other), k=random.choice((0, 0, 1, 4))):
            bucket = random.randrange(2)
            found = [ranked.member for ranked in at.first(bucket, 4, 0)]
            assert found == sorted_whole(at.members, bucket)[:4]


def test_what_leaders_remember_is_bounded() -> None:
    """By twice as many buckets as members; one that follows takes it, if not too many changed."""
    random = Random(1)
    members = [drawn(random, number) for number in range(100)]
    leaders = Leaders(members)
    for bucket in range(300):
        leaders.first(bucket, 4, 0)
    assert repr(leaders) == "<Leaders: 100 members, 200 buckets remembered>"
    after = Leaders([*members[:50], drawn(random, 50), *members[51:]], leaders)
    assert repr(leaders) == "<Leaders: 100 members, 0 buckets remembered>"
    assert repr(after) == "<Leaders: 100 members, 200 buckets remembered>"
    others = Leaders([drawn(random, number) for number in range(100)], after)
    assert repr(others) == "<Leaders: 100 members, 0 buckets remembered>"
    few = Leaders(members[:40])
    few.first(0, 4, 0)
    assert repr(few) == "<Leaders: 40 members, 0 buckets remembered>"


def test_same_input_same_answer() -> None:
    """Whatever the order in which records came."""
    forward, backward = EIGHT, "\n".join(reversed(EIGHT.splitlines()))
    assert firsts(snapshot_of(forward)) == firsts(snapshot_of(backward))


if __name__ == "__main__":
    rewrite()
