"""What must hold of any way in, as complaints: the conformance kit asks for none, and a wrong
configuration must make some (the kit could not see a leak otherwise)."""

import threading
from collections.abc import Mapping

import dns.exception
import dns.rcode

from meshd.v1 import resolver_pb2
from tests.servers.processes import Meshd
from tests.servers.queries import Asker, addresses

NAME = "api.mesh.internal"
ASKERS = {
    "source eu": Asker("127.0.1.9"),
    "source us": Asker("127.0.2.9"),
    "source ap, 1.3": Asker("127.0.3.9"),
    "source nowhere": Asker("127.0.9.9"),
    "ecs eu": Asker("127.0.2.9", "10.1.2.0/24"),
    "ecs us": Asker("127.0.1.9", "10.2.2.0/24"),
    "ecs ap inside eu": Asker("127.0.1.9", "10.1.7.0/24"),
    "ecs eu /32": Asker("127.0.2.9", "10.1.3.3/32"),
    "ecs us ipv6": Asker("127.0.1.9", "2001:db8:2::/56"),
}

Expected = Mapping[str, Mapping[str, list[str]]]


def wanted(meshd: Meshd, asker: Asker, name: str = NAME) -> dict[str, list[str]]:
    """Type -> the addresses that this client should get, in order, as the core says over gRPC."""
    request = resolver_pb2.ResolveRequest(name=name, client=asker.ecs or asker.source)
    with meshd.stubs() as (_, resolver, _):
        reply = resolver.Resolve(request, timeout=5)
    listed = [list(each.addresses) for each in reply.endpoints if each.in_set]
    flat = [address for held in listed for address in held]
    return {
        "A": [address for address in flat if ":" not in address],
        "AAAA": [address for address in flat if ":" in address],
    }


def expected_of(meshd: Meshd) -> Expected:
    """What each asker should get."""
    found = {who: wanted(meshd, asker) for who, asker in ASKERS.items()}
    assert all(len(lists["A"]) in (1, 4) for lists in found.values())
    assert len({tuple(lists["A"]) for lists in found.values()}) >= 6, "clients must differ"
    return found


def complaint(
    port: int, expected: Expected, who: str, kind: str = "A", name: str = NAME, *, tcp: bool = False
) -> str:
    """What is wrong with one answer, or nothing."""
    try:
        reply = ASKERS[who].ask(port, name, kind, tcp=tcp)
    except dns.exception.Timeout:
        return f"{who} {kind}: no reply"
    if reply.rcode():
        return f"{who} {kind}: {dns.rcode.to_text(reply.rcode())}"
    got = addresses(reply)
    if got == expected[who][kind]:
        return ""
    return f"{who} {kind}: {got} instead of {expected[who][kind]}"


def complaints(port: int, expected: Expected) -> list[str]:
    """What is wrong when clients ask by turns, again and again (K1, K2, K4, K10)."""
    by_turns = [(who, kind) for kind in ("A", "AAAA") for who in ASKERS]
    found = [complaint(port, expected, who, kind) for who, kind in by_turns * 3]
    return [each for each in found if each]


def storm(
    port: int, expected: Expected, work: list[list[tuple[str, str]]], name: str = NAME
) -> list[str]:
    """What is wrong when each thread asks for its list of (who, type), all at once (K3)."""
    wrong: list[str] = []
    asked = [0]
    lock = threading.Lock()
    together = threading.Barrier(len(work))

    def run(questions: list[tuple[str, str]]) -> None:
        together.wait()
        for who, kind in questions:
            found = complaint(port, expected, who, kind, name)
            with lock:
                asked[0] += 1
                wrong.extend([found] if found else [])

    threads = [threading.Thread(target=run, args=(questions,)) for questions in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(100)
    assert asked[0] == sum(map(len, work))
    return wrong
