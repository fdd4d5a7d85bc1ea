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


class EtcdSettings(BaseModel):
    """Where etcd is, and how to log in; files hold PEM, or a password."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    endpoints: tuple[str, ...] = ("127.0.0.1:2379",)
    prefix: str = "/meshd/"
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    user: str | None = None
    password_file: Path | None = None


class CoreSettings(BaseModel):
    """Settings of one core."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    node: str
    data: Path
    store: Literal["embedded", "etcd"] = "embedded"
    etcd: EtcdSettings = EtcdSettings()
    # Seconds between whole loads of a store elsewhere, whatever was followed.
    relist_s: float = 60.0
    grpc: str
    # Where other cores reach this one's gRPC; None: there.
    advertise: str | None = None
    http: str
    # Who shows its token may begin rollouts over HTTP; None: nobody may.
    deploy_token_file: Path | None = None
    forget_after_s: float = 600.0
    probes: ProbeSettings = ProbeSettings()
