"""Measuring servers in turn, A B A B, so that a machine that changes its speed changes both."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

import dns.exception
import dns.message

from tests.bench.load import Generator, Outcome
from tests.bench.peers import cpu_s


@dataclass(frozen=True)
class Target:
    """A server under test: its port, and the processes whose CPU counts."""

    name: str
    port: int
    pids: Callable[[], Sequence[int]]


@dataclass(frozen=True)
class Figures:
    """Medians over the rounds."""

    rate: float
    cpu_us: float


@dataclass(frozen=True)
class Row:
    """One line of the report."""

    name: str
    ratio: float
    target: str
    is_met: bool
    detail: str


def complaint(reply: bytes) -> str:
    """What is wrong with a reply, or nothing: a server that answers badly is not quick."""
    try:
        message = dns.message.from_wire(reply)
    except dns.exception.DNSException as error:
        return f"unreadable: {error}"
    name = str(message.question[0].name).lower()
    if name.startswith("no"):
        return "" if message.rcode() == 3 else f"rcode {message.rcode()} for a name that is not"
    if message.rcode() != 0:
        return f"rcode {message.rcode()} for a name that is"
    is_a = message.question[0].rdtype == 1
    count = sum(len(rrset) for rrset in message.answer)
    return "" if count == (4 if is_a else 0) else f"{count} records in an answer"


def compare(
    generator: Generator, targets: Sequence[Target], seconds: float, rounds: int = 3
) -> dict[str, Figures]:
    """Figures of each server; RuntimeError if one answers badly or not."""
    found: dict[str, list[Figures]] = {target.name: [] for target in targets}
    for target in targets:
        _warm(generator, target)
    for _ in range(rounds):
        for target in targets:
            found[target.name].append(_run(generator, target, seconds))
    return {
        name: Figures(median(f.rate for f in each), median(f.cpu_us for f in each))
        for name, each in found.items()
    }


def _warm(generator: Generator, target: Target) -> None:
    """Ask everything twice, so that what is measured is the steady state of each server."""
    sent = 0
    for _ in range(20):
        sent += generator.run(target.port, 1.0, complaint).answered
        if sent > 2 * generator.count:
            return


def _run(generator: Generator, target: Target, seconds: float) -> Figures:
    pids = target.pids()
    before = sum(map(cpu_s, pids))
    outcome = generator.run(target.port, seconds, complaint)
    used = sum(map(cpu_s, pids)) - before
    _refuse_bad(target, outcome)
    return Figures(outcome.rate, used / outcome.answered * 1e6)


def _refuse_bad(target: Target, outcome: Outcome) -> None:
    if outcome.answered < 100 or outcome.lost > outcome.answered * 0.02:
        raise RuntimeError(f"{target.name} answered {outcome.answered}, lost {outcome.lost}")
    if outcome.wrong:
        raise RuntimeError(f"{target.name} answers badly: {dict(outcome.wrong)}")
