from meshd.v1 import topology_pb2 as _topology_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Node(_message.Message):
    __slots__ = ("name", "address", "version", "session")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    name: str
    address: str
    version: str
    session: str
    def __init__(self, name: _Optional[str] = ..., address: _Optional[str] = ..., version: _Optional[str] = ..., session: _Optional[str] = ...) -> None: ...

class NodeState(_message.Message):
    __slots__ = ("revision", "store_age_s", "alarm", "instances", "probed", "services", "reporters", "answerers", "is_settled", "confirmed")
    class ConfirmedEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    REVISION_FIELD_NUMBER: _ClassVar[int]
    STORE_AGE_S_FIELD_NUMBER: _ClassVar[int]
    ALARM_FIELD_NUMBER: _ClassVar[int]
    INSTANCES_FIELD_NUMBER: _ClassVar[int]
    PROBED_FIELD_NUMBER: _ClassVar[int]
    SERVICES_FIELD_NUMBER: _ClassVar[int]
    REPORTERS_FIELD_NUMBER: _ClassVar[int]
    ANSWERERS_FIELD_NUMBER: _ClassVar[int]
    IS_SETTLED_FIELD_NUMBER: _ClassVar[int]
    CONFIRMED_FIELD_NUMBER: _ClassVar[int]
    revision: int
    store_age_s: float
    alarm: str
    instances: int
    probed: int
    services: int
    reporters: int
    answerers: _containers.RepeatedScalarFieldContainer[str]
    is_settled: bool
    confirmed: _containers.ScalarMap[str, int]
    def __init__(self, revision: _Optional[int] = ..., store_age_s: _Optional[float] = ..., alarm: _Optional[str] = ..., instances: _Optional[int] = ..., probed: _Optional[int] = ..., services: _Optional[int] = ..., reporters: _Optional[int] = ..., answerers: _Optional[_Iterable[str]] = ..., is_settled: _Optional[bool] = ..., confirmed: _Optional[_Mapping[str, int]] = ...) -> None: ...

class NodesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class NodeStatus(_message.Message):
    __slots__ = ("node", "state", "heard_age_s", "is_asked")
    NODE_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    HEARD_AGE_S_FIELD_NUMBER: _ClassVar[int]
    IS_ASKED_FIELD_NUMBER: _ClassVar[int]
    node: Node
    state: NodeState
    heard_age_s: float
    is_asked: bool
    def __init__(self, node: _Optional[_Union[Node, _Mapping]] = ..., state: _Optional[_Union[NodeState, _Mapping]] = ..., heard_age_s: _Optional[float] = ..., is_asked: _Optional[bool] = ...) -> None: ...

class NodesResponse(_message.Message):
    __slots__ = ("store", "store_id", "nodes")
    STORE_FIELD_NUMBER: _ClassVar[int]
    STORE_ID_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    store: str
    store_id: str
    nodes: _containers.RepeatedCompositeFieldContainer[NodeStatus]
    def __init__(self, store: _Optional[str] = ..., store_id: _Optional[str] = ..., nodes: _Optional[_Iterable[_Union[NodeStatus, _Mapping]]] = ...) -> None: ...

class AcceptStoreRequest(_message.Message):
    __slots__ = ("author",)
    AUTHOR_FIELD_NUMBER: _ClassVar[int]
    author: str
    def __init__(self, author: _Optional[str] = ...) -> None: ...

class AcceptStoreResponse(_message.Message):
    __slots__ = ("store_id", "revision")
    STORE_ID_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    store_id: str
    revision: int
    def __init__(self, store_id: _Optional[str] = ..., revision: _Optional[int] = ...) -> None: ...

class Told(_message.Message):
    __slots__ = ("instance", "load", "load_age_s", "in_flight", "lame_duck", "age_s")
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    LOAD_FIELD_NUMBER: _ClassVar[int]
    LOAD_AGE_S_FIELD_NUMBER: _ClassVar[int]
    IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    LAME_DUCK_FIELD_NUMBER: _ClassVar[int]
    AGE_S_FIELD_NUMBER: _ClassVar[int]
    instance: str
    load: float
    load_age_s: float
    in_flight: int
    lame_duck: bool
    age_s: float
    def __init__(self, instance: _Optional[str] = ..., load: _Optional[float] = ..., load_age_s: _Optional[float] = ..., in_flight: _Optional[int] = ..., lame_duck: _Optional[bool] = ..., age_s: _Optional[float] = ...) -> None: ...

class Vote(_message.Message):
    __slots__ = ("instance", "verdict", "reason", "refuses")
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    REFUSES_FIELD_NUMBER: _ClassVar[int]
    instance: str
    verdict: str
    reason: str
    refuses: bool
    def __init__(self, instance: _Optional[str] = ..., verdict: _Optional[str] = ..., reason: _Optional[str] = ..., refuses: _Optional[bool] = ...) -> None: ...

class Heard(_message.Message):
    __slots__ = ("host", "reporter", "outcomes")
    HOST_FIELD_NUMBER: _ClassVar[int]
    REPORTER_FIELD_NUMBER: _ClassVar[int]
    OUTCOMES_FIELD_NUMBER: _ClassVar[int]
    host: str
    reporter: str
    outcomes: _containers.RepeatedCompositeFieldContainer[HeardOutcome]
    def __init__(self, host: _Optional[str] = ..., reporter: _Optional[str] = ..., outcomes: _Optional[_Iterable[_Union[HeardOutcome, _Mapping]]] = ...) -> None: ...

class HeardOutcome(_message.Message):
    __slots__ = ("instance", "attempts", "connect_errors", "timeouts", "failures", "latency")
    class LatencyEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: int
        value: int
        def __init__(self, key: _Optional[int] = ..., value: _Optional[int] = ...) -> None: ...
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    CONNECT_ERRORS_FIELD_NUMBER: _ClassVar[int]
    TIMEOUTS_FIELD_NUMBER: _ClassVar[int]
    FAILURES_FIELD_NUMBER: _ClassVar[int]
    LATENCY_FIELD_NUMBER: _ClassVar[int]
    instance: str
    attempts: int
    connect_errors: int
    timeouts: int
    failures: int
    latency: _containers.ScalarMap[int, int]
    def __init__(self, instance: _Optional[str] = ..., attempts: _Optional[int] = ..., connect_errors: _Optional[int] = ..., timeouts: _Optional[int] = ..., failures: _Optional[int] = ..., latency: _Optional[_Mapping[int, int]] = ...) -> None: ...

class ExchangeRequest(_message.Message):
    __slots__ = ("store_id", "node", "state", "signals", "told", "votes", "heard", "is_whole", "decides", "revision")
    STORE_ID_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    SIGNALS_FIELD_NUMBER: _ClassVar[int]
    TOLD_FIELD_NUMBER: _ClassVar[int]
    VOTES_FIELD_NUMBER: _ClassVar[int]
    HEARD_FIELD_NUMBER: _ClassVar[int]
    IS_WHOLE_FIELD_NUMBER: _ClassVar[int]
    DECIDES_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    store_id: str
    node: Node
    state: NodeState
    signals: _containers.RepeatedCompositeFieldContainer[_topology_pb2.SignalChange]
    told: _containers.RepeatedCompositeFieldContainer[Told]
    votes: _containers.RepeatedCompositeFieldContainer[Vote]
    heard: _containers.RepeatedCompositeFieldContainer[Heard]
    is_whole: bool
    decides: _containers.RepeatedScalarFieldContainer[str]
    revision: int
    def __init__(self, store_id: _Optional[str] = ..., node: _Optional[_Union[Node, _Mapping]] = ..., state: _Optional[_Union[NodeState, _Mapping]] = ..., signals: _Optional[_Iterable[_Union[_topology_pb2.SignalChange, _Mapping]]] = ..., told: _Optional[_Iterable[_Union[Told, _Mapping]]] = ..., votes: _Optional[_Iterable[_Union[Vote, _Mapping]]] = ..., heard: _Optional[_Iterable[_Union[Heard, _Mapping]]] = ..., is_whole: _Optional[bool] = ..., decides: _Optional[_Iterable[str]] = ..., revision: _Optional[int] = ...) -> None: ...

class ExchangeResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
