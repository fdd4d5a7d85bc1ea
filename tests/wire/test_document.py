"""The topology document: every mistake is named with its line, and what is written is read."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshd.core.errors import Invalid
from meshd.core.model import Instance, Override, Presence, Range, Record, Service
from meshd.core.plan import DOCUMENT_KINDS
from meshd.core.selector import Version
from meshd.core.snapshot import Snapshot
from meshd.core.topology import Kind, Topology, kind_of
from meshd.wire import yaml_tree
from meshd.wire.document import describe, parse, plan_text, render
from tests import samples
from tests.core.strategies import records

ROOT = Path(__file__).parent.parent.parent
CASES = Path(__file__).parent / "cases" / "faults.txt"
EMPTY = Snapshot.build(Topology("x", 1))


def cases() -> Iterator[tuple[str, str, str]]:
    for block in CASES.read_text().strip().split("\n\n"):
        title, _, rest = block.partition("\n")
        document, _, expected = rest.partition("\n----\n")
        yield title, document, expected


def refusal(document: str) -> str:
    with pytest.raises(Invalid) as refused:
        plan_text(EMPTY, document)
    return "\n".join(str(fault) for fault in refused.value.faults)


@pytest.mark.parametrize(("title", "document", "expected"), list(cases()))
def test_faults(title: str, document: str, expected: str) -> None:
    assert refusal(document) == expected


def rewrite() -> None:
    """`python -m tests.wire.test_document` writes the cases anew: look at the difference."""
    blocks = [f"{title}\n{document}\n----\n{refusal(document)}" for title, document, _ in cases()]
    CASES.write_text("\n\n".join(blocks) + "\n")


@pytest.mark.parametrize("name", ["quickstart", "demo"])
def test_examples_are_right(name: str) -> None:
    text = (ROOT / "examples" / name / "mesh.yaml").read_text()
    plan = plan_text(EMPTY, text)
    assert plan.unsafe == ()
    after = EMPTY.advance(plan.changes(), 2)
    assert plan_text(after, text).edits == ()


def test_versions_are_read_as_they_are_written() -> None:
    """1.10 is not the number 1.1, and 1_0 not 10."""
    text = """
instances:
  a: {service: api, version: 1.10, pop: eu, address: 10.0.0.1}
  b: {service: api, version: 0o17.1, pop: eu, address: 10.0.0.1}
"""
    with pytest.raises(Invalid) as refused:
        parse(text)
    assert [fault.line for fault in refused.value.faults] == [4]
    (record,) = parse(text.replace("0o17.1", "1.1").replace("  b:", "#")).records
    assert isinstance(record, Instance)
    assert record.version == Version("1.10")


def test_forms() -> None:
    """Each short form and its long one are the same."""
    pairs = [
        ("ranges: {10.0.0.0/8: eu}", "ranges: {10.0.0.0/8: {pop: eu, services: []}}"),
        ("pops: {eu: }", "pops: {eu: {fallback: []}}"),
        (
            "ranges: {10.0.0.1: {pop: eu, services: api@1.2}}",
            "ranges: {10.0.0.1/32: {pop: eu, services: [api@1.2.0]}}",
        ),
        (
            "services: {a: {name: A.b., ports: {http: 80}, version: {1.2: 95, 1.3: 5}}}",
            'services: {a: {name: a.b, ports: {http: 80/tcp}, version: "1.2:95 1.3:5"}}',
        ),
        (
            "services: {a: {name: a.b, ports: {http: 80}, check: {tcp: true, every: 1m}}}",
            "services: {a: {name: a.b, ports: {http: 80}, check: {tcp: , every: 60000ms}}}",
        ),
        (
            "zones: {b: {ns: n.b, contact: h@b}}",
            "zones: {b.: {ns: [n.b.], contact: h@b, negative_ttl: 5s}}",
        ),
        (
            "zones: {b: {ns: {n.b: 10.0.0.1}, contact: h@b}}",
            "zones: {b: {ns: [{n.b: [10.0.0.1]}], contact: h@b}}",
        ),
    ]
    for short, long in pairs:
        assert parse(short).records == parse(long).records


@settings(max_examples=60)
@given(records())
def test_what_is_rendered_is_read(held: list[Record]) -> None:
    document = parse(render(held))
    key = lambda record: (kind_of(record), record.name)  # noqa: E731
    wanted = [record for record in held if kind_of(record) in DOCUMENT_KINDS]
    assert sorted(document.records, key=key) == sorted(wanted, key=key)


def test_the_sample_is_rendered_and_read() -> None:
    """With all that generated records do not have: checks, ports, tags, channels."""
    wanted = {r.name: r for r in samples.RECORDS if not isinstance(r, Override | Presence)}
    found = {record.name: record for record in parse(render(samples.RECORDS)).records}
    assert wanted.keys() == found.keys()
    for name, record in wanted.items():
        if isinstance(record, Instance) and record.registered:
            continue
        assert found[name] == record


@given(st.text(max_size=80) | st.text(alphabet=" \n:{}[]-eu'\"&*!|>%@0a,#", max_size=60))
def test_any_text_is_a_document_or_invalid(text: str) -> None:
    try:
        parse(text)
    except Invalid as error:
        assert error.faults
        assert all(fault.line >= 1 for fault in error.faults)


def test_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yaml_tree, "MAX_TEXT", 100)
    assert "longer than 100" in refusal("#" * 101)
    assert "nesting" in refusal("pops: " + "[" * 40 + "]" * 40)
    assert "nested too deeply" in refusal("[" * 99) or "not YAML" in refusal("[" * 99)


def test_one_line_descriptions() -> None:
    for record in samples.RECORDS:
        assert "\n" not in describe(record)
    range_, service = (
        next(r for r in samples.RECORDS if isinstance(r, kind)) for kind in (Range, Service)
    )
    assert describe(range_) == "{pop: eu, services: [api@1.2]}"
    assert "api.mesh.internal" in describe(service)


def test_kinds_that_are_not_named_are_not_there() -> None:
    assert parse("pops: {eu: {}}").kinds == {Kind.POPS}


if __name__ == "__main__":
    rewrite()
