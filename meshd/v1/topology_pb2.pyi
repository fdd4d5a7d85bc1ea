from meshd.v1 import records_pb2 as _records_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GetRequest(_message.Message):
    __slots__ = ("kinds", "name")
    KINDS_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    kinds: _containers.RepeatedScalarFieldContainer[str]
    name: str
    def __init__(self, kinds: _Optional[_Iterable[str]] = ..., name: _Optional[str] = ...) -> None: ...

class GetResponse(_message.Message):
    __slots__ = ("revision", "records", "signals", "verdicts", "expires_in_s")
    class SignalsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Signal
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Signal, _Mapping]] = ...) -> None: ...
    class VerdictsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class ExpiresInSEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    REVISION_FIELD_NUMBER: _ClassVar[int]
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    SIGNALS_FIELD_NUMBER: _ClassVar[int]
    VERDICTS_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_IN_S_FIELD_NUMBER: _ClassVar[int]
    revision: int
    records: _containers.RepeatedCompositeFieldContainer[_records_pb2.Record]
    signals: _containers.MessageMap[str, Signal]
    verdicts: _containers.ScalarMap[str, str]
    expires_in_s: _containers.ScalarMap[str, float]
    def __init__(self, revision: _Optional[int] = ..., records: _Optional[_Iterable[_Union[_records_pb2.Record, _Mapping]]] = ..., signals: _Optional[_Mapping[str, Signal]] = ..., verdicts: _Optional[_Mapping[str, str]] = ..., expires_in_s: _Optional[_Mapping[str, float]] = ...) -> None: ...

class PlanRequest(_message.Message):
    __slots__ = ("document", "edits", "clients")
    DOCUMENT_FIELD_NUMBER: _ClassVar[int]
    EDITS_FIELD_NUMBER: _ClassVar[int]
    CLIENTS_FIELD_NUMBER: _ClassVar[int]
    document: str
    edits: _containers.RepeatedCompositeFieldContainer[Edit]
    clients: _containers.RepeatedCompositeFieldContainer[WeightedClient]
    def __init__(self, document: _Optional[str] = ..., edits: _Optional[_Iterable[_Union[Edit, _Mapping]]] = ..., clients: _Optional[_Iterable[_Union[WeightedClient, _Mapping]]] = ...) -> None: ...

class WeightedClient(_message.Message):
    __slots__ = ("client", "weight")
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    client: str
    weight: float
    def __init__(self, client: _Optional[str] = ..., weight: _Optional[float] = ...) -> None: ...

class Flow(_message.Message):
    __slots__ = ("service", "pop", "from_version", "to_version", "share", "instances")
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    POP_FIELD_NUMBER: _ClassVar[int]
    FROM_VERSION_FIELD_NUMBER: _ClassVar[int]
    TO_VERSION_FIELD_NUMBER: _ClassVar[int]
    SHARE_FIELD_NUMBER: _ClassVar[int]
    INSTANCES_FIELD_NUMBER: _ClassVar[int]
    service: str
    pop: str
    from_version: str
    to_version: str
    share: float
    instances: _containers.RepeatedCompositeFieldContainer[InstanceShare]
    def __init__(self, service: _Optional[str] = ..., pop: _Optional[str] = ..., from_version: _Optional[str] = ..., to_version: _Optional[str] = ..., share: _Optional[float] = ..., instances: _Optional[_Iterable[_Union[InstanceShare, _Mapping]]] = ...) -> None: ...

class InstanceShare(_message.Message):
    __slots__ = ("instance", "before", "after")
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    instance: str
    before: float
    after: float
    def __init__(self, instance: _Optional[str] = ..., before: _Optional[float] = ..., after: _Optional[float] = ...) -> None: ...

class PlannedEdit(_message.Message):
    __slots__ = ("kind", "name", "action", "before", "after")
    KIND_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    kind: str
    name: str
    action: str
    before: str
    after: str
    def __init__(self, kind: _Optional[str] = ..., name: _Optional[str] = ..., action: _Optional[str] = ..., before: _Optional[str] = ..., after: _Optional[str] = ...) -> None: ...

class Move(_message.Message):
    __slots__ = ("service", "pop", "set_changes", "first_changes")
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    POP_FIELD_NUMBER: _ClassVar[int]
    SET_CHANGES_FIELD_NUMBER: _ClassVar[int]
    FIRST_CHANGES_FIELD_NUMBER: _ClassVar[int]
    service: str
    pop: str
    set_changes: float
    first_changes: float
    def __init__(self, service: _Optional[str] = ..., pop: _Optional[str] = ..., set_changes: _Optional[float] = ..., first_changes: _Optional[float] = ...) -> None: ...

class PlanResponse(_message.Message):
    __slots__ = ("revision", "edits", "moves", "unsafe", "notes", "flows")
    REVISION_FIELD_NUMBER: _ClassVar[int]
    EDITS_FIELD_NUMBER: _ClassVar[int]
    MOVES_FIELD_NUMBER: _ClassVar[int]
    UNSAFE_FIELD_NUMBER: _ClassVar[int]
    NOTES_FIELD_NUMBER: _ClassVar[int]
    FLOWS_FIELD_NUMBER: _ClassVar[int]
    revision: int
    edits: _containers.RepeatedCompositeFieldContainer[PlannedEdit]
    moves: _containers.RepeatedCompositeFieldContainer[Move]
    unsafe: _containers.RepeatedScalarFieldContainer[str]
    notes: _containers.RepeatedScalarFieldContainer[str]
    flows: _containers.RepeatedCompositeFieldContainer[Flow]
    def __init__(self, revision: _Optional[int] = ..., edits: _Optional[_Iterable[_Union[PlannedEdit, _Mapping]]] = ..., moves: _Optional[_Iterable[_Union[Move, _Mapping]]] = ..., unsafe: _Optional[_Iterable[str]] = ..., notes: _Optional[_Iterable[str]] = ..., flows: _Optional[_Iterable[_Union[Flow, _Mapping]]] = ...) -> None: ...

class PlanRollbackRequest(_message.Message):
    __slots__ = ("revision",)
    REVISION_FIELD_NUMBER: _ClassVar[int]
    revision: int
    def __init__(self, revision: _Optional[int] = ...) -> None: ...

class PlanRollbackResponse(_message.Message):
    __slots__ = ("plan", "edits")
    PLAN_FIELD_NUMBER: _ClassVar[int]
    EDITS_FIELD_NUMBER: _ClassVar[int]
    plan: PlanResponse
    edits: _containers.RepeatedCompositeFieldContainer[Edit]
    def __init__(self, plan: _Optional[_Union[PlanResponse, _Mapping]] = ..., edits: _Optional[_Iterable[_Union[Edit, _Mapping]]] = ...) -> None: ...

class ReplayRequest(_message.Message):
    __slots__ = ("document", "questions")
    DOCUMENT_FIELD_NUMBER: _ClassVar[int]
    QUESTIONS_FIELD_NUMBER: _ClassVar[int]
    document: str
    questions: _containers.RepeatedCompositeFieldContainer[RecordedQuestion]
    def __init__(self, document: _Optional[str] = ..., questions: _Optional[_Iterable[_Union[RecordedQuestion, _Mapping]]] = ...) -> None: ...

class RecordedQuestion(_message.Message):
    __slots__ = ("name", "type", "client", "count")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    name: str
    type: str
    client: str
    count: int
    def __init__(self, name: _Optional[str] = ..., type: _Optional[str] = ..., client: _Optional[str] = ..., count: _Optional[int] = ...) -> None: ...

class ReplayResponse(_message.Message):
    __slots__ = ("answers",)
    ANSWERS_FIELD_NUMBER: _ClassVar[int]
    answers: _containers.RepeatedCompositeFieldContainer[ReplayedAnswer]
    def __init__(self, answers: _Optional[_Iterable[_Union[ReplayedAnswer, _Mapping]]] = ...) -> None: ...

class ReplayedAnswer(_message.Message):
    __slots__ = ("status_before", "status_after", "before", "after", "version_before", "version_after", "ttl_before", "ttl_after")
    STATUS_BEFORE_FIELD_NUMBER: _ClassVar[int]
    STATUS_AFTER_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    VERSION_BEFORE_FIELD_NUMBER: _ClassVar[int]
    VERSION_AFTER_FIELD_NUMBER: _ClassVar[int]
    TTL_BEFORE_FIELD_NUMBER: _ClassVar[int]
    TTL_AFTER_FIELD_NUMBER: _ClassVar[int]
    status_before: str
    status_after: str
    before: _containers.RepeatedScalarFieldContainer[str]
    after: _containers.RepeatedScalarFieldContainer[str]
    version_before: str
    version_after: str
    ttl_before: int
    ttl_after: int
    def __init__(self, status_before: _Optional[str] = ..., status_after: _Optional[str] = ..., before: _Optional[_Iterable[str]] = ..., after: _Optional[_Iterable[str]] = ..., version_before: _Optional[str] = ..., version_after: _Optional[str] = ..., ttl_before: _Optional[int] = ..., ttl_after: _Optional[int] = ...) -> None: ...

class ConfirmRequest(_message.Message):
    __slots__ = ("node", "store_id", "revision")
    NODE_FIELD_NUMBER: _ClassVar[int]
    STORE_ID_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    node: str
    store_id: str
    revision: int
    def __init__(self, node: _Optional[str] = ..., store_id: _Optional[str] = ..., revision: _Optional[int] = ...) -> None: ...

class ConfirmResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ApplyRequest(_message.Message):
    __slots__ = ("document", "revision", "force", "author")
    DOCUMENT_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    FORCE_FIELD_NUMBER: _ClassVar[int]
    AUTHOR_FIELD_NUMBER: _ClassVar[int]
    document: str
    revision: int
    force: bool
    author: str
    def __init__(self, document: _Optional[str] = ..., revision: _Optional[int] = ..., force: _Optional[bool] = ..., author: _Optional[str] = ...) -> None: ...

class ApplyResponse(_message.Message):
    __slots__ = ("revision", "plan")
    REVISION_FIELD_NUMBER: _ClassVar[int]
    PLAN_FIELD_NUMBER: _ClassVar[int]
    revision: int
    plan: PlanResponse
    def __init__(self, revision: _Optional[int] = ..., plan: _Optional[_Union[PlanResponse, _Mapping]] = ...) -> None: ...

class Edit(_message.Message):
    __slots__ = ("kind", "name", "record", "expires_s")
    KIND_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    RECORD_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_S_FIELD_NUMBER: _ClassVar[int]
    kind: str
    name: str
    record: _records_pb2.Record
    expires_s: float
    def __init__(self, kind: _Optional[str] = ..., name: _Optional[str] = ..., record: _Optional[_Union[_records_pb2.Record, _Mapping]] = ..., expires_s: _Optional[float] = ...) -> None: ...

class CommitRequest(_message.Message):
    __slots__ = ("edits", "author", "what", "force", "revision")
    EDITS_FIELD_NUMBER: _ClassVar[int]
    AUTHOR_FIELD_NUMBER: _ClassVar[int]
    WHAT_FIELD_NUMBER: _ClassVar[int]
    FORCE_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    edits: _containers.RepeatedCompositeFieldContainer[Edit]
    author: str
    what: str
    force: bool
    revision: int
    def __init__(self, edits: _Optional[_Iterable[_Union[Edit, _Mapping]]] = ..., author: _Optional[str] = ..., what: _Optional[str] = ..., force: _Optional[bool] = ..., revision: _Optional[int] = ...) -> None: ...

class CommitResponse(_message.Message):
    __slots__ = ("revision",)
    REVISION_FIELD_NUMBER: _ClassVar[int]
    revision: int
    def __init__(self, revision: _Optional[int] = ...) -> None: ...

class HistoryRequest(_message.Message):
    __slots__ = ("limit", "before")
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    limit: int
    before: int
    def __init__(self, limit: _Optional[int] = ..., before: _Optional[int] = ...) -> None: ...

class AuditEdit(_message.Message):
    __slots__ = ("kind", "name", "before", "after")
    KIND_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    kind: str
    name: str
    before: _records_pb2.Record
    after: _records_pb2.Record
    def __init__(self, kind: _Optional[str] = ..., name: _Optional[str] = ..., before: _Optional[_Union[_records_pb2.Record, _Mapping]] = ..., after: _Optional[_Union[_records_pb2.Record, _Mapping]] = ...) -> None: ...

class AuditEntry(_message.Message):
    __slots__ = ("revision", "at_unix_s", "who", "what", "edits")
    REVISION_FIELD_NUMBER: _ClassVar[int]
    AT_UNIX_S_FIELD_NUMBER: _ClassVar[int]
    WHO_FIELD_NUMBER: _ClassVar[int]
    WHAT_FIELD_NUMBER: _ClassVar[int]
    EDITS_FIELD_NUMBER: _ClassVar[int]
    revision: int
    at_unix_s: float
    who: str
    what: str
    edits: _containers.RepeatedCompositeFieldContainer[AuditEdit]
    def __init__(self, revision: _Optional[int] = ..., at_unix_s: _Optional[float] = ..., who: _Optional[str] = ..., what: _Optional[str] = ..., edits: _Optional[_Iterable[_Union[AuditEdit, _Mapping]]] = ...) -> None: ...

class HistoryResponse(_message.Message):
    __slots__ = ("entries",)
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    entries: _containers.RepeatedCompositeFieldContainer[AuditEntry]
    def __init__(self, entries: _Optional[_Iterable[_Union[AuditEntry, _Mapping]]] = ...) -> None: ...

class Signal(_message.Message):
    __slots__ = ("load", "verdict", "share", "kept", "held", "success")
    LOAD_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    SHARE_FIELD_NUMBER: _ClassVar[int]
    KEPT_FIELD_NUMBER: _ClassVar[int]
    HELD_FIELD_NUMBER: _ClassVar[int]
    SUCCESS_FIELD_NUMBER: _ClassVar[int]
    load: float
    verdict: str
    share: float
    kept: float
    held: bool
    success: float
    def __init__(self, load: _Optional[float] = ..., verdict: _Optional[str] = ..., share: _Optional[float] = ..., kept: _Optional[float] = ..., held: _Optional[bool] = ..., success: _Optional[float] = ...) -> None: ...

class SignalChange(_message.Message):
    __slots__ = ("instance", "signal")
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    SIGNAL_FIELD_NUMBER: _ClassVar[int]
    instance: str
    signal: Signal
    def __init__(self, instance: _Optional[str] = ..., signal: _Optional[_Union[Signal, _Mapping]] = ...) -> None: ...

class FollowRequest(_message.Message):
    __slots__ = ("node", "store_id", "revision")
    NODE_FIELD_NUMBER: _ClassVar[int]
    STORE_ID_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    node: str
    store_id: str
    revision: int
    def __init__(self, node: _Optional[str] = ..., store_id: _Optional[str] = ..., revision: _Optional[int] = ...) -> None: ...

class FollowResponse(_message.Message):
    __slots__ = ("begin", "part", "end", "changes", "beat")
    BEGIN_FIELD_NUMBER: _ClassVar[int]
    PART_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    BEAT_FIELD_NUMBER: _ClassVar[int]
    begin: SnapshotBegin
    part: SnapshotPart
    end: SnapshotEnd
    changes: Changes
    beat: Beat
    def __init__(self, begin: _Optional[_Union[SnapshotBegin, _Mapping]] = ..., part: _Optional[_Union[SnapshotPart, _Mapping]] = ..., end: _Optional[_Union[SnapshotEnd, _Mapping]] = ..., changes: _Optional[_Union[Changes, _Mapping]] = ..., beat: _Optional[_Union[Beat, _Mapping]] = ...) -> None: ...

class SnapshotBegin(_message.Message):
    __slots__ = ("store_id", "revision")
    STORE_ID_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    store_id: str
    revision: int
    def __init__(self, store_id: _Optional[str] = ..., revision: _Optional[int] = ...) -> None: ...

class SnapshotPart(_message.Message):
    __slots__ = ("records", "signals")
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    SIGNALS_FIELD_NUMBER: _ClassVar[int]
    records: _containers.RepeatedCompositeFieldContainer[_records_pb2.Record]
    signals: _containers.RepeatedCompositeFieldContainer[SignalChange]
    def __init__(self, records: _Optional[_Iterable[_Union[_records_pb2.Record, _Mapping]]] = ..., signals: _Optional[_Iterable[_Union[SignalChange, _Mapping]]] = ...) -> None: ...

class SnapshotEnd(_message.Message):
    __slots__ = ("records", "signals")
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    SIGNALS_FIELD_NUMBER: _ClassVar[int]
    records: int
    signals: int
    def __init__(self, records: _Optional[int] = ..., signals: _Optional[int] = ...) -> None: ...

class Changes(_message.Message):
    __slots__ = ("revision", "edits", "signals", "all_signals")
    REVISION_FIELD_NUMBER: _ClassVar[int]
    EDITS_FIELD_NUMBER: _ClassVar[int]
    SIGNALS_FIELD_NUMBER: _ClassVar[int]
    ALL_SIGNALS_FIELD_NUMBER: _ClassVar[int]
    revision: int
    edits: _containers.RepeatedCompositeFieldContainer[Edit]
    signals: _containers.RepeatedCompositeFieldContainer[SignalChange]
    all_signals: bool
    def __init__(self, revision: _Optional[int] = ..., edits: _Optional[_Iterable[_Union[Edit, _Mapping]]] = ..., signals: _Optional[_Iterable[_Union[SignalChange, _Mapping]]] = ..., all_signals: _Optional[bool] = ...) -> None: ...

class Beat(_message.Message):
    __slots__ = ("revision", "store_age_s")
    REVISION_FIELD_NUMBER: _ClassVar[int]
    STORE_AGE_S_FIELD_NUMBER: _ClassVar[int]
    revision: int
    store_age_s: float
    def __init__(self, revision: _Optional[int] = ..., store_age_s: _Optional[float] = ...) -> None: ...
