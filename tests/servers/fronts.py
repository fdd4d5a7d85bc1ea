"""The DNS servers that stand in front of meshd, with the configuration that we ship."""

import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.servers.install import find
from tests.servers.processes import ROOT, Server, free_port, wait_until

INTEGRATIONS = ROOT / "integrations"
# Asked of meshd by those servers that must be told.
ZONES = ("mesh.internal", "api.myservice.com")


class Front(Server):
    """A DNS server on a port of 127.0.0.1, for UDP and TCP."""

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        folder: Path,
        port: int,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        program = find(str(command[0]))
        assert program is not None, f"{command[0]}: asked for only where it is installed"
        super().__init__(name, [program, *command[1:]], folder, environment)
        self.port = port

    def is_ready(self) -> bool:
        """True if it listens."""
        if not self.is_running:
            raise RuntimeError(f"{self.name} ended: {self.tail()}")
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def start_ready(self) -> None:
        """Start it and wait until it is ready."""
        self.start()
        wait_until(f"{self.name} is ready", self.is_ready)


class PowerDns(Front):
    """PowerDNS with the shipped configuration, in front of a bridge."""

    def __init__(
        self, folder: Path, bridge: Path, settings: Mapping[str, str] | None = None
    ) -> None:
        config = folder / "pdns"
        config.mkdir()
        port = free_port()
        changed = {
            "config-dir": str(config),
            "socket-dir": str(config),
            "remote-connection-string": f"unix:path={bridge},timeout=200",
            "local-address": "127.0.0.1",
            "local-port": str(port),
            "setuid": "",
            "setgid": "",
            "daemon": "no",
            "guardian": "no",
            **(settings or {}),
        }
        lines = (ROOT / "integrations/powerdns/meshd.conf").read_text().splitlines()
        if changed.get("launch", "remote") != "remote":
            # Another backend does not know the settings of this one.
            lines = [line for line in lines if not line.startswith(("remote-", "launch"))]
            del changed["remote-connection-string"]
        (config / "pdns.conf").write_text("\n".join(lines) + "\n")
        options = [f"--{name}={value}" for name, value in changed.items()]
        super().__init__("powerdns", ["pdns_server", *options], folder, port)


_UNBOUND = """
server:
    interface: 127.0.0.1
    port: {port}
    access-control: 127.0.0.0/8 allow_snoop
    username: ""
    chroot: ""
    do-daemonize: no
    use-syslog: no
    logfile: ""
    pidfile: ""
    directory: "{folder}"
    num-threads: {threads}
{more}
remote-control:
    control-enable: yes
    control-interface: "{folder}/control"
    control-use-cert: no
"""


class Unbound(Front):
    """Unbound with a configuration of ours, changed by replacing text in it."""

    def __init__(
        self, folder: Path, shipped: str, more: str = "", changes: Mapping[str, str] | None = None,
        threads: int = 2,
    ) -> None:  # fmt: skip
        port = free_port()
        for old, new in (changes or {}).items():
            assert old in shipped, f"the shipped configuration has no {old!r}"
            shipped = shipped.replace(old, new)
        self.config = folder / "unbound.conf"
        own = _UNBOUND.format(port=port, folder=folder, threads=threads, more=more)
        self.config.write_text(shipped + own)
        command = ["unbound", "-d", "-p", "-c", str(self.config)]
        # As the systemd drop-in sets it: Debian's Unbound does not find its own package.
        environment = {"PYTHONPATH": "/usr/lib/python3/dist-packages"}
        super().__init__("unbound", command, folder, port, environment)

    def control(self, *arguments: str) -> str:
        """Run unbound-control."""
        program = find("unbound-control")
        assert program is not None
        done = subprocess.run(
            [program, "-c", self.config, *arguments], capture_output=True, text=True, check=True
        )
        return done.stdout


def unbound_module(
    folder: Path, bridge: Path, more: str = "", changes: Mapping[str, str] | None = None,
    threads: int = 2,
) -> Unbound:  # fmt: skip
    """Unbound with the python module; `changes` may be of each of its three files."""
    changes = dict(changes or {})
    source = (INTEGRATIONS / "unbound/meshd_unbound.py").read_text()
    settings = (INTEGRATIONS / "unbound/meshd_unbound.toml").read_text()
    for old in list(changes):
        if old in source:
            source = source.replace(old, changes.pop(old))
        elif old in settings:
            settings = settings.replace(old, changes.pop(old))
    module = folder / "meshd_unbound.py"
    module.write_text(source)
    told = settings.replace("/run/meshd/bridge.sock", str(bridge))
    told = told.replace('names = ["mesh.internal"]', f"names = {list(ZONES)}")
    module.with_suffix(".toml").write_text(told)
    shipped = (INTEGRATIONS / "unbound/meshd.conf").read_text()
    changes["/etc/unbound/meshd_unbound.py"] = str(module)
    return Unbound(folder, shipped, more, changes, threads)


def unbound_subnetcache(
    folder: Path, port: int, more: str = "", changes: Mapping[str, str] | None = None
) -> Unbound:
    """Unbound without python, asking a DNS server on a port of 127.0.0.1."""
    shipped = (INTEGRATIONS / "unbound/subnetcache.conf").read_text()
    first, second = ZONES
    stub = shipped[shipped.index("stub-zone:") :]
    shipped += stub.replace(f'"{first}."', f'"{second}."')
    changes = {"127.0.0.1@5300": f"127.0.0.1@{port}", **(changes or {})}
    return Unbound(folder, shipped, more, changes)


_DNSDIST = """
setSecurityPollSuffix("")
setLocal("127.0.0.1:{port}", {{reusePort=true}})
addLocal("127.0.0.1:{port}", {{reusePort=true}})
setACL({{"127.0.0.0/8"}})
setKey("MXNeLFWHUe4363BBKrY06cAsH8NWNb+Se2eXU5+Bb74=")
controlSocket("127.0.0.1:{control}")
{before}
dofile("{lua}")
meshd{{zones={{{zones}}}, servers={{"127.0.0.1:{server}"}}{table}}}
{after}
"""


class Dnsdist(Front):
    """dnsdist with meshd.lua, in front of a DNS server that takes PROXY headers."""

    def __init__(
        self, folder: Path, server: int, table: Path | None = None, before: str = "",
        after: str = "", changes: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        port = free_port()
        lua = (INTEGRATIONS / "dnsdist/meshd.lua").read_text()
        for old, new in (changes or {}).items():
            assert old in lua, f"meshd.lua has no {old!r}"
            lua = lua.replace(old, new)
        (folder / "meshd.lua").write_text(lua)
        self.config = folder / "dnsdist.conf"
        self.config.write_text(
            _DNSDIST.format(
                port=port,
                zones=", ".join(f'"{zone}"' for zone in ZONES),
                control=free_port(),
                lua=folder / "meshd.lua",
                server=server,
                table=f', table="{table}"' if table else "",
                before=before,
                after=after,
            )
        )
        super().__init__("dnsdist", ["dnsdist", "--supervised", "-C", self.config], folder, port)

    def console(self, command: str) -> str:
        """Run a command in its console."""
        program = find("dnsdist")
        assert program is not None
        done = subprocess.run(
            [program, "-C", self.config, "-e", command], capture_output=True, text=True, check=True
        )
        return done.stdout

    def count(self, name: str) -> int:
        """One of its statistics, as in `self-answered`."""
        words = self.console("dumpStats()").split()
        return int(words[words.index(name) + 1])
