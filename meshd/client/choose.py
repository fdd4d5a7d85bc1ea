"""Whom to call next: a function of what is answered and of what this client saw. PURE.

Rule of this file: no clock, no chance, no I/O. Time and a draw (0 <= draw < 1) are arguments;
each step takes a State and returns the next.

    open ──3 failures in a row, or no connection──► closed ──backoff──► one trial ──OK──► open
                                                      ▲                    │
                                                      └──── twice as long ◄┘
"""

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import NamedTuple

from meshd.client.endpoint import Endpoint, Outcome

# Time constants by which what was measured loses weight. Latency: peaks count at once (Finagle's
# peak EWMA), so it fades soon: who had one peak must not go without calls for long.
_LATENCY_FADE_S, _TROUBLE_FADE_S = 2.0, 10.0
_LEAST_LATENCY_S = 0.0001
_TROUBLE_STEP = 0.2
_MOST_TROUBLE = 0.95
# The second of two is taken only if it is clearly cheaper: below that weights decide, not noise.
_MARGIN = 1.5
_FALL = 3
_FIRST_CLOSED_S, _LONGEST_CLOSED_S = 0.5, 30.0


class Strategy(StrEnum):
    """How one of the best tier that is open is chosen."""

    # By weight, the cheaper of two: requests in flight times latency.
    PREFERENCE = "preference order"
    # In turn, by weight.
    ROUND_ROBIN = "round robin"
    # Who has the fewest requests in flight for its weight.
    LEAST_LOAD = "least load"


@dataclass(frozen=True, slots=True)
class Track:
    """What this client saw of one endpoint."""

    in_flight: int = 0
    # Peak EWMA of calls that were replied to; 0: none was.
    latency_s: float = 0.0
    # 0..1, of late: how often calls failed.
    trouble: float = 0.0
    seen_at: float = 0.0
    failures: int = 0
    failed_at: float = -math.inf
    # Times in a row that it was closed, when, and until when; 0: it is open.
    closings: int = 0
    closed_at: float = -math.inf
    closed_until: float = -math.inf
    # Virtual time of round robin: calls begun, each divided by the weight.
    served: float = 0.0


class Ending(NamedTuple):
    """How a call went, how long its reply took, and when it began."""

    outcome: Outcome
    latency_s: float
    began_at: float


@dataclass(frozen=True, slots=True)
class State:
    """What is answered, best first, and what was seen of each."""

    endpoints: tuple[Endpoint, ...] = ()
    tracks: Mapping[str, Track] = field(default_factory=dict)
    turn: float = 0.0

    def track(self, endpoint: Endpoint) -> Track:
        """What was seen of it; nothing yet is a track as well."""
        return self.tracks.get(endpoint.key, _NEW)


_NEW = Track()


def listed(state: State, endpoints: Iterable[Endpoint]) -> State:
    """Another answer: what was seen of those that stay, or are still called, is kept."""
    answered = tuple(sorted(endpoints, key=lambda endpoint: endpoint.tier))
    keys = {endpoint.key for endpoint in answered}
    kept = {key: t for key, t in state.tracks.items() if key in keys or t.in_flight}
    return replace(state, endpoints=answered, tracks=kept)


def choose(
    state: State,
    now: float,
    draw: float,
    strategy: Strategy = Strategy.PREFERENCE,
    tried: Collection[str] = (),
) -> Endpoint | None:
    """Whom to call, not one of `tried` (keys); None if nobody else is answered.

    If all are closed, the one that failed longest ago.
    """
    left = [endpoint for endpoint in state.endpoints if endpoint.key not in tried]
    best: list[Endpoint] = []
    for endpoint in left:
        if best and endpoint.tier > best[0].tier:
            break
        if state.track(endpoint).closed_until <= now:
            best.append(endpoint)
    if best:
        return best[0] if len(best) == 1 else _PICKS[strategy](state, best, now, draw)
    return min(left, key=lambda endpoint: state.track(endpoint).failed_at, default=None)


def began(state: State, endpoint: Endpoint, now: float) -> State:
    """A call begins. If the endpoint was closed it is a trial: no other until it should be over."""
    track = state.track(endpoint)
    start = max(track.served, state.turn)
    until = now + closed_s(track.closings) if track.closings else track.closed_until
    begun = replace(
        track,
        in_flight=track.in_flight + 1,
        served=start + 1 / endpoint.weight,
        closed_until=until,
    )
    return replace(state, tracks={**state.tracks, endpoint.key: begun}, turn=start)


def ended(state: State, endpoint: Endpoint, ending: Ending, now: float) -> State:
    """A call has ended, well or not."""
    track = _left(state.track(endpoint))
    is_ok = ending.outcome is Outcome.OK
    track = _measured(track, ending, now)
    # What began before it was closed says nothing new, however many such calls there are.
    if ending.began_at >= track.closed_at:
        track = _reopened(track) if is_ok else _failed(track, ending.outcome, now)
    return _with(state, endpoint, track)


def abandoned(state: State, endpoint: Endpoint) -> State:
    """A call was given up by the caller: it tells nothing."""
    return _with(state, endpoint, _left(state.track(endpoint)))


def closed_s(closings: int) -> float:
    """How long an endpoint is closed after so many times in a row."""
    return min(_LONGEST_CLOSED_S, _FIRST_CLOSED_S * 2.0 ** (min(closings, 20) - 1))


def cost(track: Track, share: float, now: float, *, by_latency: bool = True) -> float:
    """What a call is expected to take; `share`: its weight against the mean of its tier."""
    latency_s, trouble = _faded(track, now)
    latency_s = max(_LEAST_LATENCY_S, latency_s) if by_latency else 1.0
    doubt = 1.0 - min(_MOST_TROUBLE, trouble)
    return (track.in_flight / share + 1.0) * latency_s / doubt


def _with(state: State, endpoint: Endpoint, track: Track) -> State:
    tracks = {**state.tracks, endpoint.key: track}
    if not track.in_flight and all(each.key != endpoint.key for each in state.endpoints):
        del tracks[endpoint.key]
    return replace(state, tracks=tracks)


def _left(track: Track) -> Track:
    return replace(track, in_flight=max(0, track.in_flight - 1))


def _faded(track: Track, now: float) -> tuple[float, float]:
    """Latency and trouble as they still count."""
    age_s = now - track.seen_at
    latency_s = track.latency_s * math.exp(-age_s / _LATENCY_FADE_S)
    return latency_s, track.trouble * math.exp(-age_s / _TROUBLE_FADE_S)


def _measured(track: Track, ending: Ending, now: float) -> Track:
    latency_s, trouble = _faded(track, now)
    if ending.outcome is Outcome.OK:
        trouble *= 1.0 - _TROUBLE_STEP
    else:
        trouble += (1.0 - trouble) * _TROUBLE_STEP
    # A quick error must not make it look quick.
    if ending.outcome in (Outcome.OK, Outcome.TIMEOUT):
        rest = math.exp((track.seen_at - now) / _LATENCY_FADE_S)
        latency_s = max(ending.latency_s, latency_s + ending.latency_s * (1.0 - rest))
    return replace(track, trouble=trouble, latency_s=latency_s, seen_at=now)


def _reopened(track: Track) -> Track:
    return replace(track, failures=0, closings=0, closed_until=-math.inf)


def _failed(track: Track, outcome: Outcome, now: float) -> Track:
    failed = replace(track, failures=track.failures + 1, failed_at=now)
    closes = failed.failures >= _FALL or outcome is Outcome.CONNECT_ERROR or track.closings
    if not closes:
        return failed
    closings = track.closings + 1
    until = now + closed_s(closings)
    return replace(failed, closings=closings, closed_at=now, closed_until=until)


def _cheaper(state: State, best: Sequence[Endpoint], now: float, draw: float) -> Endpoint:
    """Of two drawn by weight the first, unless the second is clearly cheaper."""
    one, other = _pair(best, draw)
    tracks = state.track(one), state.track(other)
    mean = sum(endpoint.weight for endpoint in best) / len(best)
    by_latency = all(track.latency_s > 0 for track in tracks)
    here, there = (
        cost(track, endpoint.weight / mean, now, by_latency=by_latency)
        for track, endpoint in zip(tracks, (one, other), strict=True)
    )
    return other if there * _MARGIN < here else one


def _pair(best: Sequence[Endpoint], draw: float) -> tuple[Endpoint, Endpoint]:
    """Two different ones by weight: what is left of the draw within the first's part is one too."""
    one, draw = _drawn(best, draw)
    other, _ = _drawn([endpoint for endpoint in best if endpoint is not one], draw)
    return one, other


def _drawn(among: Sequence[Endpoint], draw: float) -> tuple[Endpoint, float]:
    point = draw * sum(endpoint.weight for endpoint in among)
    for endpoint in among:
        if point < endpoint.weight:
            return endpoint, point / endpoint.weight
        point -= endpoint.weight
    return among[-1], 0.0


def _next(state: State, best: Sequence[Endpoint], now: float, draw: float) -> Endpoint:
    """Who was served least; `began` lets nobody catch up with what it was away for."""
    return min(best, key=lambda endpoint: state.track(endpoint).served)


def _idlest(state: State, best: Sequence[Endpoint], now: float, draw: float) -> Endpoint:
    def load(endpoint: Endpoint) -> tuple[float, float]:
        track = state.track(endpoint)
        return track.in_flight / endpoint.weight, track.served

    return min(best, key=load)


_PICKS: Mapping[Strategy, Callable[[State, Sequence[Endpoint], float, float], Endpoint]] = {
    Strategy.PREFERENCE: _cheaper,
    Strategy.ROUND_ROBIN: _next,
    Strategy.LEAST_LOAD: _idlest,
}
