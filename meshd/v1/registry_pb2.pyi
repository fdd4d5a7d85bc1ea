from meshd.v1 import records_pb2 as _records_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RegisterRequest(_message.Message):
    __slots__ = ("hello", "beat", "leave")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    BEAT_FIELD_NUMBER: _ClassVar[int]
    LEAVE_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    beat: Heartbeat
    leave: Leave
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., beat: _Optional[_Union[Heartbeat, _Mapping]] = ..., leave: _Optional[_Union[Leave, _Mapping]] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("instance", "lease_s", "epoch", "beat")
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    LEASE_S_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    BEAT_FIELD_NUMBER: _ClassVar[int]
    instance: _records_pb2.Instance
    lease_s: float
    epoch: int
    beat: Heartbeat
    def __init__(self, instance: _Optional[_Union[_records_pb2.Instance, _Mapping]] = ..., lease_s: _Optional[float] = ..., epoch: _Optional[int] = ..., beat: _Optional[_Union[Heartbeat, _Mapping]] = ...) -> None: ...

class Heartbeat(_message.Message):
    __slots__ = ("load", "in_flight", "lame_duck")
    LOAD_FIELD_NUMBER: _ClassVar[int]
    IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    LAME_DUCK_FIELD_NUMBER: _ClassVar[int]
    load: float
    in_flight: int
    lame_duck: bool
    def __init__(self, load: _Optional[float] = ..., in_flight: _Optional[int] = ..., lame_duck: _Optional[bool] = ...) -> None: ...

class Leave(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class RegisterResponse(_message.Message):
    __slots__ = ("welcome", "beaten")
    WELCOME_FIELD_NUMBER: _ClassVar[int]
    BEATEN_FIELD_NUMBER: _ClassVar[int]
    welcome: Welcome
    beaten: Beaten
    def __init__(self, welcome: _Optional[_Union[Welcome, _Mapping]] = ..., beaten: _Optional[_Union[Beaten, _Mapping]] = ...) -> None: ...

class Welcome(_message.Message):
    __slots__ = ("epoch", "lease_s", "beat_every_s", "instance")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    LEASE_S_FIELD_NUMBER: _ClassVar[int]
    BEAT_EVERY_S_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    lease_s: float
    beat_every_s: float
    instance: _records_pb2.Instance
    def __init__(self, epoch: _Optional[int] = ..., lease_s: _Optional[float] = ..., beat_every_s: _Optional[float] = ..., instance: _Optional[_Union[_records_pb2.Instance, _Mapping]] = ...) -> None: ...

class Beaten(_message.Message):
    __slots__ = ("safe_in_s",)
    SAFE_IN_S_FIELD_NUMBER: _ClassVar[int]
    safe_in_s: float
    def __init__(self, safe_in_s: _Optional[float] = ...) -> None: ...
