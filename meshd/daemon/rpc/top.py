"""What `meshctl top` shows: instances as they are answered now, beside the event loop."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from meshd.core.errors import NotFound
from meshd.core.histogram import Histogram, quantile_us
from meshd.core.outcomes import disagreement
from meshd.core.ranking import Member
from meshd.core.reasons import Clues, reason
from meshd.core.snapshot import ServiceView, Snapshot
from meshd.core.spread import Spread, spread
from meshd.daemon.duties import Duties
from meshd.daemon.observed import Observed
from meshd.daemon.reports import Reports, Seen
from meshd.daemon.state import State
from meshd.daemon.told import Told
from meshd.v1 import resolver_pb2 as pb

MOST_INSTANCES = 5000
_NOTHING_TOLD = Told()


def decided_by(duties: Duties, service: str) -> str:
    """Which other core decides on a service, in words; empty: this one does."""
    if not service or duties.decides(service):
        return ""
    return f"decided by core {duties.decider(service)}: what clients report is known there"


def clues_of(observed: Observed, reports: Reports, name: str, now: float) -> Clues:
    """What is remembered of an instance and is not in its signal."""
    told, since = observed.told.get(name), observed.shares.ready_since.get(name)
    ready_for_s = None if since is None else now - since
    is_lame_duck = told is not None and told.lame_duck
    probed, clients = observed.votes.own.get(name), reports.folded.get(name)
    seen = "; ".join(filter(None, (observed.seen(name), observed.votes.reason(name))))
    return Clues(probed, is_lame_duck, ready_for_s, seen, clients)


def clients_of(
    snapshot: Snapshot, reports: Reports, clues: Clues, name: str, now: float
) -> pb.ClientsSeen | None:
    """What clients reported of an instance lately; None if nobody did."""
    if clues.clients is None:
        return None
    latency = reports.latency(name, now)
    return pb.ClientsSeen(
        success=clues.clients.rate,
        reporters=clues.clients.voices,
        connect_errors=clues.clients.unreached,
        p50_ms=_quantile_ms(latency, 0.5),
        p99_ms=_quantile_ms(latency, 0.99),
        disagreement=disagreement(clues.probed, clues.clients),
        pops=[_client_pop(pop, seen) for pop, seen in reports.by_pop(snapshot, name, now).items()],
    )


def _quantile_ms(latency: Histogram, share: float) -> float | None:
    found_us = quantile_us(latency, share)
    return None if found_us is None else found_us / 1000


def _client_pop(pop: str, seen: Seen) -> pb.ClientPop:
    return pb.ClientPop(
        pop=pop,
        success=seen.folded.rate,
        reporters=seen.folded.voices,
        connect_errors=seen.folded.unreached,
        p50_ms=_quantile_ms(seen.latency, 0.5),
        p99_ms=_quantile_ms(seen.latency, 0.99),
    )


@dataclass(frozen=True, slots=True)
class _Moment:
    """All that one reply is made from, taken at once."""

    snapshot: Snapshot
    told: Mapping[str, Told]
    clues: Mapping[str, Clues]
    clients: Mapping[str, pb.ClientsSeen | None]
    now: float


class Top:
    """Makes replies; the spread of a service is worked out once for each of its views."""

    def __init__(self, state: State, observed: Observed, reports: Reports) -> None:
        self._state = state
        self._observed = observed
        self._reports = reports
        self._known: dict[str, tuple[ServiceView, Mapping[str, Spread]]] = {}

    async def reply(self, service: str) -> pb.TopResponse:
        """One service, or all of them as far as they fit; NotFound."""
        snapshot, now = self._state.snapshot, time.monotonic()
        if service and service not in snapshot.views:
            raise NotFound(f"there is no service {service!r}")
        names = [service] if service else sorted(snapshot.views)
        shown, note = _fitting(snapshot, names)
        told = {m.instance.name: self._observed.told.get(m.instance.name) for m in shown}
        known = {name: each for name, each in told.items() if each is not None}
        clues = {name: clues_of(self._observed, self._reports, name, now) for name in told}
        seen_by = partial(clients_of, snapshot, self._reports)
        clients = {name: seen_by(each, name, now) for name, each in clues.items()}
        moment = _Moment(snapshot, known, clues, clients, now)
        made = await asyncio.to_thread(self._make, moment, shown)
        decider = decided_by(self._observed.duties, service)
        made.note = "; ".join(filter(None, (note, decider)))
        return made

    def _make(self, moment: _Moment, shown: Sequence[Member]) -> pb.TopResponse:
        made = pb.TopResponse(revision=moment.snapshot.topology.revision)
        by_service: dict[str, list[Member]] = {}
        for member in shown:
            by_service.setdefault(member.instance.service, []).append(member)
        for name, members in by_service.items():
            spreads = self._spreads(moment.snapshot.views[name])
            pops = [
                pb.TopPop(pop=pop, ttl_min_s=found.ttl_min_s, ttl_max_s=found.ttl_max_s)
                for pop, found in sorted(spreads.items())
            ]
            instances = [_instance(moment, spreads[m.instance.pop], m) for m in members]
            made.services.append(pb.TopService(service=name, pops=pops, instances=instances))
        for name in self._known.keys() - moment.snapshot.views.keys():
            self._known.pop(name, None)
        return made

    def _spreads(self, view: ServiceView) -> Mapping[str, Spread]:
        held = self._known.get(view.service.name)
        if held is None or held[0] is not view:
            pops = {member.instance.pop for member in view.members}
            held = (view, {pop: spread(view, pop) for pop in pops})
            self._known[view.service.name] = held
        return held[1]


def _fitting(snapshot: Snapshot, names: Sequence[str]) -> tuple[list[Member], str]:
    """The members of the first services, as many as a reply holds, and what is left out."""
    shown: list[Member] = []
    whole = sum(len(snapshot.views[name].members) for name in names)
    for name in names:
        shown += snapshot.views[name].members[: MOST_INSTANCES - len(shown)]
        if len(shown) == MOST_INSTANCES:
            break
    note = f"{len(shown)} of {whole} instances: ask for one service" if len(shown) < whole else ""
    return shown, note


def _instance(moment: _Moment, spread: Spread, member: Member) -> pb.TopInstance:
    name = member.instance.name
    told = moment.told.get(name, _NOTHING_TOLD)
    return pb.TopInstance(
        instance=name,
        version=member.instance.version.text,
        pop=member.instance.pop,
        verdict=member.verdict,
        held=member.signal.held,
        load=member.signal.load,
        load_age_s=None if told.load_at is None else max(0.0, moment.now - told.load_at),
        in_flight=told.in_flight,
        share=spread.firsts.get(name, 0.0),
        weight=member.weight,
        success=member.signal.success,
        clients=moment.clients[name],
        reason=reason(moment.snapshot, member.instance, moment.clues[name], moment.now),
    )
