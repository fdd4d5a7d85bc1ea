"""Hypothesis strategies for small topologies, in which everything has a chance to meet."""

from ipaddress import IPv4Address, IPv6Address

from hypothesis import strategies as st

from meshd.core.model import (
    Address,
    Force,
    Instance,
    NameServer,
    Override,
    Pop,
    Port,
    Prefix,
    Range,
    Record,
    Service,
    Sticky,
    Ttl,
    Zone,
)
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
from meshd.core.resolve import Client
from meshd.core.selector import Version, parse_selector
from meshd.core.signals import Signal
from meshd.core.snapshot import Snapshot
from meshd.core.topology import Topology
from meshd.core.verdict import Verdict

POPS = ("eu", "us", "ap")
VERSIONS = ("1.2.0", "1.2.1", "1.3.0", "2.0.0-rc.1")
SELECTORS = ("latest", "1.2", "1.2.*", ">=1.2.1,<2", "beta", "{1.2.*: 70, 1.3: 30}", "9.9")
SERVICES = {
    "api": "api.mesh.internal.",
    "apex": "mesh.internal.",
    "wild": "*.apps.mesh.internal.",
    "deep": "a.b.mesh.internal.",
}

SIGNALS = (
    Signal(0.95),
    Signal(verdict=Verdict.DOWN),
    Signal(verdict=Verdict.DOWN, held=True),
    Signal(verdict=Verdict.FAILING, share=0.3, kept=0.5),
    Signal(success=0.05),
    Signal(success=0.0),
    Signal(verdict=Verdict.DOWN, success=0.0),
)

selectors = st.sampled_from(SELECTORS).map(parse_selector)


@st.composite
def prefixes(draw: st.DrawFn) -> Prefix:
    """Prefixes in a space so small that they nest and touch: 10.0.0.0/22 and 2001:db8::/118."""
    length = draw(st.sampled_from([0, 22, 23, 24, 25, 27, 30, 32]))
    value = draw(st.integers(0, 1023))
    if draw(st.integers(0, 3)) == 0:
        kept = length + 96 if length else 0
        whole = 0x20010DB8 << 96 | value
        return Prefix(6, whole >> 128 - kept << 128 - kept, kept)
    whole = 0x0A000000 | value
    return Prefix(4, whole >> 32 - length << 32 - length, length)


@st.composite
def ranges(draw: st.DrawFn) -> tuple[Range, ...]:
    found = {}
    for prefix in draw(st.lists(prefixes(), max_size=12)):
        chosen = draw(st.dictionaries(st.sampled_from(list(SERVICES)), selectors, max_size=2))
        found[prefix] = Range(prefix, draw(st.sampled_from(POPS)), tuple(chosen.items()))
    return tuple(found.values())


@st.composite
def services(draw: st.DrawFn, name: str) -> Service:
    return Service(
        name,
        SERVICES[name],
        (Port("http", 8080), Port("https", 8443)),
        draw(selectors),
        (("beta", parse_selector("2.0.0-rc.1")),),
        None,
        Ttl(5, 60),
        draw(st.integers(1, 4)),
        Sticky(draw(st.sampled_from([0, 24, 30, 32])), draw(st.sampled_from([0, 120, 128]))),
        draw(st.booleans()) or draw(st.booleans()),
        on_new=draw(st.sampled_from(OnNew)),
    )


@st.composite
def scopes(draw: st.DrawFn, held: tuple[Range, ...]) -> Scope:
    """All clients, or those of some Pops and of Ranges, most of which are there."""
    if draw(st.booleans()):
        return Scope()
    named = st.sampled_from([*(entry.name for entry in held), "10.0.3.0/24"])
    return Scope(
        tuple(draw(st.lists(st.sampled_from(POPS), unique=True, max_size=2))),
        tuple(draw(st.lists(named, unique=True, max_size=2))),
    )


@st.composite
def rollouts(draw: st.DrawFn, service: str, order: int, held: tuple[Range, ...]) -> Rollout:
    """One of the rollouts of a service, in any phase."""
    percents = draw(st.sampled_from([(1, 50, 100), (30, 100), (100,)]))
    return Rollout(
        f"{service}-{order}",
        service,
        Version(draw(st.sampled_from(VERSIONS))),
        Course(steps_of(percents, 60.0)),
        draw(scopes(held)),
        draw(st.sampled_from(Phase)),
        draw(st.integers(0, len(percents) - 1)),
        order=order,
    )


@st.composite
def experiments(draw: st.DrawFn, service: str, order: int, held: tuple[Range, ...]) -> Experiment:
    arms = draw(st.sampled_from([((100, "1.3"),), ((40, "1.2.*"), (40, "latest")), ((5, "beta"),)]))
    made = [
        ExperimentArm(f"arm-{place}", parse_selector(text), percent)
        for place, (percent, text) in enumerate(arms)
    ]
    return Experiment(f"exp-{service}-{order}", service, tuple(made), draw(scopes(held)), order)


@st.composite
def releases(draw: st.DrawFn, names: list[str], held: tuple[Range, ...]) -> list[Record]:
    """Rollouts and experiments of some services."""
    found: list[Record] = []
    for name in names:
        orders = draw(st.lists(st.integers(1, 6), unique=True, max_size=3))
        found += [draw(rollouts(name, order, held)) for order in orders]
        if draw(st.integers(0, 2)) == 0:
            orders = draw(st.lists(st.integers(1, 3), unique=True, max_size=2))
            found += [draw(experiments(name, order, held)) for order in orders]
    return found


@st.composite
def instances(draw: st.DrawFn, number: int) -> Instance:
    families = draw(st.sampled_from(["4", "6", "46"]))
    addresses: list[Address] = [IPv4Address(0xC0000200 + number)] if "4" in families else []
    if "6" in families:
        addresses.append(IPv6Address(0x20010DB8 << 96 | number))
    return Instance(
        f"i{number}",
        draw(st.sampled_from([*SERVICES, "gone"])),
        Version(draw(st.sampled_from(VERSIONS))),
        draw(st.sampled_from([*POPS, "gone"])),
        tuple(addresses),
        capacity=draw(st.sampled_from([0.5, 1.0, 4.0])),
    )


@st.composite
def records(draw: st.DrawFn) -> list[Record]:
    """A topology's records, in any order; instances may name what is not there."""
    server = NameServer("ns1.mesh.internal.", (IPv4Address("127.0.0.1"),))
    found: list[Record] = [Zone("mesh.internal.", (server,), "hostmaster@mesh.internal")]
    found += [Pop("eu", (53.3, -6.3), ("us",)), Pop("us", (39.0, -77.5)), Pop("ap")]
    held = draw(ranges())
    found += held
    names = draw(st.lists(st.sampled_from(list(SERVICES)), unique=True, min_size=1))
    found += [draw(services(name)) for name in names]
    found += draw(releases(names, held))
    count = draw(st.integers(0, 14))
    found += [draw(instances(number)) for number in range(count)]
    for number in range(count):
        if draw(st.integers(0, 3)) == 0:
            found.append(Override(f"i{number}", draw(st.sampled_from(list(Force)))))
    for pattern in draw(st.lists(st.sampled_from(["i*", "i1*", "i[2-5]", "x?"]), unique=True)):
        found.append(Override(pattern, draw(st.sampled_from(list(Force)))))
    return draw(st.permutations(found))


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    """A snapshot of any small topology, of some of whose instances something is known."""
    topology = Topology.load("x", 1, draw(records()))
    told = st.sampled_from([*topology.instances] or [""])
    return Snapshot.build(topology, draw(st.dictionaries(told, st.sampled_from(SIGNALS))))


@st.composite
def clients(draw: st.DrawFn) -> Client | None:
    """A client in or beside the space of the ranges."""
    if draw(st.integers(0, 9)) == 0:
        return None
    length = draw(st.sampled_from([22, 24, 25, 31, 32]))
    value = draw(st.integers(0, 1100))
    if draw(st.booleans()):
        return Client(4, (0x0A000000 | value) >> 32 - length << 32 - length, length)
    kept = length + 96
    return Client(6, (0x20010DB8 << 96 | value) >> 128 - kept << 128 - kept, kept)
