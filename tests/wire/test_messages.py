"""Records, changes and signals survive the way through protobuf and the store."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.core.errors import Invalid, Malformed, Refused
from meshd.core.model import Instance, Prefix, Range, Record
from meshd.core.selector import parse_selector
from meshd.core.signals import Signal
from meshd.core.topology import Change, Kind
from meshd.core.verdict import Verdict
from meshd.v1 import records_pb2 as pb
from meshd.v1 import topology_pb2
from meshd.wire.messages import (
    change_from_message,
    change_to_message,
    record_from_message,
    record_to_message,
    signal_from_message,
    signal_to_message,
)
from meshd.wire.records import change_of, key_of, kind_and_name, record_of, value_of
from tests import samples


@pytest.mark.parametrize("record", samples.RECORDS, ids=lambda record: record.name)
def test_record_round_trip(record: Record) -> None:
    message = pb.Record.FromString(record_to_message(record).SerializeToString())
    assert record_from_message(message) == record
    change = Change.put(record)
    assert change_from_message(change_to_message(change)) == change
    key = key_of(change.kind, change.name)
    assert kind_and_name(key) == (change.kind, change.name)
    assert record_of(key, value_of(record)) == record


SELECTORS = ("1.2", "1.2.*", ">=1.2,<2", "latest", "beta", "{1.2: 95, 1.3: 5}")


@given(
    st.integers(0, 2**128 - 1),
    st.integers(0, 128),
    st.lists(st.sampled_from(SELECTORS), unique=True),
)
def test_range_round_trip(address: int, length: int, texts: list[str]) -> None:
    network = address >> 128 - length << 128 - length
    selectors = tuple((f"s{n}", parse_selector(text)) for n, text in enumerate(texts))
    entry = Range(Prefix(6, network, length), "eu", selectors)
    assert record_from_message(record_to_message(entry)) == entry


def test_delete_round_trip() -> None:
    for kind, name in ((Kind.SERVICES, "api"), (Kind.RANGES, "10.0.0.0/8")):
        change = Change(kind, name, None)
        assert change_from_message(change_to_message(change)) == change


@pytest.mark.parametrize(
    "edit",
    [
        topology_pb2.Edit(kind="services", name="api", record=pb.Record()),
        topology_pb2.Edit(kind="nonsense", name="api"),
        topology_pb2.Edit(kind="ranges", name="10.1.0.1/8"),
        topology_pb2.Edit(kind="pops", name="eu", record=pb.Record(pop=pb.Pop(name="us"))),
        topology_pb2.Edit(kind="zones", name="eu", record=pb.Record(pop=pb.Pop(name="eu"))),
        topology_pb2.Edit(
            kind="overrides",
            name="x",
            record=pb.Record(override=pb.Override(instance="x", force="sideways")),
        ),
    ],
    ids=["empty", "kind", "host bits", "name", "another kind", "force"],
)
def test_wrong_edits_are_refused(edit: topology_pb2.Edit) -> None:
    with pytest.raises(Invalid):
        change_from_message(edit)


@given(st.binary(max_size=200))
def test_any_stored_bytes_are_a_record_or_malformed(value: bytes) -> None:
    try:
        record = record_of("instances/x", value)
    except Malformed:
        return
    assert isinstance(record, Instance)


def test_a_value_under_the_key_of_another_is_malformed() -> None:
    with pytest.raises(Malformed, match="holds pops eu"):
        record_of("pops/us", value_of(samples.RECORDS[1]))


def test_keys_without_records_are_no_change() -> None:
    assert change_of("topology", b"x") is None
    assert change_of("locks/x", b"x") is None
    assert change_of("pops/eu", None) == Change(Kind.POPS, "eu", None)


def test_signals() -> None:
    signal = Signal(0.95, Verdict.FAILING, share=0.4, kept=0.9, held=True)
    assert signal_from_message(signal_to_message("a", signal)) == ("a", signal)
    for success in (0.0, 0.35, 1.0):
        answer = signal_from_message(signal_to_message("a", Signal(success=success)))
        assert answer == ("a", Signal(success=success))
    # A core that does not know of it yet.
    old = topology_pb2.SignalChange(instance="a", signal=topology_pb2.Signal(verdict="up"))
    assert signal_from_message(old) == ("a", Signal())
    assert signal_from_message(signal_to_message("a", None)) == ("a", None)
    wrong: list[dict[str, Any]] = [
        {"load": float("nan"), "verdict": "up"},
        {"load": -0.1, "verdict": "up"},
        {"load": 1.5, "verdict": "up"},
        {"load": 0.5, "verdict": "well"},
        {"verdict": "up", "share": 2.5},
        {"verdict": "up", "share": float("inf")},
        {"verdict": "up", "kept": 1.1},
        {"verdict": "up", "kept": float("nan")},
        {"verdict": "up", "success": 1.1},
        {"verdict": "up", "success": float("nan")},
    ]
    for told in wrong:
        signal_message = topology_pb2.Signal(**told)
        with pytest.raises(Refused):
            signal_from_message(topology_pb2.SignalChange(instance="a", signal=signal_message))
