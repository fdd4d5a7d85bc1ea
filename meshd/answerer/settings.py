"""What an answerer process is told by its supervisor: sockets by descriptor, cores, paths."""

from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

from pydantic import BaseModel, ConfigDict


class AnswererSettings(BaseModel):
    """Settings of one answerer; the sockets are open and inherited."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    index: int
    node: str
    cores: tuple[str, ...]
    data: Path
    udp_fds: tuple[int, ...] = ()
    tcp_fds: tuple[int, ...] = ()
    bridge_fd: int | None = None
    table_fd: int | None = None
    purge: str | None = None
    ecs_from: tuple[IPv4Network | IPv6Network, ...] = ()
    proxy_from: tuple[IPv4Network | IPv6Network, ...] = ()
