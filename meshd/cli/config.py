"""What `meshd` is told: built-in defaults, then a TOML file, then flags. One type for all.

Whoever needs a part gets that part; nothing else reads files, flags or the environment.
"""

import os
import platform
import shlex
import tomllib
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from meshd.cli.addresses import (
    check_target,
    etcd_endpoints,
    is_loopback,
    is_wildcard,
    split_address,
)
from meshd.core.errors import Fault, Invalid
from meshd.daemon.settings import EtcdSettings

Network = IPv4Network | IPv6Network
PortNumber = Annotated[int, Field(ge=1, le=65535)]
# Who may speak for others by default: what runs on the same machine.
LOOPBACK: tuple[Network, ...] = (IPv4Network("127.0.0.0/8"), IPv6Network("::1/128"))


_SHORTEST_TOKEN = 16


class Config(BaseModel):
    """Settings of `meshd serve` and `meshd answer`; keys are the flags' names."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    data: Path = Path("meshd-data")
    store: Literal["embedded", "etcd"] = "embedded"
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
    # A check of two keys stands at the later one.
    insecure: bool = Field(False, validate_default=True)
    advertise: str | None = Field(None, validate_default=True)
    etcd_ca: Path | None = Field(None, alias="etcd-ca")
    etcd_cert: Path | None = Field(None, alias="etcd-cert")
    etcd_key: Path | None = Field(None, alias="etcd-key", validate_default=True)
    etcd: tuple[str, ...] = Field((), validate_default=True)
    etcd_prefix: str = Field("/meshd/", alias="etcd-prefix", min_length=1, max_length=256)
    etcd_user: str | None = Field(None, alias="etcd-user", min_length=1)
    etcd_password_file: Path | None = Field(None, alias="etcd-password-file", validate_default=True)
    deploy_token_file: Path | None = Field(None, alias="deploy-token-file")
    probe_in_flight: int = Field(256, alias="probe-in-flight", ge=1, le=4096)
    # Never more than there are cores.
    vantage: int = Field(2, ge=1, le=16)
    probe_allow: tuple[Network, ...] = Field((), alias="probe-allow")
    probe_ports: tuple[PortNumber, ...] = Field((), alias="probe-ports")

    @field_validator("dns", "core", "etcd", "probe_ports", mode="before")
    @classmethod
    def _parts(cls, value: Any) -> Any:
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

    @field_validator("core")
    @classmethod
    def _check_cores(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for address in value:
            if not address.startswith("unix:"):
                check_target(address)
        return value

    @field_validator("insecure")
    @classmethod
    def _check_insecure(cls, value: bool, info: ValidationInfo) -> bool:
        grpc = info.data.get("grpc")
        if grpc and not is_loopback(grpc) and not value:
            raise ValueError(
                f"grpc {grpc} can be reached from outside and has no TLS yet: "
                "anybody there could change the topology; --insecure allows it"
            )
        return value

    @field_validator("advertise")
    @classmethod
    def _check_advertise(cls, value: str | None, info: ValidationInfo) -> str | None:
        grpc = info.data.get("grpc")
        if value is not None:
            check_target(value)
        elif info.data.get("store") == "etcd" and grpc and is_wildcard(grpc):
            raise ValueError(
                f"grpc {grpc} is every address of this machine: "
                "--advertise HOST:PORT says where other cores reach it"
            )
        return value

    @field_validator("etcd_ca", "etcd_cert", "etcd_key", "etcd_password_file")
    @classmethod
    def _check_file(cls, value: Path | None) -> Path | None:
        if value is not None and not os.access(value, os.R_OK):
            raise ValueError(f"{value} cannot be read")
        return value

    @field_validator("deploy_token_file")
    @classmethod
    def _check_token(cls, value: Path | None) -> Path | None:
        if value is None:
            return None
        try:
            length = len(value.read_bytes().strip())
        except OSError as error:
            raise ValueError(f"{value} cannot be read: {error.strerror}") from None
        if length < _SHORTEST_TOKEN:
            raise ValueError(f"{value} holds a token of less than {_SHORTEST_TOKEN} characters")
        return value.absolute()

    @field_validator("etcd_key")
    @classmethod
    def _check_key(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        if "etcd_cert" in info.data and (value is None) != (info.data["etcd_cert"] is None):
            raise ValueError("etcd-cert and etcd-key go together")
        return value

    @field_validator("etcd_password_file")
    @classmethod
    def _check_login(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        if "etcd_user" in info.data and (value is None) != (info.data["etcd_user"] is None):
            raise ValueError("etcd-user and etcd-password-file go together")
        return value

    @field_validator("etcd")
    @classmethod
    def _check_etcd(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if value and info.data.get("store") == "embedded":
            raise ValueError("is given, and store is embedded: --store etcd uses it")
        has_files = any(info.data.get(f"etcd_{name}") for name in ("ca", "cert", "key"))
        return etcd_endpoints(value or EtcdSettings().endpoints, has_files)

    @field_validator("etcd_prefix")
    @classmethod
    def _check_prefix(cls, value: str) -> str:
        # Without the slash, /mesh would take in what stands under /mesh2.
        return value if value.endswith("/") else f"{value}/"

    @property
    def etcd_settings(self) -> EtcdSettings:
        """Where etcd is."""
        return EtcdSettings(
            endpoints=self.etcd,
            prefix=self.etcd_prefix,
            ca=self.etcd_ca,
            cert=self.etcd_cert,
            key=self.etcd_key,
            user=self.etcd_user,
            password_file=self.etcd_password_file,
        )

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
        return Config.model_validate(given)
    except ValidationError as error:
        faults = [
            Fault(_key(found["loc"]), found["msg"].removeprefix("Value error, "))
            for found in error.errors()
        ]
        raise Invalid(faults) from None


def _key(place: tuple[int | str, ...]) -> str:
    """What people call a place: of a default that is refused only the field is known."""
    field = Config.model_fields.get(str(place[0]))
    name = (field and field.alias) or place[0]
    return ".".join(map(str, (name, *place[1:])))
