from meshd.v1 import records_pb2 as _records_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RegisterRequest(_message.Message):
    __slots__ = ("instance", "lease_s")
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    LEASE_S_FIELD_NUMBER: _ClassVar[int]
    instance: _records_pb2.Instance
    lease_s: float
    def __init__(self, instance: _Optional[_Union[_records_pb2.Instance, _Mapping]] = ..., lease_s: _Optional[float] = ...) -> None: ...

class RegisterResponse(_message.Message):
    __slots__ = ("lease", "lease_s", "beat_every_s", "instance")
    LEASE_FIELD_NUMBER: _ClassVar[int]
    LEASE_S_FIELD_NUMBER: _ClassVar[int]
    BEAT_EVERY_S_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    lease: int
    lease_s: float
    beat_every_s: float
    instance: _records_pb2.Instance
    def __init__(self, lease: _Optional[int] = ..., lease_s: _Optional[float] = ..., beat_every_s: _Optional[float] = ..., instance: _Optional[_Union[_records_pb2.Instance, _Mapping]] = ...) -> None: ...

class HeartbeatRequest(_message.Message):
    __slots__ = ("instance", "lease", "load")
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    LEASE_FIELD_NUMBER: _ClassVar[int]
    LOAD_FIELD_NUMBER: _ClassVar[int]
    instance: str
    lease: int
    load: float
    def __init__(self, instance: _Optional[str] = ..., lease: _Optional[int] = ..., load: _Optional[float] = ...) -> None: ...

class HeartbeatResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DeregisterRequest(_message.Message):
    __slots__ = ("instance", "lease")
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    LEASE_FIELD_NUMBER: _ClassVar[int]
    instance: str
    lease: int
    def __init__(self, instance: _Optional[str] = ..., lease: _Optional[int] = ...) -> None: ...

class DeregisterResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
