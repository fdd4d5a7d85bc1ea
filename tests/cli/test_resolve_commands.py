"""What `meshctl explain` prints beyond what the examples show."""

import pytest

from meshd.cli.resolve_commands import _decisions, _print_endpoints, client_rows
from meshd.v1 import resolver_pb2 as pb


def test_what_the_clients_of_each_pop_saw() -> None:
    eu = pb.ClientPop(pop="eu", success=0.5, connect_errors=0.25, reporters=3, p50_ms=2, p99_ms=40)
    seen = pb.ClientsSeen(pops=[eu, pb.ClientPop(success=1, reporters=1)])
    lines = [pb.ExplainedInstance(instance="a", clients=seen), pb.ExplainedInstance(instance="b")]
    assert list(client_rows(pb.ExplainResponse(instances=lines))) == [
        ("eu", "a", "50%", "25%", "2 ms", "40 ms", 3),
        ("no range", "a", "100%", "0%", "-", "-", 1),
    ]


MOVED = pb.Motion(selector_from="rollout api-7: 5 % get 1.3", rollout="api-7", to="1.3",
                  percent=5, is_moved=True)  # fmt: skip


def test_a_rollout_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    found = pb.ExplainResponse(status="found", selector="1.3", ttl_s=5, ttl_rollout_s=5,
                               selector_from=MOVED.selector_from, motion=MOVED)  # fmt: skip
    lines = _decisions(found)
    assert ("version", "1.3, from rollout api-7: 5 % get 1.3") in lines
    assert ("", "rollout api-7 allows 5 s") in lines
    _print_endpoints(pb.ResolveResponse(status="found", motion=MOVED))
    assert "version from rollout api-7: 5 % get 1.3" in capsys.readouterr().out
    _print_endpoints(pb.ResolveResponse(status="found", motion=pb.Motion(selector_from="name")))
    assert "version from" not in capsys.readouterr().out
