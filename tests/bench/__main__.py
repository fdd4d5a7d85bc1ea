"""`python -m tests.bench`: measure, print ratios with their targets, write them as JSON."""

import argparse
import contextlib
import json
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.bench import (
    change_bench,
    client_bench,
    core_bench,
    etcd_bench,
    fronts_bench,
    peers,
    registration_bench,
    report_bench,
    reporter_bench,
)
from tests.bench.fronts_bench import SOURCES
from tests.bench.load import Generator
from tests.bench.measure import Row, Target, compare
from tests.bench.workload import Workload
from tests.servers.install import find


def dns_rows(seconds: float, folder: Path) -> list[Row]:
    """CPU for each query: the DNS listener against gdnsd, the same packets."""
    if not find("gdnsd"):
        raise RuntimeError("skipped: gdnsd is not installed")
    load = Workload()
    generator = Generator(load.queries(), SOURCES)
    with contextlib.ExitStack() as stack:
        (folder / "gdnsd").mkdir()
        gdnsd = peers.Gdnsd(load, folder / "gdnsd")
        stack.callback(gdnsd.stop)
        gdnsd.start_ready()
        meshd = peers.start_meshd(load, folder)
        stack.callback(meshd.stop)
        targets = [
            Target("gdnsd", gdnsd.port, lambda: [gdnsd.pid]),
            Target("meshd", meshd.dns_port, lambda: meshd.answerer_pids),
        ]
        found = compare(generator, targets, seconds)
    ours, theirs = found["meshd"], found["gdnsd"]
    ratio = ours.cpu_us / theirs.cpu_us
    detail = (
        f"{ours.cpu_us:.1f} us against {theirs.cpu_us:.1f} us; "
        f"{ours.rate / 1000:.0f} k against {theirs.rate / 1000:.0f} k answers/s"
    )
    return [Row("DNS listener : gdnsd, CPU a query", ratio, "<= 1.6", ratio <= 1.6, detail)]


def powerdns_rows(seconds: float, folder: Path) -> list[Row]:
    """Queries a second of PowerDNS: meshd behind it, a constant in C behind it, LUA records."""
    if not find("pdns_server") or not find("cc"):
        raise RuntimeError("skipped: pdns-server, pdns-backend-remote or gcc is not installed")
    load = Workload(services=100, ranges=10_000, packets=8192)
    generator = Generator(load.queries(), SOURCES)
    with contextlib.ExitStack() as stack:
        meshd = peers.start_meshd(load, folder)
        stack.callback(meshd.stop)
        constant = peers.Constant(folder)
        stack.callback(constant.stop)
        constant.start_ready()
        targets = []
        for name, bridge in (("meshd", meshd.bridge), ("constant", constant.bridge)):
            server = peers.powerdns(folder / f"pdns-{name}", bridge)
            stack.callback(server.stop)
            targets.append(Target(name, server.port, partial(list, [server.pid])))
        lua = peers.powerdns_lua(load, folder / "pdns-lua")
        stack.callback(lua.stop)
        targets.append(Target("LUA", lua.port, lambda: [lua.pid]))
        found = compare(generator, targets, seconds)
    rates = {name: figures.rate for name, figures in found.items()}
    detail = ", ".join(f"{name} {rate / 1000:.1f} k/s" for name, rate in rates.items())
    against = rates["meshd"] / rates["constant"]
    return [
        Row("PowerDNS: meshd : constant in C", against, ">= 0.9", against >= 0.9, detail),
        Row("PowerDNS: meshd : LUA records", rates["meshd"] / rates["LUA"], "-", True, detail),
    ]


BENCHES: dict[str, Callable[[float, Path], list[Row]]] = {
    "dns": dns_rows,
    "powerdns": powerdns_rows,
    "unbound": fronts_bench.unbound_rows,
    "dnsdist": fronts_bench.dnsdist_rows,
    "ranges": lambda seconds, folder: core_bench.ranges_rows(),
    "rank": lambda seconds, folder: core_bench.rank_rows(),
    "change": lambda seconds, folder: change_bench.change_rows(folder),
    "registration": registration_bench.registration_rows,
    "reports": report_bench.report_rows,
    "reporter": lambda seconds, folder: reporter_bench.reporter_rows(),
    "client": client_bench.client_rows,
    "etcd": etcd_bench.etcd_rows,
    "scale": lambda seconds, folder: core_bench.scale_rows(),
}


def main() -> None:
    """Run the benchmarks; never fails for being slow."""
    parser = argparse.ArgumentParser(description="Ratios against peers measured in the same run.")
    parser.add_argument("--only", choices=BENCHES, help="one benchmark")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each round  [3]")
    parser.add_argument("--json", type=Path, default=Path("bench.json"), help="[bench.json]")
    arguments = parser.parse_args()
    console = Console()
    rows: list[Row] = []
    for name, bench in BENCHES.items():
        if arguments.only not in (None, name):
            continue
        with tempfile.TemporaryDirectory(prefix="meshd-bench-") as folder:
            console.print(f"measuring {name} ...", style="dim")
            try:
                rows += bench(arguments.seconds, Path(folder))
            except RuntimeError as error:
                console.print(f"{name}: {error}", markup=False)
    table = Table("what : against what", "ratio", "target", "", "figures of this machine, this run")
    for row in rows:
        met = "" if row.target == "-" else "met" if row.is_met else "missed"
        table.add_row(row.name, f"{row.ratio:.2f}", row.target, met, row.detail)
    console.print(table)
    arguments.json.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")


if __name__ == "__main__":
    main()
