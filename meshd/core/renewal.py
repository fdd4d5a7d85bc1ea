"""What changes make anew in a snapshot: rosters, motions, and who must be judged again."""

from collections.abc import Iterable, Mapping

from meshd.core.model import Instance
from meshd.core.motion import STILL, Motion, changes_answers
from meshd.core.release import Experiment, Rollout
from meshd.core.topology import Change, Kind, Topology


def motions_of(topology: Topology, services: Iterable[str]) -> dict[str, Motion]:
    """The motions of some services, as far as they are there."""
    rollouts: dict[str, list[Rollout]] = {name: [] for name in services}
    experiments: dict[str, list[Experiment]] = {name: [] for name in rollouts}
    for rollout in topology.rollouts.values():
        if rollout.service in rollouts:
            rollouts[rollout.service].append(rollout)
    for experiment in topology.experiments.values():
        if experiment.service in experiments:
            experiments[experiment.service].append(experiment)
    return {
        name: Motion.of(topology.services[name].on_new, held, experiments[name])
        if held or experiments[name]
        else STILL
        for name, held in rollouts.items()
        if name in topology.services
    }


def motions_after(
    before: Topology, after: Topology, changes: Iterable[Change]
) -> Mapping[str, Motion]:
    """The motions of the services of which changes may have made them others."""
    moved = set()
    for change in changes:
        if change.kind is Kind.SERVICES:
            moved.add(change.name)
        elif change.kind is Kind.ROLLOUTS:
            pair = (before.rollouts.get(change.name), after.rollouts.get(change.name))
            if changes_answers(*pair):
                moved.update(each.service for each in pair if each)
        elif change.kind is Kind.EXPERIMENTS:
            held = (before.experiments.get(change.name), after.experiments.get(change.name))
            moved.update(each.service for each in held if each)
    return motions_of(after, moved) if moved else {}


def rosters_after(
    rosters: Mapping[str, frozenset[str]], before: Topology, changes: Iterable[Change]
) -> Mapping[str, frozenset[str]]:
    """The instances of each service after changes."""
    moved = [change for change in changes if change.kind is Kind.INSTANCES]
    if not moved:
        return rosters
    made: dict[str, set[str]] = {}

    def roster(service: str) -> set[str]:
        if service not in made:
            made[service] = set(rosters.get(service, ()))
        return made[service]

    # One instance may have changed several times.
    latest: dict[str, Instance | None] = {}
    for change in moved:
        old = latest.get(change.name, before.instances.get(change.name))
        if old is not None:
            roster(old.service).discard(change.name)
        new = change.record if isinstance(change.record, Instance) else None
        latest[change.name] = new
        if new is not None:
            roster(new.service).add(change.name)
    return {**rosters, **{service: frozenset(names) for service, names in made.items()}}


def renewed(after: Topology, changes: Iterable[Change], signals: Iterable[str]) -> set[str]:
    """Instances that must be judged anew."""
    renewed = set(signals)
    for change in changes:
        if change.kind in (Kind.INSTANCES, Kind.PRESENCE):
            renewed.add(change.name)
        elif change.kind is Kind.OVERRIDES:
            renewed.update(after.matching(change.name))
    return renewed


def touch(
    touched: dict[str, set[str]], topologies: Iterable[Topology], instances: Iterable[str]
) -> None:
    """Note the services, before and after, of instances that must be judged anew."""
    *_, after = topologies
    for name in instances:
        for topology in topologies:
            instance = topology.instances.get(name)
            if instance is not None and instance.service in after.services:
                touched.setdefault(instance.service, set()).add(name)
