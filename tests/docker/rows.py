"""What rows of the fault table have in common."""

from functools import partial

import grpc

from tests.docker.history import Report
from tests.docker.nodes import CORES, ETCDS, Nodes
from tests.servers.processes import wait_until

_SHOWN = 12


def right(report: Report) -> Report:
    """The report, if nothing in it is wrong."""
    found = report.complaints
    assert not found, "\n".join([f"{len(found)} wrong:", *found[:_SHOWN]])
    assert report.total.asked > 0
    return report


def in_words(report: Report) -> str:
    """What was asked and how it went, for the table."""
    total = report.total
    return (
        f"{total.asked} answers, {total.lost} lost, {total.servfail} SERVFAIL, "
        f"{total.nxdomain} NXDOMAIN, {total.empty} empty, stale {total.stale_s:.1f} s at most, "
        f"right {report.converged_s:.1f} s after"
    )


def wait_healthy(nodes: Nodes) -> None:
    """Wait until each etcd serves reads and writes."""
    for member in ETCDS:
        wait_until(f"{member} is healthy", partial(nodes.is_healthy, member), 40)


def alarm(nodes: Nodes, node: str) -> str:
    """What an operator has to decide, as a core says; empty also while it says nothing."""
    try:
        return str(nodes.state(node).alarm)
    except grpc.RpcError:
        return ""


def wait_alarmed(nodes: Nodes) -> None:
    """Wait until each core waits for an operator."""
    for core in CORES:
        wait_until(f"{core} raises an alarm", partial(is_alarmed, nodes, core), 40)
    # As an operator would see it.
    assert "accept-store" in nodes.must("core1", "nodes")


def wait_taken(nodes: Nodes) -> None:
    """Wait until no core waits for an operator."""
    wait_until("all took the store", lambda: not any(alarm(nodes, core) for core in CORES), 40)


def is_alarmed(nodes: Nodes, core: str) -> bool:
    """True if a core waits for an operator."""
    return bool(alarm(nodes, core))
