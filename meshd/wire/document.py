"""The topology document: YAML that people write and keep in git <-> records.

Whatever is wrong with it is told at once, each fault with its line.
"""

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

import yaml
from pydantic import ValidationError

from meshd.core.errors import Fault, Invalid
from meshd.core.guard import STRICT, Guard
from meshd.core.model import (
    Check,
    Expected,
    Instance,
    Override,
    Pop,
    Prefix,
    Presence,
    Range,
    Record,
    Service,
    Zone,
)
from meshd.core.plan import (
    DOCUMENT_KINDS,
    Clients,
    Document,
    Plan,
    document_faults,
    plan_document,
)
from meshd.core.release import Experiment, Rollout
from meshd.core.snapshot import Snapshot
from meshd.core.topology import Kind, kind_of
from meshd.wire.document_schema import FORMS, LONG, AnyForm
from meshd.wire.rollout_form import course_entry
from meshd.wire.yaml_tree import Data, Path, Tree, read_tree


def read(text: str) -> tuple[Document, list[Fault]]:
    """What a document says, and everything wrong with its form."""
    tree = read_tree(text)
    if tree.faults and tree.data is None:
        return Document(frozenset(), ()), tree.faults
    if not isinstance(tree.data, dict):
        tree.fault((), f"a document is a mapping of {', '.join(DOCUMENT_KINDS)}")
        return Document(frozenset(), ()), tree.faults
    records: list[Record] = []
    invalid: set[tuple[Kind, str]] = set()
    lines: dict[tuple[Kind, str], int] = {}
    kinds = set()
    for section, entries in tree.data.items():
        if section not in list(DOCUMENT_KINDS):
            tree.fault((section,), f"no such section{_nearest(section, DOCUMENT_KINDS)}")
            continue
        kind = Kind(section)
        kinds.add(kind)
        for name, value in _entries(tree, section, entries):
            record = _record(tree, kind, name, value)
            at = (kind, record.name if record else _canonical(kind, name))
            if record is not None and at in lines:
                tree.fault((section, name), f"the same as on line {lines[at]}")
                continue
            lines[at] = tree.line((section, name))
            if record is None:
                invalid.add(at)
            else:
                records.append(record)
    document = Document(frozenset(kinds), tuple(records), lines, frozenset(invalid))
    return document, tree.faults


def _entries(tree: Tree, section: str, entries: Data) -> Iterable[tuple[str, Data]]:
    if entries is None:
        return ()
    if not isinstance(entries, dict):
        tree.fault((section,), "must be a mapping of names")
        return ()
    return entries.items()


def _canonical(kind: Kind, name: str) -> str:
    """The name under which others may refer to an entry that could not be made."""
    return name.lower().rstrip(".") + "." if kind is Kind.ZONES else name


def _record(tree: Tree, kind: Kind, name: str, value: Data) -> Record | None:
    """The record of an entry, or None with all its faults noted."""
    path = (str(kind), name)
    before = len(tree.faults)
    form = _form(tree, kind, path, LONG.get(kind, _same)(value))
    record = None
    try:
        record = form.record(name) if form else None
    except Invalid as error:
        for fault in error.faults:
            where = fault.where.split(".") if fault.where else ()
            tree.fault((*path, *where), fault.what)
    return record if len(tree.faults) == before else None


def _form(tree: Tree, kind: Kind, path: Path, value: Any) -> AnyForm | None:
    """The form of an entry; where fields are wrong, of the rest, so that its faults show too."""
    try:
        return FORMS[kind].model_validate(value)
    except ValidationError as error:
        wrong = []
        for found in error.errors():
            tree.fault((*path, *(str(part) for part in found["loc"])), _plain(found, kind))
            wrong.append(found["loc"])
    if not isinstance(value, dict):
        return None
    try:
        return FORMS[kind].model_validate(_without(value, wrong))
    except ValidationError:
        return None


def _without(value: dict[str, Any], wrong: Iterable[tuple[Any, ...]]) -> dict[str, Any]:
    """A mapping without what is wrong in it, or in a mapping inside it."""
    rest = {key: dict(held) if isinstance(held, dict) else held for key, held in value.items()}
    for place in wrong:
        inner = rest.get(place[0]) if place else None
        if isinstance(inner, dict) and len(place) > 1 and place[1] in inner:
            del inner[place[1]]
        elif place:
            rest.pop(place[0], None)
    return rest


def _same(value: Any) -> Any:
    return value


# Pydantic's words for what people get wrong most often.
_WORDS = {
    "missing": "is missing",
    "string_type": "must be text",
    "int_parsing": "must be a whole number",
    "float_parsing": "must be a number",
    "bool_parsing": "must be true or false",
    "dict_type": "must be a mapping",
    "list_type": "must be a list",
    "model_type": "must be a mapping",
    "string_pattern_mismatch": "has the wrong form (as in hostmaster@example.com)",
    "model_attributes_type": "must be a mapping",
}


def _plain(found: Any, kind: Kind) -> str:
    if found["type"] == "extra_forbidden":
        return f"is not known here{_nearest(str(found['loc'][-1]), FORMS[kind].model_fields)}"
    text: str = _WORDS.get(found["type"], found["msg"].removeprefix("Value error, "))
    return text


def _nearest(name: str, known: Iterable[str]) -> str:
    names = list(map(str, known))
    match = difflib.get_close_matches(name, names, 1)
    return f"; did you mean {match[0]!r}?" if match else f"; known are {', '.join(names)}"


def parse(text: str) -> Document:
    """A document that is right in form; Invalid lists every fault."""
    document, faults = read(text)
    if faults:
        raise Invalid(sorted(faults, key=lambda fault: fault.line))
    return document


def plan_text(
    snapshot: Snapshot,
    text: str,
    guard: Guard = STRICT,
    *,
    moves: bool = True,
    clients: Clients = None,
) -> Plan:
    """Plan a document; Invalid lists every fault of its form and of its references, by line."""
    document, faults = read(text)
    if faults:
        faults += document_faults(snapshot.topology, document, guard) if document.kinds else []
        raise Invalid(sorted(faults, key=lambda fault: fault.line))
    return plan_document(snapshot, document, guard, moves=moves, clients=clients)


def describe(record: Record) -> str:
    """A record in one line, for plans and audits."""
    if isinstance(record, Override):
        return f"forced {record.force}"
    if isinstance(record, Presence):
        return f"present, epoch {record.epoch}"
    if isinstance(record, Rollout):
        return f"{record.service} to {record.to}: {record.phase} at {record.percent:g} %"
    if isinstance(record, Experiment):
        arms = ", ".join(f"{arm.name}: {arm.percent:g} % {arm.selector}" for arm in record.arms)
        return f"{record.service}: {arms}; {record.scope}"
    made = _entry(record)
    text = yaml.safe_dump(made, default_flow_style=True, sort_keys=False, width=1 << 20)
    return text.strip().removesuffix("\n...")


def render(records: Iterable[Record]) -> str:
    """Records as a document; what is no part of one (overrides, presence) is left out."""
    sections: dict[Kind, dict[str, Any]] = {}
    for record in records:
        kind = kind_of(record)
        if kind in DOCUMENT_KINDS:
            sections.setdefault(kind, {})[_shown_name(record)] = _entry(record)
    parts = []
    for kind in DOCUMENT_KINDS:
        if kind in sections:
            parts.append(_section(kind, sections[kind]))
    return "\n".join(parts)


def _section(kind: Kind, entries: Mapping[str, Any]) -> str:
    lines = [f"{kind}:"]
    for name in sorted(entries, key=lambda name: _order(kind, name)):
        # None: whatever holds only scalars goes on one line, but for the entry itself.
        flow = None if entries[name] and isinstance(entries[name], dict) else False
        text = yaml.safe_dump(
            {name: entries[name]}, default_flow_style=flow, sort_keys=False, width=100
        )
        lines += ["  " + line for line in text.splitlines()]
    return "\n".join(lines) + "\n"


def _order(kind: Kind, name: str) -> Any:
    return Prefix.parse(name) if kind is Kind.RANGES else name


def _shown_name(record: Record) -> str:
    return record.name.rstrip(".") if isinstance(record, Zone) else record.name


def _entry(record: Record) -> Any:
    """A record in the form that documents have, without what is as it would be anyway."""
    if isinstance(record, Zone):
        return _zone_entry(record)
    if isinstance(record, Pop):
        made: dict[str, Any] = {"location": list(record.location)} if record.location else {}
        return made | ({"fallback": list(record.fallback)} if record.fallback else {})
    if isinstance(record, Range):
        if not record.selectors:
            return record.pop
        return {
            "pop": record.pop,
            "services": [f"{name}@{what}" for name, what in record.selectors],
        }
    if isinstance(record, Service):
        return _service_entry(record)
    assert isinstance(record, Instance), "the other kinds have no entry"
    return _instance_entry(record)


def _zone_entry(zone: Zone) -> Any:
    servers = [
        {server.name: list(map(str, server.addresses))} if server.addresses else server.name
        for server in zone.ns
    ]
    return {"ns": servers, "contact": zone.contact, "negative_ttl": zone.negative_ttl_s}


def _service_entry(service: Service) -> Any:
    made: dict[str, Any] = {
        "name": service.dns.rstrip("."),
        "ports": {port.name: f"{port.number}/{port.proto}" for port in service.ports},
        "version": str(service.selector),
    }
    if service.channels:
        made["channels"] = {name: str(selector) for name, selector in service.channels}
    if service.check is not None:
        made["check"] = _check_entry(service.check)
    made["ttl"] = {"min": service.ttl.min_s, "max": service.ttl.max_s}
    made["max_answers"] = service.max_answers
    made["sticky"] = {"v4": service.sticky.v4, "v6": service.sticky.v6}
    made["fail_open"] = service.fail_open
    made["slow_start"] = f"{service.slow_start_s * 1000:.0f}ms"
    made["max_removal"] = service.max_removal
    made["on_new_version"] = str(service.on_new)
    return made | {"rollout": course_entry(service.course)}


def _check_entry(check: Check) -> Any:
    made: dict[str, Any] = {
        check.kind: check.path or None,
        "every": f"{check.every_s * 1000:.0f}ms",
        "timeout": f"{check.timeout_s * 1000:.0f}ms",
        "rise": check.rise,
        "fall": check.fall,
        "jitter": check.jitter,
    }
    made |= {name: getattr(check, name) for name in ("port", "host", "sni") if getattr(check, name)}
    expected, usual = check.expected, Expected()
    if expected.statuses != usual.statuses:
        made["status"] = [f"{low}-{high}" for low, high in expected.statuses]
    return made | ({"body": expected.body} if expected.body else {})


def _instance_entry(instance: Instance) -> Any:
    made: dict[str, Any] = {
        "service": instance.service,
        "version": instance.version.text,
        "pop": instance.pop,
        "address": list(map(str, instance.addresses)),
    }
    if instance.ports:
        made["ports"] = dict(instance.ports)
    if instance.capacity != 1.0:
        made["capacity"] = instance.capacity
    return made | ({"tags": list(instance.tags)} if instance.tags else {})
