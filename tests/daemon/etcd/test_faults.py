"""What errors of etcd mean: for good or not, and whether something was done."""

import pytest
from grpc import StatusCode
from grpc.aio import AioRpcError, Metadata

from meshd.core.errors import Compacted, LeaseLost, MeshError, Refused, Unavailable
from meshd.daemon.etcd.faults import (
    Denied,
    TooLarge,
    is_stale_token,
    is_surely_not_done,
    meaning,
)

NO_ANSWER = None


@pytest.mark.parametrize(
    ("code", "text", "kind"),
    [
        (StatusCode.UNAVAILABLE, "etcdserver: leader changed", NO_ANSWER),
        (StatusCode.UNAVAILABLE, "etcdserver: request timed out", NO_ANSWER),
        (StatusCode.UNAVAILABLE, "Socket closed", NO_ANSWER),
        (StatusCode.UNKNOWN, "context deadline exceeded", NO_ANSWER),
        (StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded", NO_ANSWER),
        (StatusCode.RESOURCE_EXHAUSTED, "etcdserver: too many requests", NO_ANSWER),
        (StatusCode.RESOURCE_EXHAUSTED, "etcdserver: mvcc: database space exceeded", Unavailable),
        (StatusCode.RESOURCE_EXHAUSTED, "CLIENT: Received message larger than max", TooLarge),
        (StatusCode.OUT_OF_RANGE, "mvcc: required revision has been compacted", Compacted),
        (StatusCode.OUT_OF_RANGE, "mvcc: required revision is a future revision", Compacted),
        (StatusCode.NOT_FOUND, "etcdserver: requested lease not found", LeaseLost),
        (StatusCode.INVALID_ARGUMENT, "etcdserver: request is too large", Refused),
        (StatusCode.UNIMPLEMENTED, "unknown service etcdserverpb.KV", Refused),
        (StatusCode.UNAUTHENTICATED, "etcdserver: invalid auth token", Denied),
        (StatusCode.INVALID_ARGUMENT, "etcdserver: authentication failed, invalid user", Denied),
        (StatusCode.INVALID_ARGUMENT, "etcdserver: user name is empty", Denied),
        (StatusCode.PERMISSION_DENIED, "etcdserver: permission denied", Denied),
    ],
)
def test_meaning(code: StatusCode, text: str, kind: type[MeshError] | None) -> None:
    found = meaning(_error(code, text))
    assert (found and type(found)) is kind
    assert found is None or text in str(found)


@pytest.mark.parametrize(
    ("code", "text", "is_sure"),
    [
        (StatusCode.UNAVAILABLE, "etcdserver: no leader", True),
        (StatusCode.UNAVAILABLE, "failed to connect to all addresses; last error: x", True),
        (StatusCode.RESOURCE_EXHAUSTED, "etcdserver: too many requests", True),
        (StatusCode.UNAVAILABLE, "etcdserver: leader changed", False),
        (StatusCode.UNAVAILABLE, "etcdserver: request timed out", False),
        (StatusCode.UNAVAILABLE, "Socket closed", False),
        (StatusCode.UNKNOWN, "context deadline exceeded", False),
        (StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded", False),
    ],
)
def test_what_was_surely_not_done(code: StatusCode, text: str, is_sure: bool) -> None:
    assert is_surely_not_done(_error(code, text)) is is_sure


@pytest.mark.parametrize(
    ("code", "text", "is_stale"),
    [
        (StatusCode.UNAUTHENTICATED, "etcdserver: invalid auth token", True),
        (StatusCode.INVALID_ARGUMENT, "etcdserver: revision of auth store is old", True),
        (StatusCode.INVALID_ARGUMENT, "etcdserver: user name is empty", True),
        (StatusCode.PERMISSION_DENIED, "etcdserver: permission denied", True),
        (StatusCode.INVALID_ARGUMENT, "etcdserver: request is too large", False),
        (StatusCode.UNAVAILABLE, "etcdserver: no leader", False),
    ],
)
def test_when_a_new_login_may_help(code: StatusCode, text: str, is_stale: bool) -> None:
    assert is_stale_token(_error(code, text)) is is_stale


def _error(code: StatusCode, text: str) -> AioRpcError:
    return AioRpcError(code, Metadata(), Metadata(), text)
