"""What `meshctl explain` prints beyond what the examples show."""

from meshd.cli.resolve_commands import client_rows
from meshd.v1 import resolver_pb2 as pb


def test_what_the_clients_of_each_pop_saw() -> None:
    eu = pb.ClientPop(pop="eu", success=0.5, connect_errors=0.25, reporters=3, p50_ms=2, p99_ms=40)
    seen = pb.ClientsSeen(pops=[eu, pb.ClientPop(success=1, reporters=1)])
    lines = [pb.ExplainedInstance(instance="a", clients=seen), pb.ExplainedInstance(instance="b")]
    assert list(client_rows(pb.ExplainResponse(instances=lines))) == [
        ("eu", "a", "50%", "25%", "2 ms", "40 ms", 3),
        ("no range", "a", "100%", "0%", "-", "-", 1),
    ]
