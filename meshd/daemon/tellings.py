"""What cores tell each other, as messages: made of what is remembered, read as hostile input."""

import math
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import TypeVar

from meshd.core.errors import Invalid
from meshd.core.outcomes import Outcome, Reporter
from meshd.core.signals import NO_SIGNAL
from meshd.core.verdict import Verdict
from meshd.daemon.observed import Observed
from meshd.daemon.state import State
from meshd.daemon.told import FORGOTTEN_S, News, Told
from meshd.daemon.votes import Vote
from meshd.v1 import cluster_pb2 as pb
from meshd.wire.messages import signal_to_message

_T = TypeVar("_T")

# Entries of one message: made or read in some milliseconds.
PART = 500
# Ages beyond it are as good as for ever (seconds).
_OLDEST_S = 86_400.0
_MOST_REASON, _MOST_NAME = 200, 256
_BY_PROBES = {
    str(verdict): verdict
    for verdict in (Verdict.UP, Verdict.FAILING, Verdict.DOWN, Verdict.RECOVERING)
}


def news_of(
    observed: Observed, state: State, news: News, now: float
) -> Iterator[pb.ExchangeRequest]:
    """What is news, which it is not any more then; values are those of the moment it is read."""
    while news.signals or news.told or news.votes:
        snapshot = state.snapshot
        told, votes, signals = _some(news.told), _some(news.votes), _some(news.signals)
        yield pb.ExchangeRequest(
            told=_told(observed, told, now),
            votes=[_vote(observed, name) for name in votes],
            signals=[signal_to_message(n, observed.signal(snapshot, n)) for n in signals],
            revision=snapshot.topology.revision,
        )


def everything(observed: Observed, state: State, now: float) -> Iterator[pb.ExchangeRequest]:
    """All that this core knows by itself, and decides; the last message says that it was all."""
    decides = observed.duties.decides
    services = [service for service in state.snapshot.views if decides(service)]
    own = [name for name, told in observed.told.items() if told.is_own]
    for part in _parts(own):
        yield pb.ExchangeRequest(told=_told(observed, part, now))
    for part in _parts([*observed.votes.own, *observed.votes.refused]):
        votes = [_vote(observed, name) for name in part if observed.votes.said(name)]
        yield pb.ExchangeRequest(votes=votes)
    for part in _parts({*state.snapshot.signals, *observed.pending}):
        snapshot = state.snapshot
        instances = snapshot.topology.instances
        signals = {
            name: observed.signal(snapshot, name)
            for name in part
            if name in instances and decides(instances[name].service)
        }
        yield pb.ExchangeRequest(
            signals=[signal_to_message(*item) for item in signals.items() if item[1] != NO_SIGNAL],
            revision=snapshot.topology.revision,
        )
    yield pb.ExchangeRequest(
        is_whole=True,
        # Those that came to this core meanwhile were not told of yet.
        decides=filter(decides, services),
        revision=state.snapshot.topology.revision,
    )


def outcomes_of(
    passed: Mapping[tuple[Reporter, str], Outcome],
) -> Iterator[pb.ExchangeRequest]:
    """What reporters told this core, for the one that decides."""
    for part in _parts(passed):
        request = pb.ExchangeRequest()
        by_reporter: dict[Reporter, pb.Heard] = {}
        for who, instance in part:
            if who not in by_reporter:
                by_reporter[who] = request.heard.add(host=who.host, reporter=who.name)
            outcome = passed[who, instance]
            by_reporter[who].outcomes.add(
                instance=instance,
                attempts=outcome.attempts,
                connect_errors=outcome.connect_errors,
                timeouts=outcome.timeouts,
                failures=outcome.failures,
                latency=outcome.latency,
            )
        yield request


def told_from_message(message: pb.Told, core: str, now: float) -> Told:
    """What an instance told another core; Invalid for ages and loads that cannot be."""
    load_age_s = message.load_age_s if message.HasField("load") else 0.0
    if not all(0 <= age_s <= _OLDEST_S for age_s in (message.age_s, load_age_s)):
        raise Invalid("ages are not negative, and no longer than a day")
    if not (math.isfinite(message.load) and message.load >= 0):
        raise Invalid(f"load {message.load} is not within 0..1")
    has_load = message.HasField("load") and load_age_s < FORGOTTEN_S
    return Told(
        load_at=now - load_age_s if has_load else None,
        in_flight=message.in_flight,
        lame_duck=message.lame_duck,
        load=message.load,
        at=now - message.age_s,
        by=core,
    )


def vote_from_message(message: pb.Vote) -> Vote | None:
    """What another core's probes say; None: nothing any more. Invalid."""
    if message.refuses:
        return Vote(None, message.reason[:_MOST_REASON])
    if not message.verdict:
        return None
    if message.verdict not in _BY_PROBES:
        raise Invalid(f"{message.verdict!r} is no verdict of probes")
    return Vote(_BY_PROBES[message.verdict], message.reason[:_MOST_REASON])


def reporter_from_message(message: pb.Heard) -> Reporter:
    """Who reported to another core; Invalid."""
    if not (0 < len(message.host) <= _MOST_NAME and 0 < len(message.reporter) <= _MOST_NAME):
        raise Invalid("a reporter has a host and a name")
    return Reporter(message.host, message.reporter)


def _told(observed: Observed, names: Iterable[str], now: float) -> Iterator[pb.Told]:
    for name in names:
        told = observed.told.get(name)
        if told is None or not told.is_own:
            continue
        made = pb.Told(
            instance=name,
            in_flight=told.in_flight,
            lame_duck=told.lame_duck,
            age_s=max(0.0, now - told.at),
        )
        if told.load_at is not None:
            made.load, made.load_age_s = told.load, max(0.0, now - told.load_at)
        yield made


def _vote(observed: Observed, name: str) -> pb.Vote:
    said = observed.votes.said(name)
    if said is None:
        return pb.Vote(instance=name)
    reason = observed.seen(name)[:_MOST_REASON]
    return pb.Vote(
        instance=name, verdict=said.verdict or "", reason=reason, refuses=said.verdict is None
    )


def _some(names: set[str]) -> list[str]:
    return [names.pop() for _ in range(min(PART, len(names)))]


def _parts(names: Iterable[_T]) -> Iterator[list[_T]]:
    source = iter(names)
    while part := list(islice(source, PART)):
        yield part
