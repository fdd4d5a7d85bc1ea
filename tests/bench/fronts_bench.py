"""Unbound and dnsdist with meshd, against themselves with a constant, a cache or a spoof."""

import contextlib
from pathlib import Path

from tests.bench import peers
from tests.bench.load import Generator
from tests.bench.measure import Figures, Row, Target, compare
from tests.bench.workload import ZONE, Workload
from tests.servers.fronts import Dnsdist, Front, Unbound, unbound_module, unbound_subnetcache
from tests.servers.install import find
from tests.servers.processes import Server, wait_until

SOURCES = ("127.0.0.1", "127.0.1.1", "127.0.2.1", "127.0.3.1")

# The module, its question to meshd replaced by a constant: what python in Unbound costs.
_ASKS = "found = _mesh.ask(request)"
_SAYS = f"""there = name[:3].lower() == "svc"
    rows = [f"{{name}} 60 IN A 172.16.0.{{n}}" for n in (1, 2, 3, 4)]
    soa = "{ZONE}. 5 IN SOA ns1.{ZONE}. h.{ZONE}. 1 3600 600 86400 5"
    has = there and question.qtype == 1
    found = {{"rcode": 0 if there else 3, "scope": 24, "answer": rows if has else [],
             "authority": [] if has else [soa], "additional": []}}"""


def _ready(front: Front) -> Front:
    front.start_ready()
    wait_until(f"{front.name} answers", lambda: peers.answers(front.port))
    return front


def _target(name: str, front: Front, *behind: Server) -> Target:
    return Target(name, front.port, lambda: [front.pid, *(each.pid for each in behind)])


def _row(found: dict[str, Figures], ours: str, theirs: str, least: float | None = None) -> Row:
    one, other = found[ours], found[theirs]
    ratio = one.rate / other.rate
    detail = ", ".join(
        f"{name} {figures.rate / 1000:.1f} k/s at {figures.cpu_us:.0f} us"
        for name, figures in ((ours, one), (theirs, other))
    )
    wanted = "-" if least is None else f">= {least}"
    return Row(f"{ours} : {theirs}", ratio, wanted, least is None or ratio >= least, detail)


def unbound_rows(seconds: float, folder: Path) -> list[Row]:
    """Queries a second of Unbound; the CPU is Unbound's and that of what it asks."""
    if not find("unbound") or not find("cc"):
        raise RuntimeError("skipped: unbound, python3-unbound or gcc is not installed")
    load = Workload(services=100, ranges=1000, packets=8192)
    generator = Generator(load.queries(), SOURCES)
    with contextlib.ExitStack() as stack:
        meshd = peers.start_meshd(load, folder)
        stack.callback(meshd.stop)
        constant = peers.Constant(folder)
        stack.callback(constant.stop)
        constant.start_ready()
        here = {name: folder / name for name in ("a", "b", "c", "d", "e")}
        for each in here.values():
            each.mkdir()
        fronts = {
            "Unbound: module": unbound_module(here["a"], meshd.bridge),
            "constant through the same socket": unbound_module(here["b"], constant.bridge),
            "module without socket": unbound_module(
                here["c"], meshd.bridge, changes={_ASKS: _SAYS}
            ),
            "Unbound: subnetcache": unbound_subnetcache(here["d"], meshd.dns_port),
            "local-data": _local_data(load, here["e"]),
        }
        for front in fronts.values():
            stack.callback(front.stop)
            _ready(front)
        targets = [
            Target("Unbound: module", fronts["Unbound: module"].port,
                   lambda: [fronts["Unbound: module"].pid, *meshd.answerer_pids]),
            _target("constant through the same socket",
                    fronts["constant through the same socket"], constant),
            _target("module without socket", fronts["module without socket"]),
            Target("Unbound: subnetcache", fronts["Unbound: subnetcache"].port,
                   lambda: [fronts["Unbound: subnetcache"].pid, *meshd.answerer_pids]),
            _target("local-data", fronts["local-data"]),
        ]  # fmt: skip
        found = compare(generator, targets, seconds)
    return [
        _row(found, "Unbound: module", "constant through the same socket", 0.8),
        _row(found, "Unbound: module", "module without socket"),
        _row(found, "Unbound: module", "local-data"),
        _row(found, "Unbound: subnetcache", "local-data"),
        _row(found, "Unbound: subnetcache", "Unbound: module"),
    ]


def _local_data(load: Workload, folder: Path) -> Unbound:
    """Unbound that holds the names itself, alike for all clients."""
    lines = [
        f'    local-zone: "{ZONE}." static',
        f'    local-data: "{ZONE}. 5 SOA ns1 h 1 2 3 4 5"',
    ]
    lines += [
        f'    local-data: "svc{service}.{ZONE}. 60 A {load.instance(service, "eu", n)}"'
        for service in range(load.services)
        for n in range(4)
    ]
    return Unbound(folder, "", "\n".join(lines))


def dnsdist_rows(seconds: float, folder: Path) -> list[Row]:
    """Queries a second of dnsdist for names that are there, no client subnets.

    The mix with names that are not there comes after: those are forwarded, never in the table.
    """
    if not find("dnsdist"):
        raise RuntimeError("skipped: dnsdist is not installed")
    load = Workload(services=100, ranges=1000, packets=8192, kinds=(78, 22, 0), ecs=0)
    mixed = Workload(services=100, ranges=1000, packets=8192, ecs=0)
    only_a = Workload(services=100, ranges=1000, packets=8192, kinds=(100, 0, 0), ecs=0)
    with contextlib.ExitStack() as stack:
        meshd = peers.start_meshd(load, folder)
        stack.callback(meshd.stop)
        backend = f'newServer{{address="127.0.0.1:{meshd.dns_port}", pool="cached"}}'
        # By the names, as meshd.lua does.
        cached = f"""
{backend}
getPool("cached"):setCache(newPacketCache(100000))
addAction({{"{ZONE}"}}, PoolAction("cached"))
"""
        spoof = """
local held = {newCA("172.16.0.1"), newCA("172.16.0.2"), newCA("172.16.0.3"), newCA("172.16.0.4")}
addAction({"mesh.internal"}, LuaAction(function(dq)
  dq:spoof(held)
  return DNSAction.HeaderModify
end))
"""
        fronts: dict[str, Front] = {}
        for name, (table, before) in {
            "dnsdist: table": (meshd.table, ""),
            "dnsdist: forward": (None, ""),
            "its packet cache": (None, cached),
            "a Lua spoof": (None, spoof),
        }.items():
            here = folder / name.replace(" ", "-").replace(":", "")
            here.mkdir()
            fronts[name] = Dnsdist(here, meshd.dns_port, table, before)
            stack.callback(fronts[name].stop)
            _ready(fronts[name])

        def target(name: str) -> Target:
            front = fronts[name]
            return Target(name, front.port, lambda: [front.pid, *meshd.answerer_pids])

        ours = [target(name) for name in ("dnsdist: table", "dnsdist: forward", "its packet cache")]
        found = compare(Generator(load.queries(), SOURCES), ours, seconds)
        spoofed = [target("dnsdist: table"), target("a Lua spoof")]
        of_a = compare(Generator(only_a.queries(), SOURCES), spoofed, seconds)
        with_missing = compare(Generator(mixed.queries(), SOURCES), [ours[0], ours[2]], seconds)
    rows = [
        _row(found, "dnsdist: table", "its packet cache", 0.9),
        _row(found, "dnsdist: forward", "its packet cache"),
        _row(of_a, "dnsdist: table", "a Lua spoof"),
    ]
    mix = _row(with_missing, "dnsdist: table", "its packet cache")
    return [*rows, Row(f"{mix.name}, 10 % NXDOMAIN", mix.ratio, "-", True, mix.detail)]
