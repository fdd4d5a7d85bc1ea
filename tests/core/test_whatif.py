"""What a change does to clients, against a twin that asks for every one of them."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from ipaddress import IPv4Address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshd.core import whatif
from meshd.core.hashing import BUCKETS
from meshd.core.model import Instance, Pop, Port, Prefix, Range, Record, Service
from meshd.core.names import to_wire
from meshd.core.resolve import Client, Spot, Status, choose, resolve
from meshd.core.selector import Version, parse_selector
from meshd.core.snapshot import Snapshot
from meshd.core.topology import Change, Kind, Topology
from meshd.core.whatif import Effect, Flow, WeightedClient, effect, flows
from tests import samples
from tests.core.strategies import SERVICES, clients, records

BEFORE = samples.snapshot()

# What one client is answered, before and after: its Pop, the sets; and how much it counts.
Asked = tuple[str, Sequence[Instance], Sequence[Instance], float]


def after(*changes: Change, on: Snapshot = BEFORE) -> Snapshot:
    return on.advance(changes, on.topology.revision + 1)


def told(asked: Iterable[Asked], service: str) -> Effect:
    """Moves and flows of one service, counted one client after the other."""
    total: Counter[str] = Counter()
    sets: Counter[str] = Counter()
    firsts: Counter[str] = Counter()
    versions: Counter[tuple[str, str, str]] = Counter()
    for pop, was, becomes, weight in asked:
        total[pop] += weight  # type: ignore[assignment]
        names, then = [i.name for i in was], [i.name for i in becomes]
        old, new = ([i.version.text for i in each] or [""] for each in (was, becomes))
        sets[pop] += weight * (set(names) != set(then))  # type: ignore[assignment]
        moved = names[:1] != then[:1] or old[0] != new[0]
        firsts[pop] += weight * moved  # type: ignore[assignment]
        versions[pop, old[0], new[0]] += weight  # type: ignore[assignment]
    return Effect(
        tuple(
            whatif.Move(service, pop, sets[pop] / total[pop], firsts[pop] / total[pop])
            for pop in total
            if sets[pop] or firsts[pop]
        ),
        tuple(
            Flow(service, pop, old, new, weight / total[pop])
            for (pop, old, new), weight in versions.items()
            if firsts[pop]
        ),
    )


def close(found: Effect, wanted: Sequence[Effect]) -> None:
    """Equal but for rounding."""
    moves = {(m.service, m.pop): (m.set_changes, m.first_changes) for m in found.moves}
    assert moves == {
        (m.service, m.pop): pytest.approx((m.set_changes, m.first_changes), abs=1e-5)
        for each in wanted
        for m in each.moves
    }
    shares = {(f.service, f.pop, f.from_version, f.to_version): f.share for f in found.flows}
    assert shares == {
        (f.service, f.pop, f.from_version, f.to_version): pytest.approx(f.share, abs=1e-5)
        for each in wanted
        for f in each.flows
    }
    summed: Counter[tuple[str, str]] = Counter()
    for flow in found.flows:
        summed[flow.service, flow.pop] += flow.share  # type: ignore[assignment]
    assert all(share == pytest.approx(1, abs=1e-4) for share in summed.values())


def pop_of(before: Snapshot, later: Snapshot, client: Client) -> str:
    was, becomes = (
        snapshot.topology.ranges.family(client.version).policy(client.address).pop
        for snapshot in (before, later)
    )
    return was or becomes or ""


def answered(snapshot: Snapshot, service: str, client: Client) -> Sequence[Instance]:
    name = to_wire(SERVICES[service].replace("*", "x"))
    answer = resolve(snapshot, name, client)
    if answer.choice is None or answer.status is Status.NOT_READY:
        return ()
    return [ranked.member.instance for ranked in answer.choice.chosen]


def made(held: Sequence[Record], revision: int) -> Snapshot:
    return Snapshot.build(Topology.load("x", revision, held))


@settings(max_examples=80, deadline=None)
@given(
    records(),
    records(),
    st.lists(st.tuples(clients(), st.sampled_from([0.5, 1.0, 3.0])), min_size=1, max_size=40),
)
def test_given_clients_are_each_resolved(
    first: list[Record], then: list[Record], asked: list[tuple[Client | None, float]]
) -> None:
    old, new = made(first, 1), made(then, 2)
    crowd = [WeightedClient(client, weight) for client, weight in asked if client is not None]
    wanted = [
        told(
            [
                (
                    pop_of(old, new, client),
                    answered(old, name, client),
                    answered(new, name, client),
                    weight,
                )
                for client, weight in crowd
            ],
            name,
        )
        for name in old.views
        if name in new.views and crowd
    ]
    if crowd:
        close(effect(old, new, crowd), wanted)


def own_address(prefix: Prefix, others: Iterable[Prefix]) -> int | None:
    """An address that no other prefix inside holds: the network's, or one behind an inner one."""
    inner = [
        o
        for o in others
        if o != prefix and prefix.network <= o.network and o.last <= prefix.last
        and o.version == prefix.version
    ]  # fmt: skip
    for address in [prefix.network, *(o.last + 1 for o in inner)]:
        if address <= prefix.last and not any(o.network <= address <= o.last for o in inner):
            return address
    return None


@settings(max_examples=12, deadline=None)
@given(records(), records())
def test_ranges_stand_for_clients_in_all_buckets(first: list[Record], then: list[Record]) -> None:
    old, new = made(first, 1), made(then, 2)
    prefixes = {entry.prefix for each in (old, new) for entry in each.topology.ranges}
    places = [(p, own_address(p, prefixes)) for p in prefixes]
    hosts = [Client(p.version, at, p.bits) for p, at in places if at is not None]
    hosts = hosts or [Client(4, int(IPv4Address("203.0.113.1")), 32)]

    def asked(service: str) -> Iterable[Asked]:
        for client in hosts:
            for bucket in range(BUCKETS):
                sets = []
                for each in (old, new):
                    view = each.views[service]
                    policy = each.topology.ranges.family(client.version).policy(client.address)
                    choice = choose(view, Spot(), policy, bucket)
                    shut = choice.ladder.all_down and not view.service.fail_open
                    sets.append([] if shut else [r.member.instance for r in choice.chosen])
                yield pop_of(old, new, client), sets[0], sets[1], 1.0

    wanted = [told(asked(name), name) for name in old.views if name in new.views]
    close(effect(old, new), wanted)


def test_who_gains_is_told() -> None:
    new = replace(samples.instance("us", 99), version=Version("1.4.0"))
    found = flows(BEFORE, after(Change.put(new)))
    # `latest` moves at once; who is pinned stays, and so is not told.
    assert {(f.pop, f.from_version, f.to_version, f.share) for f in found} == {
        ("us", "1.3.0", "1.4.0", 1.0),
        ("ap", "1.3.0", "1.4.0", 1.0),
    }
    (gained,) = next(f for f in found if f.pop == "us").instances
    assert (gained.instance, gained.before, gained.after) == ("api-us-99", 0.0, 1.0)


def test_a_split_moves_its_share() -> None:
    pinned = Range(Prefix.parse("10.1.0.0/16"), "eu", (("api", parse_selector("1.2:99 1.3:1")),))
    found = flows(BEFORE, after(Change.put(pinned)))
    # Of two Ranges in eu one moves 1 % (10 of 1,024 buckets) of its clients.
    goes, *stay = found
    assert (goes.from_version, goes.to_version) == ("1.2.0", "1.3.0")
    assert goes.share == pytest.approx(10 / 1024 / 2, abs=1e-6)
    assert sum(f.share for f in stay) == pytest.approx(1 - goes.share, abs=1e-5)
    gained = sum(each.after - each.before for each in goes.instances)
    assert gained == pytest.approx(goes.share, abs=1e-5)


def test_weights_count() -> None:
    crowd = [
        WeightedClient(Client(4, int(IPv4Address("10.2.0.1")), 32), 3.0),
        WeightedClient(Client(4, int(IPv4Address("10.2.0.2")), 32), 1.0),
    ]
    where = {name: answered(BEFORE, "api", client)[0].name for name, (client, _) in
             zip("ab", crowd, strict=True)}  # fmt: skip
    assert where["a"] != where["b"]
    newer = replace(BEFORE.topology.instances[where["a"]], version=Version("1.3.1"))
    found = effect(BEFORE, after(Change.put(newer)), crowd)
    assert found.notes == ("shares are of the 2 clients given, by their weights",)
    shares = {(f.from_version, f.to_version): f.share for f in found.flows}
    assert shares == {("1.3.0", "1.3.1"): 1.0}
    gone = effect(BEFORE, after(Change(Kind.INSTANCES, where["a"], None)), crowd)
    (flow,) = gone.flows
    lost = {each.instance: each.before for each in flow.instances}
    assert lost[where["a"]] == 0.75
    assert gone.moves[0].first_changes == 0.75


def test_what_does_not_change_is_not_told() -> None:
    assert effect(BEFORE, BEFORE) == Effect()
    other = Range(Prefix.parse("10.9.0.0/16"), "us", (("old", parse_selector("1.0")),))
    assert effect(BEFORE, after(Change.put(other))) == Effect()
    assert effect(BEFORE, after(Change.put(Pop("sa")))) == Effect()


def test_without_ranges_all_clients_are_alike() -> None:
    bare = [record for record in samples.RECORDS if not isinstance(record, Range)]
    old = made(bare, 1)
    new = replace(samples.instance("us", 99), version=Version("1.4.0"))
    found = flows(old, after(Change.put(new), on=old))
    assert [(f.pop, f.to_version, f.share) for f in found] == [("", "1.4.0", 1.0)]


def test_sampling_is_told_and_close(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the bounds shares are of some ranges, buckets and services only, and the notes say so."""
    ranges = [Range(Prefix(4, n << 16, 16), "us" if n % 3 else "eu") for n in range(90)]
    many = [Service(f"s{n}", f"s{n}.mesh.internal.", (Port("http", 80),)) for n in range(9)]
    twins = [replace(samples.instance("us", n), name=f"s{m}-{n}", service=f"s{m}")
             for m in range(9) for n in range(1, 7)]  # fmt: skip
    held = [r for r in samples.RECORDS if not isinstance(r, Range | Instance | Service)]
    old = made([*held, *ranges, *many, *twins], 1)
    new = old.advance([Change.put(replace(twin, version=Version("2.0"))) for twin in twins[::2]], 2)
    exact = effect(old, new)
    assert exact.notes == ()
    monkeypatch.setattr(whatif, "MOST_RANGES", 30)
    monkeypatch.setattr(whatif, "MOST_SERVICES", 4)
    monkeypatch.setattr(whatif, "_RANKINGS", 4 * 4 * 128)
    coarse = effect(old, new)
    assert coarse.notes == (
        "moves are shown for 4 of 9 services",
        "shares are of 30 of 90 ranges, evenly spread",
        "shares of s0, s1, s2 and 1 more are of 128 of 1024 buckets of clients",
    )
    fine = {(m.service, m.pop): m for m in exact.moves}
    for move in coarse.moves:
        wanted = fine[move.service, move.pop]
        assert move.first_changes == pytest.approx(wanted.first_changes, abs=0.18)
