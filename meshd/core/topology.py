"""What people and pipelines decided, at one revision; changed only by what was committed."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Any

from meshd.core.model import (
    Force,
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
from meshd.core.motion import marked
from meshd.core.ranges import Marks, RangeTable
from meshd.core.release import Experiment, Rollout


class Kind(StrEnum):
    """The kinds of record, as they are called in keys, documents and on the command line."""

    ZONES = "zones"
    POPS = "pops"
    RANGES = "ranges"
    SERVICES = "services"
    INSTANCES = "instances"
    OVERRIDES = "overrides"
    PRESENCE = "presence"
    ROLLOUTS = "rollouts"
    EXPERIMENTS = "experiments"


_KIND_OF: Mapping[type[Record], Kind] = {
    Zone: Kind.ZONES,
    Pop: Kind.POPS,
    Range: Kind.RANGES,
    Service: Kind.SERVICES,
    Instance: Kind.INSTANCES,
    Override: Kind.OVERRIDES,
    Presence: Kind.PRESENCE,
    Rollout: Kind.ROLLOUTS,
    Experiment: Kind.EXPERIMENTS,
}


def kind_of(record: Record) -> Kind:
    """The kind of a record."""
    return _KIND_OF[type(record)]


@dataclass(frozen=True, slots=True)
class Change:
    """One record as it is from a revision on; None if it is gone."""

    kind: Kind
    name: str
    record: Record | None

    @classmethod
    def put(cls, record: Record) -> "Change":
        """The change that makes `record` be."""
        return cls(kind_of(record), record.name, record)


_SIGNS = frozenset("*?[")


def _patterns(overrides: Iterable[Override]) -> tuple[Override, ...]:
    """Overrides that are patterns, the longest first."""
    found = [override for override in overrides if override.is_pattern]
    return tuple(sorted(found, key=lambda override: (-len(override.instance), override.instance)))


def _empty_ranges() -> RangeTable:
    return RangeTable.build(())


@dataclass(frozen=True, slots=True)
class Topology:
    """All records at one revision of one store."""

    store_id: str = ""
    revision: int = 0
    zones: Mapping[str, Zone] = field(default_factory=dict)
    pops: Mapping[str, Pop] = field(default_factory=dict)
    services: Mapping[str, Service] = field(default_factory=dict)
    instances: Mapping[str, Instance] = field(default_factory=dict)
    overrides: Mapping[str, Override] = field(default_factory=dict)
    presence: Mapping[str, Presence] = field(default_factory=dict)
    rollouts: Mapping[str, Rollout] = field(default_factory=dict)
    experiments: Mapping[str, Experiment] = field(default_factory=dict)
    ranges: RangeTable = field(default_factory=_empty_ranges)
    patterns: tuple[Override, ...] = ()

    @classmethod
    def load(cls, store_id: str, revision: int, records: Iterable[Record]) -> "Topology":
        """Make a topology of all records at once."""
        tables: dict[Kind, dict[str, Any]] = {kind: {} for kind in Kind}
        ranges: list[Range] = []
        for record in records:
            if isinstance(record, Range):
                ranges.append(record)
            else:
                tables[_KIND_OF[type(record)]][record.name] = record
        del tables[Kind.RANGES]
        patterns = _patterns(tables[Kind.OVERRIDES].values())
        held = {str(kind): table for kind, table in tables.items()}
        marks = marked(tables[Kind.ROLLOUTS].values(), tables[Kind.EXPERIMENTS].values())
        table = RangeTable.build(ranges).marked(marks)
        return cls(store_id, revision, ranges=table, patterns=patterns, **held)

    def apply(self, changes: Iterable[Change], revision: int) -> "Topology":
        """The topology after one committed revision."""
        tables: dict[str, Any] = {}
        ranges: dict[Prefix, Range | None] = {}
        for change in changes:
            if isinstance(change.record, Range):
                ranges[change.record.prefix] = change.record
                continue
            if change.kind is Kind.RANGES:
                ranges[Prefix.parse(change.name)] = None
                continue
            if change.kind not in tables:
                tables[change.kind] = dict(getattr(self, change.kind))
            if change.record is None:
                tables[change.kind].pop(change.name, None)
            else:
                tables[change.kind][change.name] = change.record
        table = self.ranges.changed(ranges) if ranges else self.ranges
        if tables.keys() & {Kind.ROLLOUTS, Kind.EXPERIMENTS}:
            table = table.marked(self._marks_after(tables))
        if Kind.OVERRIDES in tables:
            tables["patterns"] = _patterns(tables[Kind.OVERRIDES].values())
        return replace(self, revision=revision, ranges=table, **tables)

    def _marks_after(self, tables: Mapping[str, Mapping[str, Any]]) -> Marks:
        rollouts = tables.get(Kind.ROLLOUTS, self.rollouts)
        experiments = tables.get(Kind.EXPERIMENTS, self.experiments)
        return marked(rollouts.values(), experiments.values())

    def override_on(self, instance: str) -> Override | None:
        """The override that counts for an instance: by its name, else by the longest pattern."""
        if not self.overrides:
            return None
        named = self.overrides.get(instance)
        if named is not None:
            return named
        for override in self.patterns:
            if fnmatchcase(instance, override.instance):
                return override
        return None

    def force_on(self, instance: str) -> Force | None:
        """What an operator decided about an instance."""
        override = self.override_on(instance)
        return override.force if override else None

    def matching(self, pattern: str) -> Collection[str]:
        """The instances that an override is about."""
        # Also asked of what a store lost, which may never have been a valid name.
        if not _SIGNS.intersection(pattern):
            return (pattern,) if pattern in self.instances else ()
        return [name for name in self.instances if fnmatchcase(name, pattern)]

    def get(self, kind: Kind, name: str) -> Record | None:
        """One record, or None."""
        if kind is Kind.RANGES:
            return self.ranges.get(Prefix.parse(name))
        table: Mapping[str, Record] = getattr(self, kind)
        return table.get(name)

    def records(self, kind: Kind) -> Iterable[Record]:
        """All records of a kind."""
        if kind is Kind.RANGES:
            return self.ranges
        table: Mapping[str, Record] = getattr(self, kind)
        return table.values()
