"""The ways in: every DNS server, and chain of servers, through which a client can ask meshd.

Servers are started when a test first wants them, and live as long as the session's tests.
"""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.integration.topology import running
from tests.servers.fronts import (
    Dnsdist,
    Front,
    PowerDns,
    Unbound,
    unbound_module,
    unbound_subnetcache,
)
from tests.servers.install import find
from tests.servers.processes import Meshd, wait_until
from tests.servers.queries import Asker, addresses

# Names that are none of meshd's, one of them beside one that is, and their addresses.
ELSEWHERE = {"www.elsewhere.example": "192.0.2.80", "other.myservice.com": "192.0.2.81"}
PROXIED = {"proxy-protocol-from": "127.0.0.1"}


@dataclass(frozen=True)
class Way:
    """One way in."""

    name: str
    port: int
    # A resolver says RA, not AA, wants RD, and may have kept the answer for a while.
    is_resolver: bool
    front: Front | None

    def __str__(self) -> str:
        return self.name


def forward(port: int) -> str:
    """For Unbound: whatever is not meshd's is asked of the server on this port."""
    return (
        "    do-not-query-localhost: no\n"
        f'forward-zone:\n    name: "."\n    forward-addr: 127.0.0.1@{port}\n'
    )


def elsewhere_pool(port: int) -> str:
    """For dnsdist: the server of the user's own, in the default pool."""
    return f'newServer{{address="127.0.0.1:{port}", checkName="www.elsewhere.example"}}'


class Ways:
    """meshd, and the servers in front of it."""

    def __init__(self, new_folder: Callable[[str], Path]) -> None:
        self._new_folder = new_folder
        self._stack = ExitStack()
        self._made: dict[str, Way] = {}
        self._meshd: Meshd | None = None
        self._elsewhere: Unbound | None = None

    @property
    def meshd(self) -> Meshd:
        """meshd with two answerers, a table, and the document of topology.py."""
        if self._meshd is None:
            folder = self._new_folder("meshd")
            table = str(folder / "data" / "answers")
            self._meshd = self._stack.enter_context(running(folder, 2, "--table", table))
        return self._meshd

    @property
    def elsewhere(self) -> Unbound:
        """The rest of the DNS: a server with names that are not meshd's."""
        if self._elsewhere is None:
            data = '    local-zone: "." static\n' + "".join(
                f'    local-data: "{name}. 60 A {address}"\n' for name, address in ELSEWHERE.items()
            )
            self._elsewhere = Unbound(self._new_folder("elsewhere"), "", data)
            self._stack.callback(self._elsewhere.stop)
            self._elsewhere.start_ready()
        return self._elsewhere

    def proxied_powerdns(self) -> PowerDns:
        """A PowerDNS that takes the client from PROXY headers, and from nothing else."""
        made = PowerDns(self._new_folder("proxied"), self.meshd.bridge, PROXIED)
        self._stack.callback(made.stop)
        made.start()
        wait_until("PowerDNS is ready", made.is_ready)
        return made

    def get(self, name: str) -> Way:
        """A way by name; skips the test, and says why, where a server of it is not installed."""
        if name not in self._made:
            for program in {**NEEDED, **UNDER_LOAD}[name]:
                if not find(program):
                    pytest.skip(f"{program} is not installed here")
            self._made[name] = self._make(name)
        return self._made[name]

    def _make(self, name: str) -> Way:
        is_resolver = name.startswith("unbound")
        if name == "listener":
            return Way(name, self.meshd.dns_port, is_resolver, None)
        front = _MAKERS[name](self, self._new_folder(name))
        self._stack.callback(front.stop)
        front.start_ready()
        asker = Asker("127.0.1.9")
        wait_until(
            f"{name} answers",
            lambda: len(addresses(asker.ask(front.port, "api.mesh.internal"))) == 4,
        )
        return Way(name, front.port, is_resolver, front)

    def stop(self) -> None:
        """End all servers."""
        self._stack.close()


_MAKERS: dict[str, Callable[[Ways, Path], Front]] = {
    "powerdns": lambda ways, folder: PowerDns(folder, ways.meshd.bridge),
    "unbound module": lambda ways, folder: unbound_module(
        folder, ways.meshd.bridge, forward(ways.elsewhere.port)
    ),
    "unbound module, patient": lambda ways, folder: unbound_module(
        folder,
        ways.meshd.bridge,
        forward(ways.elsewhere.port),
        {"timeout-ms = 50": "timeout-ms = 1000"},
    ),
    "unbound subnetcache": lambda ways, folder: unbound_subnetcache(
        folder, ways.meshd.dns_port, forward(ways.elsewhere.port)
    ),
    "unbound, powerdns": lambda ways, folder: unbound_subnetcache(
        folder, ways.get("powerdns").port, forward(ways.elsewhere.port)
    ),
    "dnsdist forward": lambda ways, folder: Dnsdist(
        folder, ways.meshd.dns_port, None, elsewhere_pool(ways.elsewhere.port)
    ),
    "dnsdist table": lambda ways, folder: Dnsdist(
        folder, ways.meshd.dns_port, ways.meshd.table, elsewhere_pool(ways.elsewhere.port)
    ),
    "dnsdist, powerdns": lambda ways, folder: Dnsdist(
        folder, ways.proxied_powerdns().port, None, elsewhere_pool(ways.elsewhere.port)
    ),
}


NEEDED: dict[str, tuple[str, ...]] = {
    "listener": (),
    "powerdns": ("pdns_server",),
    "unbound module": ("unbound",),
    "unbound subnetcache": ("unbound",),
    "unbound, powerdns": ("unbound", "pdns_server"),
    "dnsdist forward": ("dnsdist", "unbound"),
    "dnsdist table": ("dnsdist", "unbound"),
    "dnsdist, powerdns": ("dnsdist", "unbound", "pdns_server"),
}

# Not as shipped, so not for the conformance kit.
UNDER_LOAD: dict[str, tuple[str, ...]] = {"unbound module, patient": ("unbound",)}
