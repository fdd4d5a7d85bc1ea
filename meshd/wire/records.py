"""Store keys and values: `<kind>/<name>` -> a serialized Record.

What stands in a store may have been written by anybody: parsing checks it as hostile input.
"""

from google.protobuf.message import DecodeError

from meshd.core.errors import Invalid, Malformed, Refused
from meshd.core.model import Prefix, Record
from meshd.core.topology import Change, Kind, kind_of
from meshd.v1 import records_pb2 as pb
from meshd.wire.messages import record_from_message, record_to_message

# Put with every topology commit, so that two of them cannot pass each other.
GUARD_KEY = "topology"


def key_of(kind: Kind, name: str) -> str:
    """The store key of a record."""
    return f"{kind}/{name}"


def kind_and_name(key: str) -> tuple[Kind, str] | None:
    """What a key is about; None for keys that hold no record."""
    prefix, slash, name = key.partition("/")
    return (Kind(prefix), name) if slash and prefix in list(Kind) else None


def value_of(record: Record) -> bytes:
    """The stored form of a record; equal records give equal bytes."""
    return record_to_message(record).SerializeToString(deterministic=True)


def record_of(key: str, value: bytes) -> Record:
    """The record under a key; Malformed if the value is none, or belongs elsewhere."""
    try:
        record = record_from_message(pb.Record.FromString(value))
    except (DecodeError, Refused) as error:
        raise Malformed(f"{key}: {error}") from None
    if key_of(kind_of(record), record.name) != key:
        raise Malformed(f"{key}: holds {kind_of(record)} {record.name}")
    return record


def change_of(key: str, value: bytes | None) -> Change | None:
    """A change of one key as a change of a record; None for keys that hold no record."""
    target = kind_and_name(key)
    if target is None:
        return None
    if value is None and target[0] is Kind.RANGES:
        # What goes away may never have been a prefix.
        try:
            Prefix.parse(target[1])
        except Invalid as error:
            raise Malformed(f"{key}: {error}") from None
    return Change(*target, None if value is None else record_of(key, value))
