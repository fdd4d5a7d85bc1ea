"""Resolvers of other people in front of meshd's DNS listener, each told of its zones only."""

from collections.abc import Callable
from pathlib import Path

from tests.servers.fronts import ZONES, Front
from tests.servers.processes import free_port

_BIND = """
options {{
    directory "{folder}"; pid-file none; session-keyfile none;
    listen-on port {port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }};
    recursion yes; dnssec-validation no; empty-zones-enable no;
    rrset-order {{ order none; }};
}};
controls {{ }};
{zones}
"""
_RECURSOR = """
local-address=127.0.0.1
local-port={port}
socket-dir={folder}
dnssec=off
security-poll-suffix=
threads=2
forward-zones={zones}
# For regression tests only, as its manual says: addresses come shuffled all the same.
no-shuffle=yes
# The client's whole address goes along, also for clients on loopback.
edns-subnet-allow-list={names}
ecs-add-for=0.0.0.0/0, ::/0
ecs-ipv4-bits=32
ecs-ipv4-cache-bits=32
use-incoming-edns-subnet=yes
"""
_KNOT = """
net.listen("127.0.0.1", {port})
cache.size = 10 * MB
trust_anchors.remove(".")
local names = policy.todnames({{{names}}})
policy.add(policy.suffix(policy.STUB("127.0.0.1@{server}"), names))
"""


def bind(folder: Path, server: int) -> Front:
    """BIND: knows one client, itself."""
    port = free_port()
    zones = "\n".join(
        f'zone "{zone}" {{ type forward; forward only; '
        f"forwarders {{ 127.0.0.1 port {server}; }}; }};"
        for zone in ZONES
    )
    config = folder / "named.conf"
    config.write_text(_BIND.format(folder=folder, port=port, zones=zones))
    return Front("bind", ["named", "-g", "-c", config], folder, port)


def recursor(folder: Path, server: int) -> Front:
    """PowerDNS Recursor: tells the client's subnet."""
    port = free_port()
    zones = ",".join(f"{zone}=127.0.0.1:{server}" for zone in ZONES)
    text = _RECURSOR.format(folder=folder, port=port, zones=zones, names=",".join(ZONES))
    (folder / "recursor.conf").write_text(text)
    command = ["pdns_recursor", f"--config-dir={folder}", "--daemon=no", "--disable-syslog"]
    return Front("recursor", command, folder, port)


def knot(folder: Path, server: int) -> Front:
    """Knot Resolver: knows one client, itself."""
    port = free_port()
    names = ", ".join(f'"{zone}."' for zone in ZONES)
    config = folder / "kresd.conf"
    config.write_text(_KNOT.format(port=port, server=server, names=names))
    return Front("knot", ["kresd", "-n", "-c", config, folder], folder, port)


def dnsmasq(folder: Path, server: int) -> Front:
    """dnsmasq: tells the client's subnet, and keeps nothing of such answers."""
    port = free_port()
    command: list[str | Path] = [
        "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--no-hosts", "--no-resolv",
        "--user=root", "--pid-file=", "--listen-address=127.0.0.1", "--bind-interfaces",
        f"--port={port}", "--add-subnet=32,128",
        *(f"--server=/{zone}/127.0.0.1#{server}" for zone in ZONES),
    ]  # fmt: skip
    return Front("dnsmasq", command, folder, port)


RESOLVERS: dict[str, tuple[str, Callable[[Path, int], Front]]] = {
    "bind": ("named", bind),
    "recursor": ("pdns_recursor", recursor),
    "knot": ("kresd", knot),
    "dnsmasq": ("dnsmasq", dnsmasq),
}
