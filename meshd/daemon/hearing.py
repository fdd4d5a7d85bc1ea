"""What other cores say, taken in: bounded, and whatever is wrong in it counted and left out."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeVar

from meshd.core.errors import Invalid, Refused
from meshd.core.signals import Signal
from meshd.daemon.adopted import MOST_UNKNOWN
from meshd.daemon.members import Members
from meshd.daemon.pump import Pump
from meshd.daemon.state import State
from meshd.daemon.tellings import reporter_from_message, told_from_message, vote_from_message
from meshd.v1 import cluster_pb2 as pb
from meshd.wire.messages import signal_from_message
from meshd.wire.reports import outcome_from_message

_T = TypeVar("_T")

# Entries of one kind in one message.
MOST_ENTRIES = 5000
# A core whose store is away for so long cannot have renewed a lease of some seconds.
_STORE_AWAY_S = 2.5
_MOST_DECIDED = 100_000
_MOST_ANSWERERS = 1000


@dataclass(eq=False, slots=True)
class Speaker:
    """A core on its stream, and whom it spoke of since it told everything last."""

    node: pb.Node
    is_replaced: bool = False
    signals: set[str] = field(default_factory=set)
    votes: set[str] = field(default_factory=set)


class Hearing:
    """Takes messages of other cores."""

    def __init__(self, state: State, pump: Pump, members: Members) -> None:
        self._state = state
        self._pump = pump
        self._members = members
        self._speakers: dict[str, Speaker] = {}
        # Core -> the session that was let speak last.
        self._sessions: dict[str, str] = {}
        # When a core told everything last.
        self.whole_at: dict[str, float] = {}
        self.messages = 0
        self.ignored: Counter[str] = Counter()

    def admit(self, first: pb.ExchangeRequest, now: float) -> Speaker:
        """Let a core speak by its first message; Refused if it is none of this store."""
        store_id = self._state.snapshot.topology.store_id
        node, members = first.node, self._members
        if first.store_id != store_id:
            raise Refused(f"another store: this core has {store_id}, not {first.store_id[:64]}")
        known = members.others.get(node.name)
        if known is None:
            raise Refused(f"{node.name[:64]!r} is no other core of this store")
        # The store may show a process that has ended, but not two that live.
        sessions = (known.session, self._sessions.get(node.name))
        if node.session not in sessions and members.is_live(node.name, now):
            raise Refused(f"another process is called {node.name}")
        self._sessions[node.name] = node.session
        before = self._speakers.get(node.name)
        if before is not None:
            before.is_replaced = True
        made = self._speakers[node.name] = Speaker(node)
        members.hear(node.name, now)
        return made

    def end(self, speaker: Speaker) -> None:
        """Its stream is over."""
        if not speaker.is_replaced:
            del self._speakers[speaker.node.name]

    def take(self, speaker: Speaker, message: pb.ExchangeRequest, now: float) -> None:
        """Take in what a core says; Refused if a newer stream of it is there."""
        name = speaker.node.name
        if speaker.is_replaced:
            raise Refused(f"{name} speaks on another stream")
        self.messages += 1
        state = message.state if message.HasField("state") else None
        if state is not None:
            del state.answerers[_MOST_ANSWERERS:]
            for answerer in state.confirmed.keys() - set(state.answerers):
                del state.confirmed[answerer]
            is_away = not state.HasField("store_age_s") or state.store_age_s > _STORE_AWAY_S
            cut_off = self._pump.observed.cut_off
            (cut_off.add if is_away else cut_off.discard)(name)
        self._members.hear(name, now, state)
        self._told(name, message.told, now)
        self._votes(speaker, message.votes, now)
        self._signals(speaker, message, now)
        self._heard(message.heard, now)
        if message.is_whole:
            self._whole(speaker, message.decides, now)
        self._pump.wake()

    def _told(self, core: str, messages: Iterable[pb.Told], now: float) -> None:
        snapshot, observed = self._state.snapshot, self._pump.observed
        for message in self._some(messages):
            if message.instance not in snapshot.topology.instances:
                self.ignored["unknown"] += 1
                continue
            try:
                told = told_from_message(message, core, now)
                observed.hear_told(snapshot, message.instance, told, now)
            except Invalid:
                self.ignored["invalid"] += 1

    def _votes(self, speaker: Speaker, messages: Iterable[pb.Vote], now: float) -> None:
        snapshot, observed = self._state.snapshot, self._pump.observed
        for message in self._some(messages):
            name = message.instance
            if name not in snapshot.topology.instances:
                self.ignored["unknown"] += 1
                continue
            try:
                vote = vote_from_message(message)
            except Invalid:
                self.ignored["invalid"] += 1
                continue
            (speaker.votes.discard if vote is None else speaker.votes.add)(name)
            observed.hear_vote(snapshot, speaker.node.name, name, vote, now)

    def _signals(self, speaker: Speaker, message: pb.ExchangeRequest, now: float) -> None:
        snapshot, observed = self._state.snapshot, self._pump.observed
        most = len(snapshot.topology.instances) + MOST_UNKNOWN
        found: dict[str, Signal] = {}
        for each in self._some(message.signals):
            try:
                name, signal = signal_from_message(each)
            except Invalid:
                self.ignored["invalid"] += 1
                continue
            if signal is None or not 0 < len(name) <= 128 or len(speaker.signals) >= most:
                self.ignored["unknown"] += 1
                continue
            found[name] = signal
        speaker.signals.update(found)
        if message.revision:
            core = speaker.node.name
            counting = observed.adopted.hear(snapshot, core, message.revision, found)
            observed.adopt(snapshot, counting, now)

    def _heard(self, messages: Iterable[pb.Heard], now: float) -> None:
        snapshot, reports = self._state.snapshot, self._pump.reports
        for message in self._some(messages):
            for said in self._some(message.outcomes):
                if said.instance not in snapshot.topology.instances:
                    self.ignored["unknown"] += 1
                    continue
                try:
                    who, outcome = reporter_from_message(message), outcome_from_message(said)
                except Invalid:
                    self.ignored["invalid"] += 1
                    continue
                if not reports.note_here(snapshot, who, said.instance, outcome, now):
                    self.ignored["crowded"] += 1

    def _whole(self, speaker: Speaker, decides: Iterable[str], now: float) -> None:
        """What it did not say again since it told everything before is no more."""
        snapshot, observed, core = self._state.snapshot, self._pump.observed, speaker.node.name
        observed.keep_votes(snapshot, core, speaker.votes, now)
        services = [name for name in decides if name in snapshot.views][:_MOST_DECIDED]
        counting = observed.adopted.keep(snapshot, core, speaker.signals, services)
        observed.adopt(snapshot, counting, now)
        speaker.signals, speaker.votes = set(), set()
        self.whole_at[core] = now

    def _some(self, messages: Iterable[_T]) -> Iterable[_T]:
        """As many as one message may hold."""
        for number, message in enumerate(messages):
            if number >= MOST_ENTRIES:
                self.ignored["many"] += 1
            else:
                yield message
