"""Where probes may not go: a check must not make meshd knock where its author could not.

An instance may stand nearly anywhere, but whoever writes a topology, or registers, is not whoever
runs the core: no probe goes to the core's own machine, to a cloud's metadata, or to a port that
the service does not have, unless the operator allows it. IPv6 forms of an IPv4 address (mapped,
translated, tunnelled) count as that address.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Network

from meshd.core.errors import Fault
from meshd.core.model import Address, Instance, Port, Prefix, Record, Service
from meshd.core.references import Lines
from meshd.core.topology import Kind, Topology

Network = IPv4Network | IPv6Network

# The first that holds an address says why.
_CLOSED: Sequence[tuple[Prefix, str]] = tuple(
    (Prefix.parse(network), why)
    for network, why in (
        ("0.0.0.0/8", "unspecified (RFC 1122 3.2.1.3)"),
        ("127.0.0.0/8", "loopback"),
        ("169.254.169.254/32", "cloud metadata"),
        ("169.254.0.0/16", "link-local"),
        ("100.100.100.200/32", "cloud metadata (Alibaba)"),
        ("168.63.129.16/32", "cloud metadata (Azure)"),
        ("192.0.0.192/32", "cloud metadata (Oracle)"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved or broadcast"),
        ("::/128", "unspecified"),
        ("::1/128", "loopback"),
        ("fe80::/10", "link-local"),
        ("fec0::/10", "site-local (RFC 3879)"),
        ("ff00::/8", "multicast"),
        ("fd00:ec2::/32", "cloud metadata (AWS)"),
        ("fd20:ce::/32", "cloud metadata (Google)"),
        ("fd00:c1::a9fe:a9fe/128", "cloud metadata (Oracle)"),
        # RFC 8215: where the IPv4 address stands in it is the site's own affair.
        ("64:ff9b:1::/48", "translated to an IPv4 address that cannot be told"),
    )
)
_CLOSED_OF = {
    version: tuple(
        (prefix.network, prefix.last, why) for prefix, why in _CLOSED if prefix.version == version
    )
    for version in (4, 6)
}
# What ends with an IPv4 address: mapped and compatible (RFC 4291 2.5.5), translated (RFC 2765),
# NAT64 (RFC 6052).
_ENDS_IN_IPV4 = tuple(
    IPv6Network(text) for text in ("::ffff:0:0/96", "::/96", "::ffff:0:0:0/96", "64:ff9b::/96")
)


def _nowhere(address: Address) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Guard:
    """What an operator allows, `allow` (networks) and `ports`, and what is never probed.

    `own_ports` are those of this core, at any address that `is_local` says is this machine's.
    """

    allow: tuple[Network, ...] = ()
    ports: frozenset[int] = frozenset()
    own_ports: frozenset[int] = frozenset()
    is_local: Callable[[Address], bool] = field(default=_nowhere, compare=False)

    def refusal(self, address: Address, port: int, listed: Iterable[int]) -> str:
        """Why no probe may go there; empty if it may. `listed` are the instance's own ports."""
        if port not in self.ports and port not in listed:
            return f"port {port} is none of its service's ports (setting probe-ports allows it)"
        why = self._closed(address)
        if why:
            return f"{address} is {why}: no probe goes there (setting probe-allow allows it)"
        if port in self.own_ports and self.is_local(address):
            return f"{address} port {port} is meshd itself"
        return ""

    def _closed(self, address: Address) -> str:
        if self._allows(address):
            return ""
        for form in (address, *_ipv4_within(address)):
            number = int(form)
            for first, last, why in _CLOSED_OF[form.version]:
                if first <= number <= last and not self._allows(form):
                    return why if form is address else f"{form}, which is {why}"
        return ""

    def _allows(self, address: Address) -> bool:
        return any(address in network for network in self.allow)


# Nothing is allowed but the ordinary.
STRICT = Guard()


def _ipv4_within(address: Address) -> Iterator[IPv4Address]:
    """The IPv4 addresses that packets to an IPv6 address may end at."""
    if isinstance(address, IPv4Address):
        return
    # ::0 and ::1 are no IPv4-compatible addresses.
    if any(address in network for network in _ENDS_IN_IPV4) and int(address) > 1:
        yield IPv4Address(int(address) & 0xFFFFFFFF)
    if address.sixtofour is not None:
        yield address.sixtofour
    if address.teredo is not None:
        yield from address.teredo


def probed_port(service: Service) -> Port | int | None:
    """The port that a service's check names, a bare number where no port has it; None: no such."""
    wanted = service.check.port if service.check else ""
    tcp = [port for port in service.ports if port.proto == "tcp"]
    if not wanted:
        return tcp[0] if tcp else None
    if wanted.isascii() and wanted.isdigit():
        return int(wanted) if 0 < int(wanted) < 65536 else None
    return next((port for port in tcp if port.name == wanted), None)


def probe_at(service: Service, instance: Instance) -> tuple[Address, int] | None:
    """Where an instance is probed: its first address; None if the service has no such port."""
    port = probed_port(service)
    if port is None:
        return None
    return instance.addresses[0], instance.port(port) if isinstance(port, Port) else port


def probe_refusal(guard: Guard, service: Service, instance: Instance) -> str:
    """Why an instance of a checked service may not be probed; empty if it may."""
    where = probe_at(service, instance)
    if where is None:
        return f"service {service.name}: {_no_port(service)}"
    listed = {instance.port(port) for port in service.ports if port.proto == "tcp"}
    return guard.refusal(*where, listed)


def _no_port(service: Service) -> str:
    wanted = service.check.port if service.check else ""
    return f"there is no tcp port {wanted!r}" if wanted else "there is no tcp port to probe"


def guard_faults(guard: Guard, after: Topology, put: Iterable[Record], lines: Lines) -> list[Fault]:
    """What of the records put, or of the instances of services put, could not be probed.

    Instances that registered themselves do not stop a service from getting a check: nobody who
    writes it could mend them. The prober leaves them out, and shows it.
    """
    put = list(put)
    checked = [r for r in put if isinstance(r, Service) and r.check is not None]
    portless = {service.name for service in checked if probed_port(service) is None}
    faults = [
        Fault(
            f"services.{service.name}.check.port",
            _no_port(service),
            lines.get((Kind.SERVICES, service.name), 0),
        )
        for service in checked
        if service.name in portless
    ]
    for instance in _judged(after, put, {service.name for service in checked}):
        service = after.services.get(instance.service)
        if service is None or service.check is None or service.name in portless:
            continue
        why = probe_refusal(guard, service, instance)
        if why:
            line = lines.get((Kind.INSTANCES, instance.name), 0)
            faults.append(Fault(f"instances.{instance.name}.address", why, line))
    return faults


def _judged(
    after: Topology, put: Iterable[Record], services: Collection[str]
) -> Iterable[Instance]:
    found = {record.name: record for record in put if isinstance(record, Instance)}
    if services:
        for instance in after.instances.values():
            if instance.service in services and not instance.registered:
                found[instance.name] = instance
    return found.values()
