from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class NameServer(_message.Message):
    __slots__ = ("name", "addresses")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ADDRESSES_FIELD_NUMBER: _ClassVar[int]
    name: str
    addresses: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., addresses: _Optional[_Iterable[str]] = ...) -> None: ...

class Zone(_message.Message):
    __slots__ = ("name", "ns", "contact", "negative_ttl_s")
    NAME_FIELD_NUMBER: _ClassVar[int]
    NS_FIELD_NUMBER: _ClassVar[int]
    CONTACT_FIELD_NUMBER: _ClassVar[int]
    NEGATIVE_TTL_S_FIELD_NUMBER: _ClassVar[int]
    name: str
    ns: _containers.RepeatedCompositeFieldContainer[NameServer]
    contact: str
    negative_ttl_s: int
    def __init__(self, name: _Optional[str] = ..., ns: _Optional[_Iterable[_Union[NameServer, _Mapping]]] = ..., contact: _Optional[str] = ..., negative_ttl_s: _Optional[int] = ...) -> None: ...

class Location(_message.Message):
    __slots__ = ("latitude", "longitude")
    LATITUDE_FIELD_NUMBER: _ClassVar[int]
    LONGITUDE_FIELD_NUMBER: _ClassVar[int]
    latitude: float
    longitude: float
    def __init__(self, latitude: _Optional[float] = ..., longitude: _Optional[float] = ...) -> None: ...

class Pop(_message.Message):
    __slots__ = ("name", "location", "fallback")
    NAME_FIELD_NUMBER: _ClassVar[int]
    LOCATION_FIELD_NUMBER: _ClassVar[int]
    FALLBACK_FIELD_NUMBER: _ClassVar[int]
    name: str
    location: Location
    fallback: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., location: _Optional[_Union[Location, _Mapping]] = ..., fallback: _Optional[_Iterable[str]] = ...) -> None: ...

class NamedSelector(_message.Message):
    __slots__ = ("name", "selector")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SELECTOR_FIELD_NUMBER: _ClassVar[int]
    name: str
    selector: str
    def __init__(self, name: _Optional[str] = ..., selector: _Optional[str] = ...) -> None: ...

class Range(_message.Message):
    __slots__ = ("prefix", "pop", "services")
    PREFIX_FIELD_NUMBER: _ClassVar[int]
    POP_FIELD_NUMBER: _ClassVar[int]
    SERVICES_FIELD_NUMBER: _ClassVar[int]
    prefix: str
    pop: str
    services: _containers.RepeatedCompositeFieldContainer[NamedSelector]
    def __init__(self, prefix: _Optional[str] = ..., pop: _Optional[str] = ..., services: _Optional[_Iterable[_Union[NamedSelector, _Mapping]]] = ...) -> None: ...

class Port(_message.Message):
    __slots__ = ("name", "number", "proto")
    NAME_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    PROTO_FIELD_NUMBER: _ClassVar[int]
    name: str
    number: int
    proto: str
    def __init__(self, name: _Optional[str] = ..., number: _Optional[int] = ..., proto: _Optional[str] = ...) -> None: ...

class Check(_message.Message):
    __slots__ = ("kind", "path", "every_s", "timeout_s", "rise", "fall", "port", "host", "sni", "jitter", "statuses", "body")
    KIND_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    EVERY_S_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_S_FIELD_NUMBER: _ClassVar[int]
    RISE_FIELD_NUMBER: _ClassVar[int]
    FALL_FIELD_NUMBER: _ClassVar[int]
    PORT_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    SNI_FIELD_NUMBER: _ClassVar[int]
    JITTER_FIELD_NUMBER: _ClassVar[int]
    STATUSES_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    kind: str
    path: str
    every_s: float
    timeout_s: float
    rise: int
    fall: int
    port: str
    host: str
    sni: str
    jitter: float
    statuses: _containers.RepeatedCompositeFieldContainer[StatusRange]
    body: str
    def __init__(self, kind: _Optional[str] = ..., path: _Optional[str] = ..., every_s: _Optional[float] = ..., timeout_s: _Optional[float] = ..., rise: _Optional[int] = ..., fall: _Optional[int] = ..., port: _Optional[str] = ..., host: _Optional[str] = ..., sni: _Optional[str] = ..., jitter: _Optional[float] = ..., statuses: _Optional[_Iterable[_Union[StatusRange, _Mapping]]] = ..., body: _Optional[str] = ...) -> None: ...

class StatusRange(_message.Message):
    __slots__ = ("lowest", "highest")
    LOWEST_FIELD_NUMBER: _ClassVar[int]
    HIGHEST_FIELD_NUMBER: _ClassVar[int]
    lowest: int
    highest: int
    def __init__(self, lowest: _Optional[int] = ..., highest: _Optional[int] = ...) -> None: ...

class Service(_message.Message):
    __slots__ = ("name", "dns", "ports", "selector", "channels", "check", "ttl_min_s", "ttl_max_s", "max_answers", "sticky_v4", "sticky_v6", "fail_open", "slow_start_s", "max_removal", "on_new_version", "course")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DNS_FIELD_NUMBER: _ClassVar[int]
    PORTS_FIELD_NUMBER: _ClassVar[int]
    SELECTOR_FIELD_NUMBER: _ClassVar[int]
    CHANNELS_FIELD_NUMBER: _ClassVar[int]
    CHECK_FIELD_NUMBER: _ClassVar[int]
    TTL_MIN_S_FIELD_NUMBER: _ClassVar[int]
    TTL_MAX_S_FIELD_NUMBER: _ClassVar[int]
    MAX_ANSWERS_FIELD_NUMBER: _ClassVar[int]
    STICKY_V4_FIELD_NUMBER: _ClassVar[int]
    STICKY_V6_FIELD_NUMBER: _ClassVar[int]
    FAIL_OPEN_FIELD_NUMBER: _ClassVar[int]
    SLOW_START_S_FIELD_NUMBER: _ClassVar[int]
    MAX_REMOVAL_FIELD_NUMBER: _ClassVar[int]
    ON_NEW_VERSION_FIELD_NUMBER: _ClassVar[int]
    COURSE_FIELD_NUMBER: _ClassVar[int]
    name: str
    dns: str
    ports: _containers.RepeatedCompositeFieldContainer[Port]
    selector: str
    channels: _containers.RepeatedCompositeFieldContainer[NamedSelector]
    check: Check
    ttl_min_s: int
    ttl_max_s: int
    max_answers: int
    sticky_v4: int
    sticky_v6: int
    fail_open: bool
    slow_start_s: float
    max_removal: float
    on_new_version: str
    course: Course
    def __init__(self, name: _Optional[str] = ..., dns: _Optional[str] = ..., ports: _Optional[_Iterable[_Union[Port, _Mapping]]] = ..., selector: _Optional[str] = ..., channels: _Optional[_Iterable[_Union[NamedSelector, _Mapping]]] = ..., check: _Optional[_Union[Check, _Mapping]] = ..., ttl_min_s: _Optional[int] = ..., ttl_max_s: _Optional[int] = ..., max_answers: _Optional[int] = ..., sticky_v4: _Optional[int] = ..., sticky_v6: _Optional[int] = ..., fail_open: _Optional[bool] = ..., slow_start_s: _Optional[float] = ..., max_removal: _Optional[float] = ..., on_new_version: _Optional[str] = ..., course: _Optional[_Union[Course, _Mapping]] = ...) -> None: ...

class Instance(_message.Message):
    __slots__ = ("name", "service", "version", "pop", "addresses", "ports", "capacity", "tags", "registered", "epoch")
    class PortsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    POP_FIELD_NUMBER: _ClassVar[int]
    ADDRESSES_FIELD_NUMBER: _ClassVar[int]
    PORTS_FIELD_NUMBER: _ClassVar[int]
    CAPACITY_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    REGISTERED_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    name: str
    service: str
    version: str
    pop: str
    addresses: _containers.RepeatedScalarFieldContainer[str]
    ports: _containers.ScalarMap[str, int]
    capacity: float
    tags: _containers.RepeatedScalarFieldContainer[str]
    registered: bool
    epoch: int
    def __init__(self, name: _Optional[str] = ..., service: _Optional[str] = ..., version: _Optional[str] = ..., pop: _Optional[str] = ..., addresses: _Optional[_Iterable[str]] = ..., ports: _Optional[_Mapping[str, int]] = ..., capacity: _Optional[float] = ..., tags: _Optional[_Iterable[str]] = ..., registered: _Optional[bool] = ..., epoch: _Optional[int] = ...) -> None: ...

class Override(_message.Message):
    __slots__ = ("instance", "force")
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    FORCE_FIELD_NUMBER: _ClassVar[int]
    instance: str
    force: str
    def __init__(self, instance: _Optional[str] = ..., force: _Optional[str] = ...) -> None: ...

class Presence(_message.Message):
    __slots__ = ("instance", "epoch")
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    instance: str
    epoch: int
    def __init__(self, instance: _Optional[str] = ..., epoch: _Optional[int] = ...) -> None: ...

class Step(_message.Message):
    __slots__ = ("percent", "hold_s")
    PERCENT_FIELD_NUMBER: _ClassVar[int]
    HOLD_S_FIELD_NUMBER: _ClassVar[int]
    percent: float
    hold_s: float
    def __init__(self, percent: _Optional[float] = ..., hold_s: _Optional[float] = ...) -> None: ...

class Course(_message.Message):
    __slots__ = ("steps", "gates", "min_outcomes", "min_reporters", "on_gate_missing")
    STEPS_FIELD_NUMBER: _ClassVar[int]
    GATES_FIELD_NUMBER: _ClassVar[int]
    MIN_OUTCOMES_FIELD_NUMBER: _ClassVar[int]
    MIN_REPORTERS_FIELD_NUMBER: _ClassVar[int]
    ON_GATE_MISSING_FIELD_NUMBER: _ClassVar[int]
    steps: _containers.RepeatedCompositeFieldContainer[Step]
    gates: _containers.RepeatedScalarFieldContainer[str]
    min_outcomes: int
    min_reporters: int
    on_gate_missing: str
    def __init__(self, steps: _Optional[_Iterable[_Union[Step, _Mapping]]] = ..., gates: _Optional[_Iterable[str]] = ..., min_outcomes: _Optional[int] = ..., min_reporters: _Optional[int] = ..., on_gate_missing: _Optional[str] = ...) -> None: ...

class Scope(_message.Message):
    __slots__ = ("pops", "ranges")
    POPS_FIELD_NUMBER: _ClassVar[int]
    RANGES_FIELD_NUMBER: _ClassVar[int]
    pops: _containers.RepeatedScalarFieldContainer[str]
    ranges: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, pops: _Optional[_Iterable[str]] = ..., ranges: _Optional[_Iterable[str]] = ...) -> None: ...

class Rollout(_message.Message):
    __slots__ = ("name", "service", "to", "course", "scope", "phase", "step", "held_s", "order", "reason", "figures", "author", "began_unix_s", "changed_unix_s")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    TO_FIELD_NUMBER: _ClassVar[int]
    COURSE_FIELD_NUMBER: _ClassVar[int]
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    HELD_S_FIELD_NUMBER: _ClassVar[int]
    ORDER_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    FIGURES_FIELD_NUMBER: _ClassVar[int]
    AUTHOR_FIELD_NUMBER: _ClassVar[int]
    BEGAN_UNIX_S_FIELD_NUMBER: _ClassVar[int]
    CHANGED_UNIX_S_FIELD_NUMBER: _ClassVar[int]
    name: str
    service: str
    to: str
    course: Course
    scope: Scope
    phase: str
    step: int
    held_s: float
    order: int
    reason: str
    figures: _containers.RepeatedScalarFieldContainer[str]
    author: str
    began_unix_s: float
    changed_unix_s: float
    def __init__(self, name: _Optional[str] = ..., service: _Optional[str] = ..., to: _Optional[str] = ..., course: _Optional[_Union[Course, _Mapping]] = ..., scope: _Optional[_Union[Scope, _Mapping]] = ..., phase: _Optional[str] = ..., step: _Optional[int] = ..., held_s: _Optional[float] = ..., order: _Optional[int] = ..., reason: _Optional[str] = ..., figures: _Optional[_Iterable[str]] = ..., author: _Optional[str] = ..., began_unix_s: _Optional[float] = ..., changed_unix_s: _Optional[float] = ...) -> None: ...

class ExperimentArm(_message.Message):
    __slots__ = ("name", "selector", "percent")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SELECTOR_FIELD_NUMBER: _ClassVar[int]
    PERCENT_FIELD_NUMBER: _ClassVar[int]
    name: str
    selector: str
    percent: float
    def __init__(self, name: _Optional[str] = ..., selector: _Optional[str] = ..., percent: _Optional[float] = ...) -> None: ...

class Experiment(_message.Message):
    __slots__ = ("name", "service", "arms", "scope", "order", "author", "began_unix_s")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    ARMS_FIELD_NUMBER: _ClassVar[int]
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    ORDER_FIELD_NUMBER: _ClassVar[int]
    AUTHOR_FIELD_NUMBER: _ClassVar[int]
    BEGAN_UNIX_S_FIELD_NUMBER: _ClassVar[int]
    name: str
    service: str
    arms: _containers.RepeatedCompositeFieldContainer[ExperimentArm]
    scope: Scope
    order: int
    author: str
    began_unix_s: float
    def __init__(self, name: _Optional[str] = ..., service: _Optional[str] = ..., arms: _Optional[_Iterable[_Union[ExperimentArm, _Mapping]]] = ..., scope: _Optional[_Union[Scope, _Mapping]] = ..., order: _Optional[int] = ..., author: _Optional[str] = ..., began_unix_s: _Optional[float] = ...) -> None: ...

class Record(_message.Message):
    __slots__ = ("zone", "pop", "range", "service", "instance", "override", "presence", "rollout", "experiment")
    ZONE_FIELD_NUMBER: _ClassVar[int]
    POP_FIELD_NUMBER: _ClassVar[int]
    RANGE_FIELD_NUMBER: _ClassVar[int]
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    OVERRIDE_FIELD_NUMBER: _ClassVar[int]
    PRESENCE_FIELD_NUMBER: _ClassVar[int]
    ROLLOUT_FIELD_NUMBER: _ClassVar[int]
    EXPERIMENT_FIELD_NUMBER: _ClassVar[int]
    zone: Zone
    pop: Pop
    range: Range
    service: Service
    instance: Instance
    override: Override
    presence: Presence
    rollout: Rollout
    experiment: Experiment
    def __init__(self, zone: _Optional[_Union[Zone, _Mapping]] = ..., pop: _Optional[_Union[Pop, _Mapping]] = ..., range: _Optional[_Union[Range, _Mapping]] = ..., service: _Optional[_Union[Service, _Mapping]] = ..., instance: _Optional[_Union[Instance, _Mapping]] = ..., override: _Optional[_Union[Override, _Mapping]] = ..., presence: _Optional[_Union[Presence, _Mapping]] = ..., rollout: _Optional[_Union[Rollout, _Mapping]] = ..., experiment: _Optional[_Union[Experiment, _Mapping]] = ...) -> None: ...
