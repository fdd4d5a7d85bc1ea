"""What `meshd` is told: built-in defaults, then a TOML file, then flags. One type for all.

Whoever needs a part gets that part; nothing else reads files, flags or the environment.
"""

import os
import platform
import shlex
import tomllib
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from meshd.core.errors import Fault, Invalid

Network = IPv4Network | IPv6Network
PortNumber = Annotated[int, Field(ge=1, le=65535)]
# Who may speak for others by default: what runs on the same machine.
LOOPBACK: tuple[Network, ...] = (IPv4Network("127.0.0.0/8"), IPv6Network("::1/128"))


def split_address(text: str) -> tuple[str, int]:
    """`HOST:PORT` or `[HOST]:PORT` as host and port; ValueError if it is neither."""
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError(f"{text!r} is not HOST:PORT")
    ip_address(host)
    return host, int(port)


def is_loopback(address: str) -> bool:
    """True if an address HOST:PORT can be reached from this machine only."""
    return ip_address(split_address(address)[0]).is_loopback


class Config(BaseModel):
    """Settings of `meshd serve` and `meshd answer`; keys are the flags' names."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    data: Path = Path("meshd-data")
    store: Literal["embedded"] = "embedded"
    grpc: str = "127.0.0.1:7700"
    http: str = "127.0.0.1:7780"
    dns: tuple[str, ...] = ("127.0.0.1:5300",)
    bridge: Path | None = None
    bridge_group: str | None = Field(None, alias="bridge-group")
    table: Path | None = None
    purge: str | None = None
    answerers: int = Field(min(4, os.cpu_count() or 1), ge=1, le=64)
    node: str = Field(platform.node() or "meshd", min_length=1, max_length=64)
    core: tuple[str, ...] = ()
    ecs_from: tuple[Network, ...] = Field(LOOPBACK, alias="ecs-from")
    proxy_from: tuple[Network, ...] = Field(LOOPBACK, alias="proxy-from")
    insecure: bool = False
    probe_in_flight: int = Field(256, alias="probe-in-flight", ge=1, le=4096)
    # Never more than there are cores.
    vantage: int = Field(2, ge=1, le=16)
    probe_allow: tuple[Network, ...] = Field((), alias="probe-allow")
    probe_ports: tuple[PortNumber, ...] = Field((), alias="probe-ports")

    @field_validator("dns", "core", "probe_ports", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return [part for part in value.split(",") if part] if isinstance(value, str) else value

    @field_validator("ecs_from", "proxy_from", "probe_allow", mode="before")
    @classmethod
    def _networks(cls, value: Any) -> Any:
        parts = [part for part in value.split(",") if part] if isinstance(value, str) else value
        return [ip_network(part) for part in parts]

    @field_validator("purge")
    @classmethod
    def _check_purge(cls, value: str | None) -> str | None:
        if value is not None and not any("{name}" in word for word in shlex.split(value)[1:]):
            raise ValueError("must be a command with {name} in an argument")
        return value

    @field_validator("grpc", "http")
    @classmethod
    def _check_address(cls, value: str) -> str:
        split_address(value)
        return value

    @field_validator("dns")
    @classmethod
    def _check_addresses(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for address in value:
            split_address(address)
        return value

    @property
    def bridge_path(self) -> Path:
        """Where the bridge's socket is."""
        return self.bridge or self.data / "bridge.sock"


def read_config(path: Path | None, flags: dict[str, Any]) -> Config:
    """Merge file and flags (None: not given); Invalid lists everything that is wrong."""
    given: dict[str, Any] = {}
    if path is not None:
        try:
            given = tomllib.loads(path.read_text())
        except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise Invalid(f"{path}: {error}") from None
    given.update({name: value for name, value in flags.items() if value is not None})
    try:
        config = Config.model_validate(given)
    except ValidationError as error:
        faults = [
            Fault(".".join(map(str, found["loc"])), found["msg"].removeprefix("Value error, "))
            for found in error.errors()
        ]
        raise Invalid(faults) from None
    if not is_loopback(config.grpc) and not config.insecure:
        raise Invalid(
            f"grpc {config.grpc} can be reached from outside and has no TLS yet: "
            "anybody there could change the topology; --insecure allows it"
        )
    return config
