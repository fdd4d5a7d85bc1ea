"""Parts of transactions. No I/O here."""

from collections.abc import Iterable, Sequence
from typing import Any

from meshd.daemon.etcd.span import Span
from meshd.etcdwire import etcd_pb2 as pb

# etcd counts what stands side by side (compares, or operations if those are more), and the sum
# of it from the top of a transaction down to its innermost part (etcdserver checkTxnRequest).
_MAX_SUM = 128
_WIDTH = 32
# With no more compares than these, transactions may be nested twice.
MAX_COMPARES = _MAX_SUM - 2 * _WIDTH
MAX_NESTED = MAX_COMPARES * _WIDTH**2
# etcd takes 1.5 MiB, some of which its own log needs.
MAX_BYTES = 1_400_000


def is_at(key: bytes, revision: int) -> Any:
    """Passes if a key was last changed at a revision; 0: if there is no such key."""
    return pb.Compare(key=key, target=pb.Compare.MOD, mod_revision=revision)


def is_value(key: bytes, value: bytes) -> Any:
    """Passes if a key has a value."""
    return pb.Compare(key=key, target=pb.Compare.VALUE, value=value)


def get(key: bytes, revision: int = 0) -> Any:
    """Reads a key, as it is or as it was at a revision."""
    return pb.RequestOp(request_range=pb.RangeRequest(key=key, revision=revision))


def put(key: bytes, value: bytes, lease: int = 0) -> Any:
    """Sets a key."""
    return pb.RequestOp(request_put=pb.PutRequest(key=key, value=value, lease=lease))


def delete(key: bytes) -> Any:
    """Deletes a key."""
    return pb.RequestOp(request_delete_range=pb.DeleteRangeRequest(key=key))


def delete_span(span: Span) -> Any:
    """The request that deletes all keys of a span."""
    return pb.DeleteRangeRequest(key=span.start, range_end=span.end)


def put_once(key: bytes, value: bytes) -> Any:
    """Sets a key if it is not there."""
    request = pb.TxnRequest(compare=[is_at(key, 0)], success=[put(key, value)])
    return pb.RequestOp(request_txn=request)


def nested(operations: Sequence[Any]) -> Sequence[Any]:
    """Up to MAX_NESTED operations as so few that a transaction takes them."""
    limit = _MAX_SUM
    while len(operations) > limit:
        chunks = range(0, len(operations), _WIDTH)
        operations = [_inner(operations[first : first + _WIDTH]) for first in chunks]
        limit -= _WIDTH
    return operations


def _inner(operations: Iterable[Any]) -> Any:
    return pb.RequestOp(request_txn=pb.TxnRequest(success=operations))
