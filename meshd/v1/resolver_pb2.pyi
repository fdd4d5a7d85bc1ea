from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SafeToStopRequest(_message.Message):
    __slots__ = ("instance",)
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    instance: str
    def __init__(self, instance: _Optional[str] = ...) -> None: ...

class SafeToStop(_message.Message):
    __slots__ = ("instance", "verdict", "safe_in_s", "is_answered", "min_ttl_s")
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    SAFE_IN_S_FIELD_NUMBER: _ClassVar[int]
    IS_ANSWERED_FIELD_NUMBER: _ClassVar[int]
    MIN_TTL_S_FIELD_NUMBER: _ClassVar[int]
    instance: str
    verdict: str
    safe_in_s: float
    is_answered: bool
    min_ttl_s: float
    def __init__(self, instance: _Optional[str] = ..., verdict: _Optional[str] = ..., safe_in_s: _Optional[float] = ..., is_answered: _Optional[bool] = ..., min_ttl_s: _Optional[float] = ...) -> None: ...

class SafeToStopResponse(_message.Message):
    __slots__ = ("instances", "revision")
    INSTANCES_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    instances: _containers.RepeatedCompositeFieldContainer[SafeToStop]
    revision: int
    def __init__(self, instances: _Optional[_Iterable[_Union[SafeToStop, _Mapping]]] = ..., revision: _Optional[int] = ...) -> None: ...

class TopRequest(_message.Message):
    __slots__ = ("service", "every_s")
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    EVERY_S_FIELD_NUMBER: _ClassVar[int]
    service: str
    every_s: float
    def __init__(self, service: _Optional[str] = ..., every_s: _Optional[float] = ...) -> None: ...

class TopInstance(_message.Message):
    __slots__ = ("instance", "version", "pop", "verdict", "held", "load", "load_age_s", "in_flight", "share", "weight", "reason", "success", "clients")
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    POP_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    HELD_FIELD_NUMBER: _ClassVar[int]
    LOAD_FIELD_NUMBER: _ClassVar[int]
    LOAD_AGE_S_FIELD_NUMBER: _ClassVar[int]
    IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    SHARE_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    SUCCESS_FIELD_NUMBER: _ClassVar[int]
    CLIENTS_FIELD_NUMBER: _ClassVar[int]
    instance: str
    version: str
    pop: str
    verdict: str
    held: bool
    load: float
    load_age_s: float
    in_flight: int
    share: float
    weight: int
    reason: str
    success: float
    clients: ClientsSeen
    def __init__(self, instance: _Optional[str] = ..., version: _Optional[str] = ..., pop: _Optional[str] = ..., verdict: _Optional[str] = ..., held: _Optional[bool] = ..., load: _Optional[float] = ..., load_age_s: _Optional[float] = ..., in_flight: _Optional[int] = ..., share: _Optional[float] = ..., weight: _Optional[int] = ..., reason: _Optional[str] = ..., success: _Optional[float] = ..., clients: _Optional[_Union[ClientsSeen, _Mapping]] = ...) -> None: ...

class ClientsSeen(_message.Message):
    __slots__ = ("success", "reporters", "connect_errors", "p50_ms", "p99_ms", "disagreement", "pops")
    SUCCESS_FIELD_NUMBER: _ClassVar[int]
    REPORTERS_FIELD_NUMBER: _ClassVar[int]
    CONNECT_ERRORS_FIELD_NUMBER: _ClassVar[int]
    P50_MS_FIELD_NUMBER: _ClassVar[int]
    P99_MS_FIELD_NUMBER: _ClassVar[int]
    DISAGREEMENT_FIELD_NUMBER: _ClassVar[int]
    POPS_FIELD_NUMBER: _ClassVar[int]
    success: float
    reporters: int
    connect_errors: float
    p50_ms: float
    p99_ms: float
    disagreement: str
    pops: _containers.RepeatedCompositeFieldContainer[ClientPop]
    def __init__(self, success: _Optional[float] = ..., reporters: _Optional[int] = ..., connect_errors: _Optional[float] = ..., p50_ms: _Optional[float] = ..., p99_ms: _Optional[float] = ..., disagreement: _Optional[str] = ..., pops: _Optional[_Iterable[_Union[ClientPop, _Mapping]]] = ...) -> None: ...

class ClientPop(_message.Message):
    __slots__ = ("pop", "success", "reporters", "connect_errors", "p50_ms", "p99_ms")
    POP_FIELD_NUMBER: _ClassVar[int]
    SUCCESS_FIELD_NUMBER: _ClassVar[int]
    REPORTERS_FIELD_NUMBER: _ClassVar[int]
    CONNECT_ERRORS_FIELD_NUMBER: _ClassVar[int]
    P50_MS_FIELD_NUMBER: _ClassVar[int]
    P99_MS_FIELD_NUMBER: _ClassVar[int]
    pop: str
    success: float
    reporters: int
    connect_errors: float
    p50_ms: float
    p99_ms: float
    def __init__(self, pop: _Optional[str] = ..., success: _Optional[float] = ..., reporters: _Optional[int] = ..., connect_errors: _Optional[float] = ..., p50_ms: _Optional[float] = ..., p99_ms: _Optional[float] = ...) -> None: ...

class TopPop(_message.Message):
    __slots__ = ("pop", "ttl_min_s", "ttl_max_s")
    POP_FIELD_NUMBER: _ClassVar[int]
    TTL_MIN_S_FIELD_NUMBER: _ClassVar[int]
    TTL_MAX_S_FIELD_NUMBER: _ClassVar[int]
    pop: str
    ttl_min_s: int
    ttl_max_s: int
    def __init__(self, pop: _Optional[str] = ..., ttl_min_s: _Optional[int] = ..., ttl_max_s: _Optional[int] = ...) -> None: ...

class TopService(_message.Message):
    __slots__ = ("service", "pops", "instances")
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    POPS_FIELD_NUMBER: _ClassVar[int]
    INSTANCES_FIELD_NUMBER: _ClassVar[int]
    service: str
    pops: _containers.RepeatedCompositeFieldContainer[TopPop]
    instances: _containers.RepeatedCompositeFieldContainer[TopInstance]
    def __init__(self, service: _Optional[str] = ..., pops: _Optional[_Iterable[_Union[TopPop, _Mapping]]] = ..., instances: _Optional[_Iterable[_Union[TopInstance, _Mapping]]] = ...) -> None: ...

class TopResponse(_message.Message):
    __slots__ = ("revision", "services", "note")
    REVISION_FIELD_NUMBER: _ClassVar[int]
    SERVICES_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    revision: int
    services: _containers.RepeatedCompositeFieldContainer[TopService]
    note: str
    def __init__(self, revision: _Optional[int] = ..., services: _Optional[_Iterable[_Union[TopService, _Mapping]]] = ..., note: _Optional[str] = ...) -> None: ...

class ResolveRequest(_message.Message):
    __slots__ = ("name", "client", "type")
    NAME_FIELD_NUMBER: _ClassVar[int]
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    name: str
    client: str
    type: str
    def __init__(self, name: _Optional[str] = ..., client: _Optional[str] = ..., type: _Optional[str] = ...) -> None: ...

class Endpoint(_message.Message):
    __slots__ = ("instance", "version", "pop", "addresses", "port", "tier", "weight", "in_set")
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    POP_FIELD_NUMBER: _ClassVar[int]
    ADDRESSES_FIELD_NUMBER: _ClassVar[int]
    PORT_FIELD_NUMBER: _ClassVar[int]
    TIER_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    IN_SET_FIELD_NUMBER: _ClassVar[int]
    instance: str
    version: str
    pop: str
    addresses: _containers.RepeatedScalarFieldContainer[str]
    port: int
    tier: int
    weight: int
    in_set: bool
    def __init__(self, instance: _Optional[str] = ..., version: _Optional[str] = ..., pop: _Optional[str] = ..., addresses: _Optional[_Iterable[str]] = ..., port: _Optional[int] = ..., tier: _Optional[int] = ..., weight: _Optional[int] = ..., in_set: _Optional[bool] = ...) -> None: ...

class Motion(_message.Message):
    __slots__ = ("selector_from", "experiment", "arm", "rollout", "to", "percent", "is_moved", "hidden")
    SELECTOR_FROM_FIELD_NUMBER: _ClassVar[int]
    EXPERIMENT_FIELD_NUMBER: _ClassVar[int]
    ARM_FIELD_NUMBER: _ClassVar[int]
    ROLLOUT_FIELD_NUMBER: _ClassVar[int]
    TO_FIELD_NUMBER: _ClassVar[int]
    PERCENT_FIELD_NUMBER: _ClassVar[int]
    IS_MOVED_FIELD_NUMBER: _ClassVar[int]
    HIDDEN_FIELD_NUMBER: _ClassVar[int]
    selector_from: str
    experiment: str
    arm: str
    rollout: str
    to: str
    percent: float
    is_moved: bool
    hidden: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, selector_from: _Optional[str] = ..., experiment: _Optional[str] = ..., arm: _Optional[str] = ..., rollout: _Optional[str] = ..., to: _Optional[str] = ..., percent: _Optional[float] = ..., is_moved: _Optional[bool] = ..., hidden: _Optional[_Iterable[str]] = ...) -> None: ...

class ResolveResponse(_message.Message):
    __slots__ = ("status", "endpoints", "ttl_s", "scope", "revision", "rcode", "answer", "authority", "additional", "motion")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    ENDPOINTS_FIELD_NUMBER: _ClassVar[int]
    TTL_S_FIELD_NUMBER: _ClassVar[int]
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    RCODE_FIELD_NUMBER: _ClassVar[int]
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    AUTHORITY_FIELD_NUMBER: _ClassVar[int]
    ADDITIONAL_FIELD_NUMBER: _ClassVar[int]
    MOTION_FIELD_NUMBER: _ClassVar[int]
    status: str
    endpoints: _containers.RepeatedCompositeFieldContainer[Endpoint]
    ttl_s: int
    scope: int
    revision: int
    rcode: str
    answer: _containers.RepeatedScalarFieldContainer[str]
    authority: _containers.RepeatedScalarFieldContainer[str]
    additional: _containers.RepeatedScalarFieldContainer[str]
    motion: Motion
    def __init__(self, status: _Optional[str] = ..., endpoints: _Optional[_Iterable[_Union[Endpoint, _Mapping]]] = ..., ttl_s: _Optional[int] = ..., scope: _Optional[int] = ..., revision: _Optional[int] = ..., rcode: _Optional[str] = ..., answer: _Optional[_Iterable[str]] = ..., authority: _Optional[_Iterable[str]] = ..., additional: _Optional[_Iterable[str]] = ..., motion: _Optional[_Union[Motion, _Mapping]] = ...) -> None: ...

class ExplainRequest(_message.Message):
    __slots__ = ("name", "client")
    NAME_FIELD_NUMBER: _ClassVar[int]
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    name: str
    client: str
    def __init__(self, name: _Optional[str] = ..., client: _Optional[str] = ...) -> None: ...

class ExplainedInstance(_message.Message):
    __slots__ = ("instance", "version", "pop", "verdict", "capacity", "load", "headroom", "weight", "place", "tier", "cost", "in_set", "excluded", "share", "kept", "held", "reason", "ttl_s", "success", "clients")
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    POP_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    CAPACITY_FIELD_NUMBER: _ClassVar[int]
    LOAD_FIELD_NUMBER: _ClassVar[int]
    HEADROOM_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    PLACE_FIELD_NUMBER: _ClassVar[int]
    TIER_FIELD_NUMBER: _ClassVar[int]
    COST_FIELD_NUMBER: _ClassVar[int]
    IN_SET_FIELD_NUMBER: _ClassVar[int]
    EXCLUDED_FIELD_NUMBER: _ClassVar[int]
    SHARE_FIELD_NUMBER: _ClassVar[int]
    KEPT_FIELD_NUMBER: _ClassVar[int]
    HELD_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    TTL_S_FIELD_NUMBER: _ClassVar[int]
    SUCCESS_FIELD_NUMBER: _ClassVar[int]
    CLIENTS_FIELD_NUMBER: _ClassVar[int]
    instance: str
    version: str
    pop: str
    verdict: str
    capacity: float
    load: float
    headroom: float
    weight: int
    place: int
    tier: int
    cost: float
    in_set: bool
    excluded: str
    share: float
    kept: float
    held: bool
    reason: str
    ttl_s: float
    success: float
    clients: ClientsSeen
    def __init__(self, instance: _Optional[str] = ..., version: _Optional[str] = ..., pop: _Optional[str] = ..., verdict: _Optional[str] = ..., capacity: _Optional[float] = ..., load: _Optional[float] = ..., headroom: _Optional[float] = ..., weight: _Optional[int] = ..., place: _Optional[int] = ..., tier: _Optional[int] = ..., cost: _Optional[float] = ..., in_set: _Optional[bool] = ..., excluded: _Optional[str] = ..., share: _Optional[float] = ..., kept: _Optional[float] = ..., held: _Optional[bool] = ..., reason: _Optional[str] = ..., ttl_s: _Optional[float] = ..., success: _Optional[float] = ..., clients: _Optional[_Union[ClientsSeen, _Mapping]] = ...) -> None: ...

class ExplainResponse(_message.Message):
    __slots__ = ("status", "name", "client", "revision", "zone", "service", "ranges", "range", "pop", "selector", "selector_from", "arm", "bucket", "key_length", "scope", "instances", "ttl_s", "ttl_reason", "ttl_min_s", "ttl_max_s", "ttl_headroom", "notes", "ttl_load_s", "ttl_verdict_s", "ttl_change_s", "ttl_rollout_s", "motion")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    ZONE_FIELD_NUMBER: _ClassVar[int]
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    RANGES_FIELD_NUMBER: _ClassVar[int]
    RANGE_FIELD_NUMBER: _ClassVar[int]
    POP_FIELD_NUMBER: _ClassVar[int]
    SELECTOR_FIELD_NUMBER: _ClassVar[int]
    SELECTOR_FROM_FIELD_NUMBER: _ClassVar[int]
    ARM_FIELD_NUMBER: _ClassVar[int]
    BUCKET_FIELD_NUMBER: _ClassVar[int]
    KEY_LENGTH_FIELD_NUMBER: _ClassVar[int]
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    INSTANCES_FIELD_NUMBER: _ClassVar[int]
    TTL_S_FIELD_NUMBER: _ClassVar[int]
    TTL_REASON_FIELD_NUMBER: _ClassVar[int]
    TTL_MIN_S_FIELD_NUMBER: _ClassVar[int]
    TTL_MAX_S_FIELD_NUMBER: _ClassVar[int]
    TTL_HEADROOM_FIELD_NUMBER: _ClassVar[int]
    NOTES_FIELD_NUMBER: _ClassVar[int]
    TTL_LOAD_S_FIELD_NUMBER: _ClassVar[int]
    TTL_VERDICT_S_FIELD_NUMBER: _ClassVar[int]
    TTL_CHANGE_S_FIELD_NUMBER: _ClassVar[int]
    TTL_ROLLOUT_S_FIELD_NUMBER: _ClassVar[int]
    MOTION_FIELD_NUMBER: _ClassVar[int]
    status: str
    name: str
    client: str
    revision: int
    zone: str
    service: str
    ranges: _containers.RepeatedScalarFieldContainer[str]
    range: str
    pop: str
    selector: str
    selector_from: str
    arm: str
    bucket: int
    key_length: int
    scope: int
    instances: _containers.RepeatedCompositeFieldContainer[ExplainedInstance]
    ttl_s: int
    ttl_reason: str
    ttl_min_s: int
    ttl_max_s: int
    ttl_headroom: float
    notes: _containers.RepeatedScalarFieldContainer[str]
    ttl_load_s: int
    ttl_verdict_s: float
    ttl_change_s: int
    ttl_rollout_s: int
    motion: Motion
    def __init__(self, status: _Optional[str] = ..., name: _Optional[str] = ..., client: _Optional[str] = ..., revision: _Optional[int] = ..., zone: _Optional[str] = ..., service: _Optional[str] = ..., ranges: _Optional[_Iterable[str]] = ..., range: _Optional[str] = ..., pop: _Optional[str] = ..., selector: _Optional[str] = ..., selector_from: _Optional[str] = ..., arm: _Optional[str] = ..., bucket: _Optional[int] = ..., key_length: _Optional[int] = ..., scope: _Optional[int] = ..., instances: _Optional[_Iterable[_Union[ExplainedInstance, _Mapping]]] = ..., ttl_s: _Optional[int] = ..., ttl_reason: _Optional[str] = ..., ttl_min_s: _Optional[int] = ..., ttl_max_s: _Optional[int] = ..., ttl_headroom: _Optional[float] = ..., notes: _Optional[_Iterable[str]] = ..., ttl_load_s: _Optional[int] = ..., ttl_verdict_s: _Optional[float] = ..., ttl_change_s: _Optional[int] = ..., ttl_rollout_s: _Optional[int] = ..., motion: _Optional[_Union[Motion, _Mapping]] = ...) -> None: ...
