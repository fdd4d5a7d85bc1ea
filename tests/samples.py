"""A small topology that many tests share."""

from ipaddress import ip_address, ip_network

from meshd.answerer.trust import Trusted
from meshd.core.model import (
    Check,
    Expected,
    Force,
    Instance,
    NameServer,
    Override,
    Pop,
    Port,
    Prefix,
    Presence,
    Range,
    Record,
    Service,
    Sticky,
    Ttl,
    Zone,
)
from meshd.core.release import Course, Experiment, ExperimentArm, Rollout, Scope, steps_of
from meshd.core.selector import Version, parse_selector
from meshd.core.snapshot import Snapshot
from meshd.core.topology import Topology

# Who is believed: what runs here, or nobody.
LOCAL = Trusted([ip_network("127.0.0.0/8"), ip_network("::1/128")])
NOBODY = Trusted([])

POPS = {"eu": 1, "us": 2, "ap": 3}


def instance(pop: str, number: int, version: str = "1.2.0") -> Instance:
    """`api-eu-1` at 10.1.0.1 and 2001:db8:1::1."""
    net = POPS[pop]
    addresses = (ip_address(f"10.{net}.0.{number}"), ip_address(f"2001:db8:{net}::{number:x}"))
    return Instance(f"api-{pop}-{number}", "api", Version(version), pop, addresses)


RECORDS: tuple[Record, ...] = (
    Zone(
        "mesh.internal.",
        (NameServer("ns1.mesh.internal.", (ip_address("127.0.0.1"),)),),
        "hostmaster@mesh.internal",
    ),
    Pop("eu", (53.3, -6.3), ("us",)),
    Pop("us", (39.0, -77.5)),
    Pop("ap", (1.3, 103.8)),
    Range(Prefix.parse("10.1.0.0/16"), "eu", (("api", parse_selector("1.2")),)),
    Range(Prefix.parse("10.1.7.0/24"), "eu", (("api", parse_selector("{1.2: 95, 1.3: 5}")),)),
    Range(Prefix.parse("10.2.0.0/16"), "us"),
    Range(Prefix.parse("2001:db8::/32"), "ap"),
    Range(Prefix.parse("0.0.0.0/0"), "us"),
    Service(
        "api",
        "api.mesh.internal.",
        (Port("http", 8080), Port("https", 8443)),
        parse_selector("latest"),
        (("beta", parse_selector("1.3")),),
        Check("http", "/healthz", port="http", host="api.example", expected=Expected(body="ok")),
        Ttl(5, 60),
        4,
        Sticky(32, 64),
    ),
    Service("old", "old.deep.mesh.internal.", (Port("http", 80),)),
    Service("wild", "*.apps.mesh.internal.", (Port("http", 80),)),
    Instance("old-1", "old", Version("1.0"), "eu", (ip_address("192.0.2.1"),)),
    Instance(
        "wild-1",
        "wild",
        Version("1.0"),
        "us",
        (ip_address("192.0.2.2"),),
        (("http", 8081),),
        2.0,
        ("blue",),
        registered=True,
    ),
    Presence("wild-1", 3),
    Override("api-us-3", Force.DRAIN),
    *(instance(pop, number) for pop in POPS for number in range(1, 6)),
    *(instance(pop, number, "1.3.0") for pop in POPS for number in range(11, 16)),
)


# Half of the clients of two ranges get 1.2 again; a tenth of a pop is in an arm.
ROLLOUT = Rollout(
    "api-7",
    "api",
    Version("1.2.0"),
    Course(steps_of((50, 100), 300.0)),
    Scope((), ("10.2.0.0/16", "2001:db8::/32")),
)
EXPERIMENT = Experiment(
    "cart",
    "api",
    (
        ExperimentArm("a", parse_selector("1.2"), 5),
        ExperimentArm("b", parse_selector("beta"), 5),
    ),
    Scope(("ap",)),
)


def topology() -> Topology:
    """The sample topology at revision 7."""
    return Topology.load("sample", 7, RECORDS)


def snapshot() -> Snapshot:
    """The sample snapshot."""
    return Snapshot.build(topology())


def in_motion() -> Snapshot:
    """The sample with a rollout and an experiment."""
    return Snapshot.build(Topology.load("sample", 7, (*RECORDS, ROLLOUT, EXPERIMENT)))
