"""A compose file as far as our examples go; what it does not know, it refuses."""

import re
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, field_validator

_VARIABLE = re.compile(r"\$\{(\w+):-([^}]*)\}")


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Build(_Part):
    """Where an image comes from."""

    context: str
    dockerfile: str
    target: str
    args: dict[str, str] = {}


class Endpoint(_Part):
    """A place in a network."""

    ipv4_address: IPv4Address | None = None


class Service(_Part):
    """One container."""

    image: str
    build: Build
    command: list[str] | None = None
    environment: dict[str, str] = {}
    networks: dict[str, Endpoint]
    dns: list[str] = []
    volumes: list[str] = []
    ports: list[str] = []
    restart: Literal["no", "on-failure", "unless-stopped"] = "no"
    init: bool = False
    stop_grace_period: str = Field("10s", pattern=r"^\d+s$")
    depends_on: list[str] = []

    @field_validator("networks", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        return {name: {} for name in value} if isinstance(value, list) else value

    @property
    def stop_s(self) -> int:
        """How long it may take to end."""
        return int(self.stop_grace_period[:-1])


class Project(_Part):
    """All of a file; `folder` is where it stands."""

    folder: Path
    services: dict[str, Service]
    networks: dict[str, IPv4Network]
    volumes: tuple[str, ...]

    @field_validator("networks", mode="before")
    @classmethod
    def _subnets(cls, value: Any) -> Any:
        # One subnet each: nothing else is understood, and a KeyError says so.
        return {name: each["ipam"]["config"][0]["subnet"] for name, each in value.items()}

    @field_validator("volumes", mode="before")
    @classmethod
    def _volumes(cls, value: Any) -> Any:
        return tuple(value)


def read(path: Path, variables: Mapping[str, str]) -> Project:
    """The project of a file; of its variables, those that are not given have their defaults."""
    text = _VARIABLE.sub(lambda found: variables.get(found[1], found[2]), path.read_text())
    parts = {name: part for name, part in yaml.safe_load(text).items() if name[:2] != "x-"}
    return Project(folder=path.parent, **parts)
