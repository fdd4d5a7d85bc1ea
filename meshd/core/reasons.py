"""Why an instance has its verdict, in words: what outranked what (verdict.py), and the counts."""

from dataclasses import dataclass

from meshd.core.model import Instance
from meshd.core.outcomes import FEWEST_VOICES, Folded, disagreement
from meshd.core.signals import NO_SIGNAL, Signal
from meshd.core.snapshot import Snapshot
from meshd.core.verdict import Probed, Verdict


@dataclass(frozen=True, slots=True)
class Clues:
    """What only the core that observes an instance knows of it.

    `ready_for_s`: seconds since it became ready, while it starts slowly. `seen`: what the last
    probe complained of, or why there is none. `clients`: what they report of it.
    """

    probed: Probed | None = None
    is_lame_duck: bool = False
    ready_for_s: float | None = None
    seen: str = ""
    clients: Folded | None = None


NO_CLUES = Clues()


def reason(snapshot: Snapshot, instance: Instance, clues: Clues, now: float) -> str:
    """The reason; empty where nothing is out of the ordinary. `now` in monotonic seconds."""
    topology = snapshot.topology
    said = []
    override = topology.override_on(instance.name)
    if override is not None:
        by = "" if override.instance == instance.name else f" (by {override.instance})"
        said.append(f"operator: {override.force}{by}")
    if instance.registered and instance.name not in topology.presence:
        said.append("it holds no lease")
    elif clues.is_lame_duck:
        said.append("it says that it is leaving")
    if clues.probed is not None:
        said += _of_probes(clues.probed, now)
    if clues.seen:
        said.append(clues.seen)
    signal = snapshot.signals.get(instance.name, NO_SIGNAL)
    if signal.held:
        said.append("held back: too many went at once")
    said += _of_clients(signal, clues)
    service = topology.services.get(instance.service)
    if clues.ready_for_s is not None and service is not None and service.slow_start_s:
        said.append(f"slow start: {clues.ready_for_s:.0f} of {service.slow_start_s:g} s")
    return "; ".join(said)


def _of_probes(probed: Probed, now: float) -> list[str]:
    if probed.verdict is Verdict.UP:
        return []
    if probed.is_fresh:
        return ["not probed yet"]
    counted = f"{probed.row} {'probe' if probed.row == 1 else 'probes'}"
    found = f"{counted} {'passed' if probed.passed else 'failed'} in a row"
    left_s = probed.damped_until() - now
    if probed.passed and left_s > 0:
        return [found, f"not up for {left_s:.0f} s more: it comes and goes"]
    return [found]


def _of_clients(signal: Signal, clues: Clues) -> list[str]:
    said = ["ejected: clients see it fail"] if not signal.success else []
    found = clues.clients
    if found is not None and found.voices and signal.success < 1:
        few = "" if found.voices >= FEWEST_VOICES else ": too few to eject it"
        reporters = "reporter" if found.voices == 1 else "reporters"
        said.append(f"{found.rate:.0%} succeed, say {found.voices} {reporters}{few}")
    against = disagreement(clues.probed, found)
    return [*said, f"they disagree: {against}"] if against else said
