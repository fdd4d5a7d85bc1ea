"""What is asked: many names in random case, many clients, EDNS, ECS, cookies, as in the field."""

import random
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

import dns.edns
import dns.message

POPS = ("eu", "us", "ap")
ZONE = "mesh.internal"
INSTANCES_A_POP = 4


@dataclass(frozen=True)
class Workload:
    """How large: services, client ranges (each a /24), packets; the same for every server."""

    services: int = 1000
    ranges: int = 100_000
    packets: int = 20_000
    # Of 100 queries: A, AAAA, and those for names that are not there.
    kinds: tuple[int, int, int] = (70, 20, 10)
    # Share of queries with a client subnet.
    ecs: float = 0.6

    def prefix(self, number: int) -> IPv4Address:
        """The network address of a range: 10.0.0.0/24, 10.0.1.0/24, ..."""
        return IPv4Address((10 << 24) + (number << 8))

    def pop(self, number: int) -> str:
        """The Pop of a range."""
        return POPS[number * 7 % 3]

    def instance(self, service: int, pop: str, number: int) -> IPv4Address:
        """The address of an instance."""
        place = POPS.index(pop) * INSTANCES_A_POP + number
        return IPv4Address((172 << 24) + (16 << 16) + service * 16 + place)

    def queries(self) -> list[bytes]:
        """Packets in a fixed mix."""
        draw = random.Random(1)
        return [self._query(draw, number) for number in range(self.packets)]

    def _query(self, draw: random.Random, number: int) -> bytes:
        kind = draw.choices(("A", "AAAA", "none"), self.kinds)[0]
        name = f"svc{draw.randrange(self.services)}.{ZONE}"
        if kind == "none":
            name = f"no{draw.randrange(100_000)}.{ZONE}"
        cased = "".join(c.upper() if draw.random() < 0.5 else c for c in name)
        options: list[dns.edns.Option] = []
        if draw.random() < self.ecs:
            length = draw.choice((24, 32))
            host = draw.randrange(1, 255) if length == 32 else 0
            client = self.prefix(draw.randrange(self.ranges)) + host
            options.append(dns.edns.ECSOption(str(client), length))
        if draw.random() < 0.4:
            cookie = draw.randbytes(8)
            options.append(dns.edns.GenericOption(dns.edns.OptionType.COOKIE, cookie))
        wanted = "A" if kind == "none" else kind
        query = dns.message.make_query(cased, wanted, use_edns=0, payload=1232, options=options)
        query.id = number & 0xFFFF
        return query.to_wire()


def document(load: Workload) -> str:
    """The topology document of a workload."""
    lines = ["zones:", f"  {ZONE}: {{ns: [{{ns1.{ZONE}: [127.0.0.1]}}], contact: h@{ZONE}}}"]
    lines += ["pops:", *(f"  {pop}: {{}}" for pop in POPS), "ranges:", "  0.0.0.0/0: us"]
    lines += [f"  {load.prefix(n)}/24: {load.pop(n)}" for n in range(load.ranges)]
    lines.append("services:")
    lines += [
        f"  svc{n}: {{name: svc{n}.{ZONE}, ports: {{http: 80}}}}" for n in range(load.services)
    ]
    lines.append("instances:")
    for service in range(load.services):
        for pop in POPS:
            for number in range(INSTANCES_A_POP):
                address = load.instance(service, pop, number)
                name = f"i{service}-{pop}-{number}"
                head = f"service: svc{service}, version: 1.0, pop: {pop}"
                lines.append(f"  {name}: {{{head}, address: {address}}}")
    return "\n".join(lines) + "\n"


def write_gdnsd(load: Workload, folder: Path, port: int) -> None:
    """The same as a gdnsd configuration: geoip maps from nets, addresses by data centre."""
    (folder / "zones").mkdir()
    resources = []
    for service in range(load.services):
        centres = " ".join(
            f"{pop} => ["
            + ", ".join(str(load.instance(service, pop, n)) for n in range(INSTANCES_A_POP))
            + "]"
            for pop in POPS
        )
        resources.append(
            f"svc{service} => {{ map => m, service_types => up, dcmap => {{ {centres} }} }}"
        )
    nets = [f"{load.prefix(n)}/24 => [ {_first(load.pop(n))} ]" for n in range(load.ranges)]
    (folder / "geoip").mkdir()
    (folder / "geoip" / "nets").write_text("\n".join(nets))
    (folder / "config").write_text(
        f"options => {{ listen => {{ 127.0.0.1:{port} => {{ udp_threads = 1 tcp_threads = 1 }} }}\n"
        f"  run_dir => {folder}/run state_dir => {folder}/state }}\n"
        f"plugins => {{ geoip => {{ maps => {{ m => {{ datacenters => [ us, eu, ap ],"
        f" nets => nets }} }}\n resources => {{\n" + "\n".join(resources) + "\n} } }\n"
    )
    records = [f"svc{n} 60 DYNA geoip!svc{n}" for n in range(load.services)]
    soa = f"@ SOA ns1.{ZONE}. h.{ZONE}. (1 3600 600 86400 5)"
    zone = [soa, f"@ NS ns1.{ZONE}.", "ns1 A 127.0.0.1", *records]
    (folder / "zones" / ZONE).write_text("\n".join(zone) + "\n")


def _first(pop: str) -> str:
    return ", ".join([pop, *(other for other in POPS if other != pop)])
