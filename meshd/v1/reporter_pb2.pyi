from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ReportRequest(_message.Message):
    __slots__ = ("reporter", "window_s", "outcomes", "dropped")
    REPORTER_FIELD_NUMBER: _ClassVar[int]
    WINDOW_S_FIELD_NUMBER: _ClassVar[int]
    OUTCOMES_FIELD_NUMBER: _ClassVar[int]
    DROPPED_FIELD_NUMBER: _ClassVar[int]
    reporter: str
    window_s: float
    outcomes: _containers.RepeatedCompositeFieldContainer[Outcomes]
    dropped: int
    def __init__(self, reporter: _Optional[str] = ..., window_s: _Optional[float] = ..., outcomes: _Optional[_Iterable[_Union[Outcomes, _Mapping]]] = ..., dropped: _Optional[int] = ...) -> None: ...

class Outcomes(_message.Message):
    __slots__ = ("instance", "address", "port", "service", "attempts", "connect_errors", "timeouts", "failures", "in_flight", "latency")
    class LatencyEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: int
        value: int
        def __init__(self, key: _Optional[int] = ..., value: _Optional[int] = ...) -> None: ...
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    PORT_FIELD_NUMBER: _ClassVar[int]
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    CONNECT_ERRORS_FIELD_NUMBER: _ClassVar[int]
    TIMEOUTS_FIELD_NUMBER: _ClassVar[int]
    FAILURES_FIELD_NUMBER: _ClassVar[int]
    IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    LATENCY_FIELD_NUMBER: _ClassVar[int]
    instance: str
    address: str
    port: int
    service: str
    attempts: int
    connect_errors: int
    timeouts: int
    failures: int
    in_flight: int
    latency: _containers.ScalarMap[int, int]
    def __init__(self, instance: _Optional[str] = ..., address: _Optional[str] = ..., port: _Optional[int] = ..., service: _Optional[str] = ..., attempts: _Optional[int] = ..., connect_errors: _Optional[int] = ..., timeouts: _Optional[int] = ..., failures: _Optional[int] = ..., in_flight: _Optional[int] = ..., latency: _Optional[_Mapping[int, int]] = ...) -> None: ...

class ReportResponse(_message.Message):
    __slots__ = ("every_s", "ignored")
    EVERY_S_FIELD_NUMBER: _ClassVar[int]
    IGNORED_FIELD_NUMBER: _ClassVar[int]
    every_s: float
    ignored: int
    def __init__(self, every_s: _Optional[float] = ..., ignored: _Optional[int] = ...) -> None: ...
