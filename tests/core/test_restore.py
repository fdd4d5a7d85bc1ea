"""What a restore changes, and what it leaves alone."""

from dataclasses import replace

import pytest

from meshd.core.errors import Invalid
from meshd.core.model import Force, Override, Pop, Presence
from meshd.core.restore import comes_back, plan_restore
from meshd.core.topology import Change, Kind, Topology
from tests import samples

SAVED = samples.snapshot().topology
RECORDS = tuple(record for kind in Kind for record in SAVED.records(kind))
LIVE = replace(SAVED.instances["api-eu-1"], name="live", registered=True, epoch=3)


def changed(topology: Topology, *changes: Change) -> Topology:
    return topology.apply(changes, topology.revision + 1)


def same(topology: Topology) -> dict[Kind, list[object]]:
    return {kind: sorted(topology.records(kind), key=repr) for kind in Kind}


def test_everything_comes_into_an_empty_store() -> None:
    empty = Topology("new", 1)
    found = plan_restore(empty, RECORDS)
    assert found.left_out == ()
    kept = Topology.load("new", 1, [record for record in RECORDS if not comes_back(record)])
    assert len(kept.instances) < len(SAVED.instances)
    assert same(changed(empty, *found.changes)) == same(kept)


def test_what_changed_since_is_undone_and_nothing_else() -> None:
    assert plan_restore(SAVED, RECORDS).changes == ()
    now = changed(
        SAVED,
        Change.put(Pop("new")),
        Change(Kind.INSTANCES, "api-eu-2", None),
        Change.put(replace(SAVED.services["api"], max_answers=1)),
        Change.put(Override("api-eu-1", Force.DOWN)),
    )
    found = plan_restore(now, RECORDS)
    assert {(change.kind, change.name) for change in found.changes} == {
        (Kind.POPS, "new"),
        (Kind.INSTANCES, "api-eu-2"),
        (Kind.SERVICES, "api"),
        (Kind.OVERRIDES, "api-eu-1"),
    }
    assert same(changed(now, *found.changes)) == same(SAVED)


def test_what_registered_itself_is_left_alone() -> None:
    now = changed(SAVED, Change.put(LIVE), Change.put(Presence("live", 3)))
    assert plan_restore(now, RECORDS).changes == ()
    gone = replace(LIVE, name="gone")
    assert plan_restore(now, (*RECORDS, gone, Presence("gone", 3))).changes == ()
    assert [comes_back(record) for record in (LIVE, Presence("live", 3), Pop("eu"))] == [
        True,
        True,
        False,
    ]
    with pytest.raises(Invalid, match="live: an instance registered itself"):
        plan_restore(now, (*RECORDS, replace(LIVE, registered=False, epoch=0)))


def test_overrides_wait_for_their_instances() -> None:
    down = (Override("live", Force.DOWN), Override("liv*", Force.DRAIN))
    found = plan_restore(SAVED, (*RECORDS, LIVE, *down))
    assert found.left_out == down[:1]
    assert found.changes == (Change.put(down[1]),)
    now = changed(SAVED, Change.put(LIVE))
    found = plan_restore(now, (*RECORDS, LIVE, *down))
    assert set(found.changes) == {Change.put(override) for override in down}
    assert found.left_out == ()
