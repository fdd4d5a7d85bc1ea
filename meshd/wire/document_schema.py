"""The forms that entries of a topology document take, and the records they stand for."""

import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from meshd.core.errors import Fault, Invalid
from meshd.core.model import (
    Check,
    Instance,
    NameServer,
    Pop,
    Port,
    Prefix,
    Range,
    Record,
    Service,
    Sticky,
    Ttl,
    Zone,
    dns_name,
    parse_address,
)
from meshd.core.selector import Selector, Version, parse_selector
from meshd.core.topology import Kind

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "": 1.0}


def _duration(value: Any) -> Any:
    found = (
        re.fullmatch(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|)", value) if isinstance(value, str) else None
    )
    if found is None:
        raise ValueError(f"{value!r} is not a duration (as in 2s, 500ms, 1m)")
    return float(found[1]) * _SECONDS[found[2]]


def _as_list(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


def _named_list(value: Any) -> Any:
    """A list of names, or of `name: [addresses]`, or a mapping of both -> (name, addresses)."""
    if isinstance(value, dict):
        value = [{name: held} for name, held in value.items()]
    servers: list[tuple[Any, Any]] = []
    for item in _as_list(value):
        pairs = item.items() if isinstance(item, dict) else [(item, [])]
        servers += [(name, _as_list(held) if held else []) for name, held in pairs]
    return servers


Seconds = Annotated[float, BeforeValidator(_duration)]
Strings = Annotated[list[str], BeforeValidator(_as_list)]


class _Form(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ZoneForm(_Form):
    """zones: <name>: {ns, contact, negative_ttl}."""

    ns: Annotated[list[tuple[str, list[str]]], BeforeValidator(_named_list)]
    contact: str = Field(pattern=r"^[A-Za-z0-9_+-]{1,63}@[A-Za-z0-9.-]+$")
    negative_ttl: Seconds = 5

    def record(self, name: str) -> Record:
        """The zone."""
        servers = tuple(
            NameServer(dns_name(host), tuple(map(parse_address, held))) for host, held in self.ns
        )
        return Zone(dns_name(name), servers, self.contact, int(self.negative_ttl))


class PopForm(_Form):
    """pops: <name>: {location, fallback}."""

    location: tuple[float, float] | None = None
    fallback: Strings = []

    def record(self, name: str) -> Record:
        """The pop."""
        return Pop(name, self.location, tuple(self.fallback))


class RangeForm(_Form):
    """ranges: <prefix>: {pop, services}."""

    pop: str
    services: Strings = []

    def record(self, name: str) -> Record:
        """The range."""
        selectors = []
        for text in self.services:
            service, at, selector = text.partition("@")
            if not at:
                raise Invalid(f"{text!r} is not <service>@<version>")
            selectors.append((service.strip(), parse_selector(selector)))
        return Range(Prefix.parse(name), self.pop, tuple(selectors))


class TtlForm(_Form):
    """ttl: {min, max}."""

    min: Seconds = 5
    max: Seconds = 60


class StickyForm(_Form):
    """sticky: {v4, v6}."""

    v4: int = 32
    v6: int = 64


class CheckForm(_Form):
    """check: one of http, https (a path), grpc, tcp; every, timeout, rise, fall."""

    http: str | None = None
    https: str | None = None
    grpc: str | None = None
    tcp: str | None = None
    every: Seconds = 2
    timeout: Seconds = 1
    rise: int = 2
    fall: int = 3

    def check(self) -> Check:
        """The check."""
        kinds = [kind for kind in ("http", "https", "grpc", "tcp") if kind in self.model_fields_set]
        if len(kinds) != 1:
            raise Invalid([Fault("check", "needs exactly one of http, https, grpc, tcp")])
        path = getattr(self, kinds[0]) if kinds[0].startswith("http") else None
        return Check(kinds[0], path or "/", self.every, self.timeout, self.rise, self.fall)


class ServiceForm(_Form):
    """services: <name>: {name, ports, version, ...}."""

    name: str
    ports: dict[str, str]
    version: str = "latest"
    channels: dict[str, str] = {}
    check: CheckForm | None = None
    ttl: TtlForm = TtlForm()
    max_answers: int = 4
    sticky: StickyForm = StickyForm()
    fail_open: bool = True

    def record(self, name: str) -> Record:
        """The service."""
        channels = {key: _selector(text) for key, text in self.channels.items()}
        return Service(
            name,
            dns_name(self.name),
            tuple(_port(key, text) for key, text in self.ports.items()),
            _selector(self.version),
            tuple(sorted(channels.items(), key=lambda item: item[0])),
            self.check.check() if self.check else None,
            Ttl(int(self.ttl.min), int(self.ttl.max)),
            self.max_answers,
            Sticky(self.sticky.v4, self.sticky.v6),
            self.fail_open,
        )


def _selector(text: str | Mapping[str, str]) -> Selector:
    return parse_selector(text if isinstance(text, str) else str(text))


def _port(name: str, text: str) -> Port:
    number, _, proto = text.partition("/")
    where = f"ports.{name}"
    if not number.isdigit():
        raise Invalid([Fault(where, f"{text!r} is not a port (as in 8080/tcp)")])
    try:
        return Port(name, int(number), proto or "tcp")
    except Invalid as error:
        raise Invalid(Fault(where, fault.what) for fault in error.faults) from None


class InstanceForm(_Form):
    """instances: <name>: {service, version, pop, address, ports, capacity, tags}."""

    service: str
    version: str
    pop: str
    address: Strings
    ports: dict[str, int] = {}
    capacity: float = 1.0
    tags: Strings = []

    def record(self, name: str) -> Record:
        """The instance."""
        return Instance(
            name,
            self.service,
            Version(self.version),
            self.pop,
            tuple(map(parse_address, self.address)),
            tuple(sorted(self.ports.items())),
            self.capacity,
            tuple(self.tags),
        )


AnyForm = ZoneForm | PopForm | RangeForm | ServiceForm | InstanceForm

FORMS: Mapping[Kind, type[AnyForm]] = {
    Kind.ZONES: ZoneForm,
    Kind.POPS: PopForm,
    Kind.RANGES: RangeForm,
    Kind.SERVICES: ServiceForm,
    Kind.INSTANCES: InstanceForm,
}


def _long_range(value: Any) -> Any:
    return {"pop": value} if isinstance(value, str) else value


def _long_pop(value: Any) -> Any:
    return {} if value is None else value


def _long_service(value: Any) -> Any:
    """A split may be written as a mapping: `version: {1.2: 95, 1.3: 5}`."""
    if isinstance(value, dict) and isinstance(value.get("version"), dict):
        arms = ", ".join(f"{arm}: {weight}" for arm, weight in value["version"].items())
        return {**value, "version": "{" + arms + "}"}
    return value


# Short forms -> long ones.
LONG: Mapping[Kind, Callable[[Any], Any]] = {
    Kind.RANGES: _long_range,
    Kind.POPS: _long_pop,
    Kind.SERVICES: _long_service,
}
