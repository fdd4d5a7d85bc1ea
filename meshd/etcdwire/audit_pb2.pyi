from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class AuditRecord(_message.Message):
    __slots__ = ("at_unix_s", "who", "what", "edits")
    AT_UNIX_S_FIELD_NUMBER: _ClassVar[int]
    WHO_FIELD_NUMBER: _ClassVar[int]
    WHAT_FIELD_NUMBER: _ClassVar[int]
    EDITS_FIELD_NUMBER: _ClassVar[int]
    at_unix_s: float
    who: str
    what: str
    edits: _containers.RepeatedCompositeFieldContainer[AuditEdit]
    def __init__(self, at_unix_s: _Optional[float] = ..., who: _Optional[str] = ..., what: _Optional[str] = ..., edits: _Optional[_Iterable[_Union[AuditEdit, _Mapping]]] = ...) -> None: ...

class AuditEdit(_message.Message):
    __slots__ = ("key", "before", "after")
    KEY_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    key: str
    before: bytes
    after: bytes
    def __init__(self, key: _Optional[str] = ..., before: _Optional[bytes] = ..., after: _Optional[bytes] = ...) -> None: ...
