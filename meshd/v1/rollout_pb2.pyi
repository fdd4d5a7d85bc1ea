from meshd.v1 import records_pb2 as _records_pb2
from meshd.v1 import topology_pb2 as _topology_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class StartRequest(_message.Message):
    __slots__ = ("service", "to", "id", "course", "scope", "author")
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    TO_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    COURSE_FIELD_NUMBER: _ClassVar[int]
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    AUTHOR_FIELD_NUMBER: _ClassVar[int]
    service: str
    to: str
    id: str
    course: _records_pb2.Course
    scope: _records_pb2.Scope
    author: str
    def __init__(self, service: _Optional[str] = ..., to: _Optional[str] = ..., id: _Optional[str] = ..., course: _Optional[_Union[_records_pb2.Course, _Mapping]] = ..., scope: _Optional[_Union[_records_pb2.Scope, _Mapping]] = ..., author: _Optional[str] = ...) -> None: ...

class StartResponse(_message.Message):
    __slots__ = ("rollout", "is_new", "revision")
    ROLLOUT_FIELD_NUMBER: _ClassVar[int]
    IS_NEW_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    rollout: _records_pb2.Rollout
    is_new: bool
    revision: int
    def __init__(self, rollout: _Optional[_Union[_records_pb2.Rollout, _Mapping]] = ..., is_new: _Optional[bool] = ..., revision: _Optional[int] = ...) -> None: ...

class PreviewStep(_message.Message):
    __slots__ = ("percent", "flows")
    PERCENT_FIELD_NUMBER: _ClassVar[int]
    FLOWS_FIELD_NUMBER: _ClassVar[int]
    percent: float
    flows: _containers.RepeatedCompositeFieldContainer[_topology_pb2.Flow]
    def __init__(self, percent: _Optional[float] = ..., flows: _Optional[_Iterable[_Union[_topology_pb2.Flow, _Mapping]]] = ...) -> None: ...

class PreviewResponse(_message.Message):
    __slots__ = ("rollout", "steps", "notes")
    ROLLOUT_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    NOTES_FIELD_NUMBER: _ClassVar[int]
    rollout: _records_pb2.Rollout
    steps: _containers.RepeatedCompositeFieldContainer[PreviewStep]
    notes: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, rollout: _Optional[_Union[_records_pb2.Rollout, _Mapping]] = ..., steps: _Optional[_Iterable[_Union[PreviewStep, _Mapping]]] = ..., notes: _Optional[_Iterable[str]] = ...) -> None: ...

class MoveRequest(_message.Message):
    __slots__ = ("id", "service", "action", "reason", "author")
    ID_FIELD_NUMBER: _ClassVar[int]
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    AUTHOR_FIELD_NUMBER: _ClassVar[int]
    id: str
    service: str
    action: str
    reason: str
    author: str
    def __init__(self, id: _Optional[str] = ..., service: _Optional[str] = ..., action: _Optional[str] = ..., reason: _Optional[str] = ..., author: _Optional[str] = ...) -> None: ...

class MoveResponse(_message.Message):
    __slots__ = ("rollout", "revision")
    ROLLOUT_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    rollout: _records_pb2.Rollout
    revision: int
    def __init__(self, rollout: _Optional[_Union[_records_pb2.Rollout, _Mapping]] = ..., revision: _Optional[int] = ...) -> None: ...

class ListRequest(_message.Message):
    __slots__ = ("service",)
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    service: str
    def __init__(self, service: _Optional[str] = ...) -> None: ...

class ListResponse(_message.Message):
    __slots__ = ("rollouts", "revision")
    ROLLOUTS_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    rollouts: _containers.RepeatedCompositeFieldContainer[_records_pb2.Rollout]
    revision: int
    def __init__(self, rollouts: _Optional[_Iterable[_Union[_records_pb2.Rollout, _Mapping]]] = ..., revision: _Optional[int] = ...) -> None: ...

class WatchRequest(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class WatchResponse(_message.Message):
    __slots__ = ("rollout", "revision")
    ROLLOUT_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    rollout: _records_pb2.Rollout
    revision: int
    def __init__(self, rollout: _Optional[_Union[_records_pb2.Rollout, _Mapping]] = ..., revision: _Optional[int] = ...) -> None: ...
