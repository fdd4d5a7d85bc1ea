"""The records at a name, made from an Answer: all types at once, as values.

Types and fields follow RFC 1035, 2782 (SRV), 9460 (SVCB, HTTPS). One TTL per RRset (RFC 2181
5.2). Which types a name has never depends on the client (RFC 7871 7.4: negatives have no scope).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import chain
from typing import NamedTuple

from meshd.core.lifetime import longest_s, ready_families
from meshd.core.model import Address, Port, Zone
from meshd.core.names import to_wire
from meshd.core.ranking import Member, Ranked
from meshd.core.resolve import Answer, Choice, Spot, Status
from meshd.core.snapshot import ServiceView, Snapshot
from meshd.core.verdict import Verdict

STATIC_TTL_S = 300


class Type(IntEnum):
    """The record types that meshd makes or treats by name."""

    A = 1
    NS = 2
    SOA = 6
    TXT = 16
    AAAA = 28
    SRV = 33
    OPT = 41
    SVCB = 64
    HTTPS = 65
    ANY = 255


class Srv(NamedTuple):
    """RFC 2782; `target` is a wire name."""

    priority: int
    weight: int
    port: int
    target: bytes


class Soa(NamedTuple):
    """RFC 1035 3.3.13; names in wire form, times in seconds."""

    mname: bytes
    rname: bytes
    serial: int
    refresh: int
    retry: int
    expire: int
    minimum: int


class Svcb(NamedTuple):
    """RFC 9460 2; `port` and hints as they apply, in key order."""

    priority: int
    target: bytes
    port: int
    hints4: tuple[bytes, ...]
    hints6: tuple[bytes, ...]


# A and AAAA are packed addresses, NS a wire name, TXT a tuple of strings.
Rdata = bytes | tuple[bytes, ...] | Srv | Soa | Svcb


@dataclass(frozen=True, slots=True)
class RRset:
    """Records of one type at one name (None: the name asked for)."""

    type: Type
    ttl: int
    rdata: tuple[Rdata, ...]
    owner: bytes | None = None


def soa_of(zone: Zone, revision: int) -> RRset:
    """The SOA of a zone; its serial is the topology's revision, equal on nodes of equal state."""
    local, _, domain = zone.contact.partition("@")
    rname = bytes([len(local)]) + local.encode() + to_wire(domain or "invalid")
    serial = max(1, revision & 0xFFFFFFFF)
    soa = Soa(to_wire(zone.ns[0].name), rname, serial, 3600, 600, 86400, zone.negative_ttl_s)
    return RRset(Type.SOA, zone.negative_ttl_s, (soa,))


def rrsets_of(
    snapshot: Snapshot, answer: Answer, name: bytes, only: int = Type.ANY
) -> tuple[RRset, ...]:
    """The RRsets at the lower-cased wire name that was resolved, of all types or one."""
    if answer.status is not Status.FOUND or answer.place is None:
        return ()
    place = answer.place
    found: list[RRset] = []
    if name == place.zone_wire:
        hosts = tuple(to_wire(server.name) for server in place.zone.ns)
        found += [soa_of(place.zone, snapshot.topology.revision)]
        found += [RRset(Type.NS, STATIC_TTL_S, hosts)]
    for server in place.zone.ns:
        if not place.service and to_wire(server.name) == name:
            found += _address_sets(server.addresses, STATIC_TTL_S)
    if answer.view and answer.spot and answer.choice:
        found += _service_sets(answer.view, answer.spot, answer.choice, only)
    return tuple(found if only == Type.ANY else (made for made in found if made.type == only))


def additional_of(answer: Answer, rrsets: Iterable[RRset]) -> tuple[RRset, ...]:
    """Addresses of the targets that SRV (RFC 2782) and NS records name, as far as they are ours."""
    ttls = {rrset.type: rrset.ttl for rrset in rrsets}
    found: list[RRset] = []
    if Type.NS in ttls and answer.place is not None:
        for server in answer.place.zone.ns:
            found += _owned(to_wire(server.name), _address_sets(server.addresses, STATIC_TTL_S))
    if Type.SRV in ttls and answer.choice is not None:
        for ranked in _explicit(answer.view, answer.choice):
            sets = _address_sets(ranked.member.instance.addresses, ttls[Type.SRV])
            found += _owned(_target(answer.view, ranked.member), sets)
    return tuple(found)


def _owned(owner: bytes, sets: Iterable[RRset]) -> list[RRset]:
    return [RRset(made.type, made.ttl, made.rdata, owner) for made in sets]


def _service_sets(view: ServiceView, spot: Spot, choice: Choice, only: int) -> list[RRset]:
    """RRsets at a name of a service; those of other types than `only` may be left out."""
    if spot.port is not None:
        return _port_sets(view, spot.port, choice)
    shown = _shown(view, spot, choice)
    ttl = _least_ttl(view, choice, shown)
    addresses = [address for member in shown for address in member.instance.addresses]
    limit = max(view.service.max_answers, len(addresses) if spot.member else 0)
    found = _address_sets(addresses, ttl, limit)
    if shown and only in (Type.TXT, Type.ANY):
        found.append(RRset(Type.TXT, ttl, (_listing(view, shown),)))
    https = next((port for port in view.service.ports if port.name == "https"), None)
    if https is not None and shown and only in (Type.HTTPS, Type.ANY):
        found.append(RRset(Type.HTTPS, ttl, _svcbs(view, https, shown)))
    return found


def _shown(view: ServiceView, spot: Spot, choice: Choice) -> list[Member]:
    """The chosen members, and one more for an address family that none of them has.

    Without it a client in one Pop could get NODATA where another gets addresses.
    """
    shown = [ranked.member for ranked in choice.chosen]
    if spot.member is not None:
        return shown
    for version in view.families:
        if not any(_has_family(member, version) for member in shown):
            spare = next((m for m in _reserve(view, spot, choice) if _has_family(m, version)), None)
            shown += [spare] if spare else []
    return shown


def _reserve(view: ServiceView, spot: Spot, choice: Choice) -> Iterable[Member]:
    """Whom else the name could show: the order that follows, then all that may still be used."""
    ranked = (entry.member for entry in choice.ranked)
    # While anybody is ready, what drains is not shown for the sake of its family.
    is_any_ready = any(member.verdict.is_ready for member in view.members)
    unused = {Verdict.FORCED_DOWN, *([Verdict.DRAINING] if is_any_ready else [])}
    spare = [member for member in view.members if member.verdict not in unused]
    hidden = view.hidden
    rest = sorted(spare, key=lambda m: (not m.verdict.is_ready, m.instance.version.text in hidden))
    return (m for m in chain(ranked, rest) if spot.pop is None or m.instance.pop == spot.pop)


def _least_ttl(view: ServiceView, choice: Choice, shown: Sequence[Member]) -> int:
    """The least of what all that are shown allow: a set has one TTL (RFC 2181 5.2)."""
    chosen = {ranked.member.instance.name for ranked in choice.chosen}
    others = [member for member in shown if member.instance.name not in chosen]
    if not others:
        return choice.ttl.seconds
    all_ready = all(member.verdict.is_ready for member in others)
    families = frozenset[int]() if all_ready else ready_families(view)
    allowed = (longest_s(view, member, families) for member in others)
    # Who is shown though no answer should hold it is a stand-in.
    return min(choice.ttl.seconds, *(int(each_s) or view.service.ttl.min_s for each_s in allowed))


def _has_family(member: Member, version: int) -> bool:
    return any(address.version == version for address in member.instance.addresses)


def _address_sets(addresses: Iterable[Address], ttl: int, limit: int = 8) -> list[RRset]:
    held = tuple(addresses)
    found = []
    for version, kind in ((4, Type.A), (6, Type.AAAA)):
        packed = tuple(address.packed for address in held if address.version == version)
        if packed:
            found.append(RRset(kind, ttl, packed[:limit]))
    return found


def _explicit(view: ServiceView | None, choice: Choice) -> Sequence[Ranked]:
    """What explicit orders show: the chosen, and as many again of those that follow."""
    most = 2 * (view.service.max_answers if view else 4)
    room = most - len(choice.chosen)
    return (*choice.chosen, *choice.following(room)) if room > 0 else choice.chosen


def _target(view: ServiceView | None, member: Member) -> bytes:
    base = view.service.dns.removeprefix("*.") if view else "."
    return to_wire(f"{member.instance.name}.instance.{base}")


def _port_sets(view: ServiceView, port: Port, choice: Choice) -> list[RRset]:
    entries = _explicit(view, choice)
    if not entries:
        return []
    ttl = _least_ttl(view, choice, [ranked.member for ranked in entries])
    heaviest = {
        tier: max(r.member.weight for r in entries if r.tier == tier)
        for tier in {ranked.tier for ranked in entries}
    }
    rdata = tuple(
        Srv(
            10 * (ranked.tier + 1),
            # HAProxy maps weight to weight/256 + 1: smaller ones would all be alike.
            max(256, round(65535 * ranked.member.weight / heaviest[ranked.tier])),
            ranked.member.instance.port(port),
            _target(view, ranked.member),
        )
        for ranked in entries
    )
    svcb = _svcbs(view, port, [ranked.member for ranked in entries])
    return [RRset(Type.SRV, ttl, rdata), RRset(Type.SVCB, ttl, svcb)]


def _svcbs(view: ServiceView, port: Port, members: Sequence[Member]) -> tuple[Svcb, ...]:
    def packed(member: Member, version: int) -> tuple[bytes, ...]:
        return tuple(a.packed for a in member.instance.addresses if a.version == version)

    return tuple(
        Svcb(
            place,
            _target(view, member),
            member.instance.port(port),
            packed(member, 4),
            packed(member, 6),
        )
        for place, member in enumerate(members, start=1)
    )


def _listing(view: ServiceView, members: Sequence[Member]) -> tuple[bytes, ...]:
    """One string an instance, in order: strings of one TXT record keep theirs on any path."""
    port = view.service.ports[0]
    lines = []
    for place, member in enumerate(members, start=1):
        instance = member.instance
        address = instance.addresses[0]
        host = f"[{address}]" if address.version == 6 else str(address)
        what = f"{instance.name} {instance.version} {instance.pop}"
        lines.append(f"{place} {what} {host}:{instance.port(port)}".encode()[:255])
    return tuple(lines)
