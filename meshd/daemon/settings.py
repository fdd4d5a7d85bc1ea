"""What the core process is told by its supervisor."""

from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict


class ProbeSettings(BaseModel):
    """How many probes at once, by how many cores each, and what the guard lets through."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    in_flight: int = 256
    vantage: int = 2
    allow: tuple[IPv4Network | IPv6Network, ...] = ()
    ports: tuple[int, ...] = ()


class CoreSettings(BaseModel):
    """Settings of one core."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    node: str
    data: Path
    store: Literal["embedded"] = "embedded"
    grpc: str
    http: str
    forget_after_s: float = 600.0
    probes: ProbeSettings = ProbeSettings()
