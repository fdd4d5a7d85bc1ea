"""The containers of a compose file in an engine; each is called as in the file.

In the engine all stands behind a prefix of this run, with a label: what a run that crashed left is
known by the process that it names.
"""

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import docker
from docker.errors import APIError, NotFound
from docker.models.containers import Container
from docker.models.networks import Network
from docker.types import EndpointConfig, IPAMConfig, IPAMPool

from tests.docker.compose import Project, Service

_LABEL = "meshd.test"


class Containers:
    """All containers of a project: made, ended, paused, cut off."""

    def __init__(self, engine: docker.DockerClient, project: Project) -> None:
        self.engine = engine
        self.project = project
        self.prefix = f"meshd-test-{os.getpid()}"
        self._networks: dict[str, Network] = {}
        self._disconnected: set[tuple[str, str]] = set()

    def create(self) -> None:
        """Make networks and start all containers."""
        for name, subnet in self.project.networks.items():
            config = IPAMConfig(pool_configs=[IPAMPool(subnet=str(subnet))])
            self._networks[name] = self.engine.networks.create(
                self._named(name), ipam=config, labels=self._labels
            )
        with ThreadPoolExecutor(4) as threads:
            made = list(threads.map(self._make, self.project.services))
            list(threads.map(Container.start, made))

    def remove(self) -> None:
        """Take everything away."""
        _remove(self.engine, self.prefix)

    @property
    def _labels(self) -> dict[str, str]:
        return {_LABEL: self.prefix}

    def _named(self, name: str) -> str:
        return f"{self.prefix}-{name}"

    def _make(self, name: str, changes: dict[str, Any] | None = None) -> Container:
        service = self.project.services[name].model_copy(update=changes or {})
        first, *others = service.networks
        restart: Any = {"Name": service.restart}
        made = self.engine.containers.create(
            service.image,
            service.command,
            name=self._named(name),
            hostname=name,
            environment=service.environment,
            volumes=[self._mount(volume) for volume in service.volumes],
            dns=service.dns,
            init=service.init,
            restart_policy=restart,
            labels=self._labels,
            network=self._named(first),
            networking_config={self._named(first): EndpointConfig(
                self.engine.api.api_version, **self._endpoint(name, service, first)
            )},
        )  # fmt: skip
        # Older engines take one network when a container is made.
        for network in others:
            self._networks[network].connect(made, **self._endpoint(name, service, network))
        return made

    def _endpoint(self, name: str, service: Service, network: str) -> dict[str, Any]:
        address = service.networks[network].ipv4_address
        return {"aliases": [name], "ipv4_address": str(address) if address else None}

    def _mount(self, volume: str) -> str:
        source, rest = volume.split(":", 1)
        if source.startswith("."):
            return f"{self.project.folder / source}:{rest}"
        return f"{self._volume(source)}:{rest}"

    def _volume(self, name: str) -> str:
        full = self._named(name)
        # The same again if it is there.
        self.engine.volumes.create(full, labels=self._labels)
        return full

    def __getitem__(self, name: str) -> Container:
        return self.engine.containers.get(self._named(name))

    def start(self, *names: str) -> None:
        """Start what was stopped or killed."""
        for name in names:
            self[name].start()

    def stop(self, *names: str) -> None:
        """End in order."""
        for name in names:
            self[name].stop(timeout=self.project.services[name].stop_s)

    def kill(self, *names: str) -> None:
        """End as a crash would; nothing starts them again but `start`."""
        for name in names:
            self[name].kill()

    def pause(self, *names: str) -> None:
        """Let hang."""
        for name in names:
            self[name].pause()

    def unpause(self, *names: str) -> None:
        """Let go on."""
        for name in names:
            self[name].unpause()

    def discard(self, name: str, *, wipe: bool = False) -> None:
        """Take a container away and, to wipe it, its data."""
        self[name].remove(force=True)
        self._disconnected = {each for each in self._disconnected if each[0] != name}
        for volume in self.project.services[name].volumes if wipe else ():
            self.engine.volumes.get(self._named(volume.split(":")[0])).remove()

    def begin(self, name: str, **changes: Any) -> None:
        """Make and start a container that is not there, with other values of its service."""
        self._make(name, changes).start()

    def pid(self, name: str) -> int:
        """The first process of a container, as it is numbered on this machine."""
        return int(self[name].attrs["State"]["Pid"])

    def disconnect(self, name: str, network: str) -> None:
        """Pull the cable."""
        self._networks[network].disconnect(self[name])
        self._disconnected.add((name, network))

    def connect(self, name: str, network: str) -> None:
        """Plug it in again, with the address that it had."""
        service = self.project.services[name]
        self._networks[network].connect(self[name], **self._endpoint(name, service, network))
        self._disconnected.discard((name, network))

    def addresses(self, name: str) -> dict[str, str]:
        """The addresses of a container by network, of those that it is connected to."""
        return {
            network: str(endpoint.ipv4_address)
            for network, endpoint in self.project.services[name].networks.items()
            if endpoint.ipv4_address and (name, network) not in self._disconnected
        }

    def address(self, name: str) -> str:
        """One of its addresses, for us: this machine reaches all of them."""
        return next(iter(self.addresses(name).values()))

    def run(self, name: str, *command: str) -> str:
        """What a command says in a container; RuntimeError if it fails."""
        code, said = self[name].exec_run(list(command))
        assert isinstance(said, bytes), "not asked for as a stream"
        text = said.decode(errors="replace")
        if code:
            raise RuntimeError(f"{name}: {' '.join(command)}: {text.strip()[-1000:]}")
        return text

    def processes(self, name: str) -> dict[int, str]:
        """What runs in a container: process ids of this machine, and command lines."""
        listed = self[name].top(ps_args="-eo pid,args")["Processes"]
        return {int(pid): command for pid, command in listed}

    def logs(self, name: str, lines: int = 40) -> str:
        """The end of what a container said."""
        said = self[name].logs(tail=lines)
        assert isinstance(said, bytes), "it was not asked for as a stream"
        return said.decode(errors="replace")


def remove_left(engine: docker.DockerClient) -> None:
    """Take away what runs left that are no more."""
    for prefix in _prefixes(engine):
        if not Path(f"/proc/{prefix.rpartition('-')[2]}").exists():
            _remove(engine, prefix)


def _prefixes(engine: docker.DockerClient) -> set[str]:
    labelled: dict[str, Any] = {"filters": {"label": _LABEL}}
    found: list[Any] = engine.containers.list(all=True, **labelled)
    found += engine.networks.list(**labelled)
    labels: Iterable[dict[str, str]] = [
        each.attrs.get("Labels") or each.attrs.get("Config", {}).get("Labels") or {}
        for each in found
    ]
    volumes = [each.attrs["Labels"] for each in engine.volumes.list(**labelled)]
    return {each[_LABEL] for each in (*labels, *volumes)}


def _remove(engine: docker.DockerClient, prefix: str) -> None:
    labelled: dict[str, Any] = {"filters": {"label": f"{_LABEL}={prefix}"}}
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(_end, engine.containers.list(all=True, **labelled)))
    for network in engine.networks.list(**labelled):
        network.remove()
    for volume in engine.volumes.list(**labelled):
        volume.remove()


def _end(container: Container) -> None:
    try:
        container.remove(force=True, v=True)
    except NotFound:
        return
    except APIError as error:
        # Another call removes it already.
        if error.status_code != 409:
            raise


def free_subnets(engine: docker.DockerClient) -> str:
    """`10.N.`, of which no network of the engine and no route of this machine has a part."""
    pools = [pool for each in engine.networks.list() for pool in each.attrs["IPAM"]["Config"] or ()]
    taken = [IPv4Network(pool["Subnet"]) for pool in pools if ":" not in pool["Subnet"]]
    taken += _routes()
    for number in range(214, 250):
        if not any(each.overlaps(IPv4Network(f"10.{number}.0.0/16")) for each in taken):
            return f"10.{number}."
    raise RuntimeError("all of 10.214.0.0 to 10.249.0.0 is in use")


def _routes() -> list[IPv4Network]:
    lines = [line.split() for line in Path("/proc/net/route").read_text().splitlines()[1:]]
    routes = [
        IPv4Network((_address(fields[1]), str(IPv4Network((0, _bits(fields[7]))).netmask)))
        for fields in lines
    ]
    # The default route leads everywhere.
    return [route for route in routes if route.prefixlen]


def _address(little_endian: str) -> int:
    return int.from_bytes(bytes.fromhex(little_endian)[::-1])


def _bits(little_endian: str) -> int:
    return _address(little_endian).bit_count()
