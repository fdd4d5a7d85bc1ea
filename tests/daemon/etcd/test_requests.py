"""Nested transactions stay within what etcd counts."""

from typing import Any

import pytest

from meshd.daemon.etcd.requests import MAX_COMPARES, MAX_NESTED, nested, put


def _widths(operations: Any) -> tuple[int, int]:
    """Operations at all, and the largest sum from the top down (etcd checkTxnRequest)."""
    below = [_widths(op.request_txn.success) for op in operations if op.HasField("request_txn")]
    leaves = sum(not op.HasField("request_txn") for op in operations)
    deepest = max((depth for _, depth in below), default=0)
    return leaves + sum(count for count, _ in below), len(operations) + deepest


@pytest.mark.parametrize("count", [0, 1, 128, 129, 1000, 3072, 3073, 5000, MAX_NESTED])
def test_nested(count: int) -> None:
    operations = nested([put(b"%d" % n, b"") for n in range(count)])
    assert _widths(operations)[0] == count
    assert _widths(operations)[1] <= 128
    # Compares stand beside the top.
    assert max(len(operations), MAX_COMPARES) + _widths(operations)[1] - len(operations) <= 128
