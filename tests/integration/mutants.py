"""Servers configured wrongly on purpose (K11): the kit must see each, `meshctl doctor` too.

`doctor` is the check of meshctl doctor that must fail, or nothing where it cannot see it from
outside.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.integration.ways import Ways, elsewhere_pool, forward
from tests.servers.between import LineRewriter
from tests.servers.fronts import Dnsdist, Front, PowerDns, unbound_module, unbound_subnetcache

Maker = Callable[[Ways, Path], Front]


@dataclass(frozen=True)
class Mutant:
    """A wrong configuration: how to make the server, and what the doctor says of it."""

    make: Maker
    programs: tuple[str, ...]
    doctor: str


def _powerdns(settings: Mapping[str, str]) -> Maker:
    return lambda ways, folder: PowerDns(folder, ways.meshd.bridge, settings)


def _module(changes: Mapping[str, str]) -> Maker:
    return lambda ways, folder: unbound_module(
        folder, ways.meshd.bridge, forward(ways.elsewhere.port), changes
    )


def _subnetcache(changes: Mapping[str, str]) -> Maker:
    return lambda ways, folder: unbound_subnetcache(
        folder, ways.meshd.dns_port, forward(ways.elsewhere.port), changes
    )


def _dnsdist(after: str = "", changes: Mapping[str, str] | None = None) -> Maker:
    return lambda ways, folder: Dnsdist(
        folder, ways.meshd.dns_port, None, elsewhere_pool(ways.elsewhere.port), after, changes
    )


class _Rewritten(PowerDns):
    """PowerDNS in front of a bridge whose rows are changed."""

    def __init__(
        self, ways: Ways, folder: Path, rewrite: Callable[[dict[str, Any], Any], Any]
    ) -> None:
        self._between = LineRewriter(folder / "between.sock", ways.meshd.bridge, rewrite)
        # The caches as PowerDNS has them by default.
        caches = {"cache-ttl": "20", "query-cache-ttl": "20", "negquery-cache-ttl": "60"}
        super().__init__(folder, self._between.path, caches)

    def stop(self) -> int:
        """End it, and what stands between."""
        code = super().stop()
        self._between.stop()
        return code


def _unscoped(request: dict[str, Any], result: Any) -> Any:
    if request["method"] == "lookup":
        return [{**row, "scopeMask": 0} for row in result]
    return result


def _missing_for_us(request: dict[str, Any], result: Any) -> Any:
    """Existence that depends on the client: no addresses for 127.0.2.0/24."""
    if request["method"] == "lookup" and request["parameters"]["remote"].startswith("127.0.2."):
        return [row for row in result if row["qtype"] not in ("A", "AAAA")]
    return result


_PYTHON_FIRST = 'module-config: "python validator iterator"'

MUTANTS = {
    "powerdns shuffles": Mutant(_powerdns({"no-shuffle": "no"}), ("pdns_server",), "order"),
    "powerdns ignores subnets": Mutant(
        _powerdns({"edns-subnet-processing": "no"}), ("pdns_server",), "subnet"
    ),
    "rows without scopeMask": Mutant(
        lambda ways, folder: _Rewritten(ways, folder, _unscoped), ("pdns_server",), "mixed up"
    ),
    "a name that is there for some": Mutant(
        lambda ways, folder: _Rewritten(ways, folder, _missing_for_us), ("pdns_server",), "own list"
    ),
    "unbound rotates, module": Mutant(
        _module({"rrset-roundrobin: no": "rrset-roundrobin: yes"}), ("unbound",), "order"
    ),
    "unbound rotates, subnetcache": Mutant(
        _subnetcache({"rrset-roundrobin: no": "rrset-roundrobin: yes"}), ("unbound",), "order"
    ),
    "module behind the validator, storing": Mutant(
        _module(
            {
                _PYTHON_FIRST: 'module-config: "validator python iterator"',
                "qstate.no_cache_store = 1": "qstate.no_cache_store = 0",
                "reply.security = _INSECURE": "reply.security = 0",
            }
        ),
        ("unbound",),
        "mixed up",
    ),
    "module stores its answers": Mutant(
        _module(
            {
                # Unbound stores no answer that calls itself authoritative.
                "PKT_RA | PKT_AA": "PKT_RA",
                "qstate.return_rcode = 0\n": "qstate.return_rcode = 0\n"
                "    storeQueryInCache(qstate, qstate.qinfo, qstate.return_msg.rep, 0)\n",
            }
        ),
        ("unbound",),
        "mixed up",
    ),
    "module says nothing of security": Mutant(
        _module({"reply.security = _INSECURE": "reply.security = 0"}), ("unbound",), "own list"
    ),
    "subnetcache sends no subnet": Mutant(
        _subnetcache({"send-client-subnet: 127.0.0.1": "send-client-subnet: 192.0.2.1"}),
        ("unbound",),
        "own list",
    ),
    "no subnetcache": Mutant(
        _subnetcache({'"subnetcache validator iterator"': '"validator iterator"'}),
        ("unbound",),
        "own list",
    ),
    "dnsdist caches the pool": Mutant(
        _dnsdist('getPool("meshd"):setCache(newPacketCache(10000))'), ("dnsdist",), "mixed up"
    ),
    "dnsdist sends no PROXY header": Mutant(
        _dnsdist(changes={"useProxyProtocol = true": "useProxyProtocol = false"}),
        ("dnsdist",),
        "own list",
    ),
    "dnsdist sends a cut subnet instead": Mutant(
        _dnsdist(changes={"useProxyProtocol = true": "useClientSubnet = true"}),
        ("dnsdist",),
        "own list",
    ),
    "dnsdist overrides subnets": Mutant(
        _dnsdist(
            "setECSOverride(true)", changes={"useProxyProtocol = true": "useClientSubnet = true"}
        ),
        ("dnsdist",),
        "subnet",
    ),
}
