"""What was written and what was answered, judged: no answer may be older than a fault allows.

Pure. Times are seconds of one monotonic clock, that of the machine which writes and asks. Each
write of a name has a set of addresses that no other one has, so an answer tells which it is of.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum


class Outcome(StrEnum):
    """What whoever wrote was told; UNKNOWN: it may be there, or come there yet."""

    ACKNOWLEDGED = "acknowledged"
    REFUSED = "refused"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Write:
    """One change of a whole set; those of a name were begun one after the other."""

    name: str
    addresses: frozenset[str]
    began: float
    ended: float
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Answer:
    """One question and what came back: an rcode, or `timeout`."""

    way: str
    name: str
    asked: float
    answered: float
    rcode: str
    addresses: tuple[str, ...] = ()
    ttl_s: int = 0


@dataclass(frozen=True, slots=True)
class Fault:
    """What is allowed beyond the rules, from `began` until `settle_s` after `healed`.

    Answers of `stale` ways may lag by `stale_s`; those of `fails` may be lost or SERVFAIL, and
    begin anew with what is on their disk, however old.
    """

    began: float
    healed: float
    settle_s: float = 5.0
    stale_s: float = 0.0
    stale: frozenset[str] = frozenset()
    fails: frozenset[str] = frozenset()

    def covers(self, answer: Answer) -> bool:
        """True if the question was under way in that time."""
        return answer.answered >= self.began and answer.asked <= self.healed + self.settle_s


@dataclass(frozen=True, slots=True)
class Rules:
    """What holds without a fault; a way of `single` is one process, which never goes back."""

    stale_s: float = 1.0
    ttl_s: int = 60
    single: frozenset[str] = frozenset()


STRICT = Rules()


@dataclass(slots=True)
class Tally:
    """What came back through one way."""

    asked: int = 0
    lost: int = 0
    servfail: int = 0
    nxdomain: int = 0
    empty: int = 0
    stale_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Report:
    """The verdict on a run: right if nothing is complained of."""

    ways: Mapping[str, Tally]
    converged_s: float
    complaints: tuple[str, ...]

    @property
    def total(self) -> Tally:
        """All ways together."""
        tallies = self.ways.values()
        return Tally(
            sum(each.asked for each in tallies),
            sum(each.lost for each in tallies),
            sum(each.servfail for each in tallies),
            sum(each.nxdomain for each in tallies),
            sum(each.empty for each in tallies),
            max((each.stale_s for each in tallies), default=0.0),
        )


class Timeline:
    """The writes of one name, and until when each could still be answered."""

    def __init__(self, writes: Sequence[Write], answers: Iterable[Answer]) -> None:
        self.writes = sorted(writes, key=lambda write: write.began)
        self.index = {write.addresses: at for at, write in enumerate(self.writes)}
        assert len(self.index) == len(self.writes), "two writes of one set cannot be told apart"
        self._over = self._superseded(self._known(answers))

    def _known(self, answers: Iterable[Answer]) -> list[float]:
        """When each write was there for certain: acknowledged, or answered to anybody."""
        never = float("inf")
        known = [
            write.ended if write.outcome is Outcome.ACKNOWLEDGED else never for write in self.writes
        ]
        for answer in answers:
            at = self.index.get(frozenset(answer.addresses))
            if at is not None:
                known[at] = min(known[at], answer.answered)
        return known

    @staticmethod
    def _superseded(known: Sequence[float]) -> list[float]:
        over = [float("inf")] * len(known)
        for at in range(len(known) - 2, -1, -1):
            over[at] = min(over[at + 1], known[at + 1])
        return over

    def stale_s(self, at: int, asked: float) -> float:
        """For how long a newer write had been there when a question was asked."""
        return max(0.0, asked - self._over[at])


@dataclass(slots=True)
class _Judge:
    rules: Rules
    faults: Sequence[Fault]
    timelines: Mapping[str, Timeline]
    ways: dict[str, Tally] = field(default_factory=dict)
    complaints: list[str] = field(default_factory=list)
    converged_s: float = 0.0

    def complain(self, answer: Answer, what: str) -> None:
        self.complaints.append(f"{answer.asked:.3f} {answer.way} {answer.name}: {what}")

    def judge(self, answer: Answer) -> None:
        tally = self.ways.setdefault(answer.way, Tally())
        tally.asked += 1
        if answer.rcode in ("timeout", "SERVFAIL"):
            self._failed(answer, tally)
        elif answer.rcode != "NOERROR":
            tally.nxdomain += answer.rcode == "NXDOMAIN"
            self.complain(answer, f"{answer.rcode} for a name that exists")
        elif not answer.addresses:
            tally.empty += 1
            self.complain(answer, "empty, though the name has addresses")
        else:
            self._positive(answer, tally)

    def _failed(self, answer: Answer, tally: Tally) -> None:
        is_lost = answer.rcode == "timeout"
        tally.lost += is_lost
        tally.servfail += not is_lost
        covering = self._covering(answer)
        if not any(answer.way in fault.fails for fault in covering):
            self.complain(answer, "no reply" if is_lost else "SERVFAIL")

    def _covering(self, answer: Answer) -> list[Fault]:
        """The faults under which an answer is not as it should be; they are not over before it."""
        covering = [fault for fault in self.faults if fault.covers(answer)]
        for fault in covering:
            self.converged_s = max(self.converged_s, answer.answered - fault.healed)
        return covering

    def _positive(self, answer: Answer, tally: Tally) -> None:
        if not 0 < answer.ttl_s <= self.rules.ttl_s:
            self.complain(answer, f"a TTL of {answer.ttl_s}")
        timeline = self.timelines[answer.name]
        at = timeline.index.get(frozenset(answer.addresses))
        shown = ",".join(answer.addresses)
        if at is None or len(answer.addresses) != len(timeline.writes[at].addresses):
            self.complain(answer, f"no set that was ever written: {shown}")
            return
        write = timeline.writes[at]
        if write.outcome is Outcome.REFUSED:
            self.complain(answer, f"a write that was refused: {shown}")
        if answer.answered < write.began:
            self.complain(answer, f"answered before it was written: {shown}")
        self._age(answer, timeline.stale_s(at, answer.asked), tally)

    def _age(self, answer: Answer, stale_s: float, tally: Tally) -> None:
        tally.stale_s = max(tally.stale_s, stale_s)
        if stale_s <= self.rules.stale_s:
            return
        covering = self._covering(answer)
        if any(answer.way in fault.fails for fault in covering):
            return
        allowed = [fault.stale_s for fault in covering if answer.way in fault.stale]
        if stale_s > max(allowed, default=0.0):
            self.complain(answer, f"{stale_s:.3f} s behind: {','.join(answer.addresses)}")

    def went_back(self, answers: Sequence[Answer]) -> None:
        """Complain of one process's answers that are older than what it had answered before."""
        timeline = self.timelines[answers[0].name]
        ended: list[float] = []
        newest: list[int] = []
        for answer in sorted(answers, key=lambda answer: answer.answered):
            at = timeline.index.get(frozenset(answer.addresses))
            if at is None:
                continue
            # Of answers that overlap in time nobody knows which came first.
            before = bisect_left(ended, answer.asked)
            is_anew = any(answer.way in each.fails and each.covers(answer) for each in self.faults)
            if before and newest[before - 1] > at and not is_anew:
                self.complain(answer, "went back to an older set")
            ended.append(answer.answered)
            newest.append(max(at, newest[-1] if newest else at))


def judge(
    writes: Sequence[Write],
    answers: Sequence[Answer],
    faults: Sequence[Fault] = (),
    rules: Rules = STRICT,
) -> Report:
    """What is wrong with the answers, given what was written and what was broken meanwhile."""
    named: dict[str, list[Answer]] = {}
    streams: dict[tuple[str, str], list[Answer]] = {}
    for answer in answers:
        named.setdefault(answer.name, []).append(answer)
        streams.setdefault((answer.way, answer.name), []).append(answer)
    timelines = {
        name: Timeline([write for write in writes if write.name == name], named[name])
        for name in named
    }
    made = _Judge(rules, faults, timelines)
    for answer in sorted(answers, key=lambda answer: answer.asked):
        made.judge(answer)
    for (way, _), stream in streams.items():
        if way in rules.single:
            made.went_back(stream)
    made.complaints += _unwatched(streams, faults)
    return Report(made.ways, made.converged_s, tuple(made.complaints))


def _unwatched(
    streams: Mapping[tuple[str, str], Sequence[Answer]], faults: Sequence[Fault]
) -> list[str]:
    """Ways of which nobody knows whether they came back: not asked once all had to be well."""
    end = max((fault.healed + fault.settle_s for fault in faults), default=float("-inf"))
    return [
        f"{way} {name}: not asked after everything had to be well again"
        for (way, name), stream in streams.items()
        if max(answer.asked for answer in stream) <= end
    ]


def audit_faults(outcomes: Mapping[str, Outcome], audit: Sequence[str]) -> list[str]:
    """What is wrong with an audit, given the outcome of each write by what it says there.

    Acknowledged writes stand there once, refused ones never, and no other one twice.
    """
    lowest = {Outcome.ACKNOWLEDGED: 1, Outcome.REFUSED: 0, Outcome.UNKNOWN: 0}
    highest = {Outcome.ACKNOWLEDGED: 1, Outcome.REFUSED: 0, Outcome.UNKNOWN: 1}
    times = Counter(audit)
    return [
        f"{what}: {outcome}, {times[what]} times in the audit"
        for what, outcome in outcomes.items()
        if not lowest[outcome] <= times[what] <= highest[outcome]
    ]


def longest_pause_s(writes: Sequence[Write]) -> float:
    """The longest time between two acknowledged writes."""
    ended = sorted(each.ended for each in writes if each.outcome is Outcome.ACKNOWLEDGED)
    return max((later - ended[at] for at, later in enumerate(ended[1:])), default=0.0)
