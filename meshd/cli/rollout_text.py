"""Rollouts as meshctl prints them: a line each event, tables, and objects for programs."""

import datetime
from collections.abc import Iterator, Sequence
from typing import Any

from meshd.cli.output import make_table
from meshd.core.release import Phase, Rollout
from meshd.core.rollout import is_settled
from meshd.v1 import records_pb2 as pb
from meshd.v1 import rollout_pb2
from meshd.v1.topology_pb2 import Flow
from meshd.wire.release_messages import rollout_from_message
from meshd.wire.rollout_form import rollout_entry

_SPANS = ((86_400.0, "d"), (3600.0, "h"), (60.0, "m"))
COLUMNS = ("service", "to", "phase", "step", "clients", "id", "began", "by", "why")
_FLOWS = (">step", ">clients", ">for", "pop", "service", "from", "to", ">of its clients", "first")


def span(seconds: float) -> str:
    """300 as 5m, 90 as 90s."""
    if seconds:
        for length, unit in _SPANS:
            if seconds % length == 0:
                return f"{seconds / length:.0f}{unit}"
    return f"{seconds:g}s"


def at_step(rollout: Rollout) -> str:
    """Which of its steps it stands at."""
    return f"step {rollout.step + 1} of {len(rollout.course.steps)}"


def share(rollout: Rollout) -> str:
    """Whom it gives its version."""
    return f"{rollout.percent:g} % of {rollout.scope} get {rollout.service} {rollout.to}"


def news(before: Rollout | None, after: Rollout) -> Iterator[str]:
    """What happened to a rollout since it was seen last, by name; `found`: it was not yet."""
    if before is None:
        yield str(after.phase) if after.phase.is_over else "found"
        return
    if after.figures and after.figures != before.figures:
        yield "figures"
    if after.phase is not before.phase:
        names = {Phase.RUNNING: "resumed" if before.phase is Phase.PAUSED else "began"}
        yield "settled" if is_settled(after) else names.get(after.phase, str(after.phase))
    elif after.step != before.step:
        yield "step"


def line(event: str, rollout: Rollout) -> str:
    """An event for people."""
    if event == "figures":
        return f"figures of {at_step(rollout)}: {'; '.join(rollout.figures)}"
    if rollout.phase is Phase.ROLLED_BACK:
        return f"{rollout.reason or 'rolled back'}; nobody gets {rollout.service} {rollout.to}"
    if rollout.phase is Phase.HELD:
        return f"held: nobody gets {rollout.service} {rollout.to} until it begins"
    if rollout.phase is Phase.DONE:
        return f"{rollout.reason or 'done'}; {share(rollout)}"
    said = f"{at_step(rollout)}: {share(rollout)}"
    if rollout.phase is Phase.PAUSED:
        return f"{rollout.reason or 'paused'}; {said}"
    return f"{said}, for {span(rollout.course.steps[rollout.step].hold_s)} at least"


def told(message: pb.Rollout) -> dict[str, Any]:
    """A rollout for programs."""
    return rollout_entry(rollout_from_message(message))


def when(unix_s: float) -> str:
    """A time for people."""
    if not unix_s:
        return "-"
    return datetime.datetime.fromtimestamp(unix_s).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def row(rollout: Rollout) -> Sequence[str]:
    """A rollout as a row of COLUMNS."""
    return (
        rollout.service,
        str(rollout.to),
        str(rollout.phase),
        f"{rollout.step + 1}/{len(rollout.course.steps)}",
        f"{rollout.percent:g} %",
        rollout.name,
        when(rollout.began_unix_s),
        rollout.author or "-",
        rollout.reason or "-",
    )


def whole(rollout: Rollout) -> Iterator[str]:
    """All that there is to say of one rollout."""
    yield f"{rollout.name}: {rollout.service} to {rollout.to}, {rollout.scope}"
    yield f"  {line(str(rollout.phase), rollout)}"
    if rollout.reason and rollout.phase in (Phase.HELD, Phase.RUNNING):
        yield f"  why: {rollout.reason}"
    yield from (f"  {text}" for text in _course(rollout))
    if rollout.figures and not rollout.phase.is_over:
        yield f"  {line('figures', rollout)}"
    elif rollout.figures:
        yield f"  figures at its end: {'; '.join(rollout.figures)}"
    author = f" by {rollout.author}" if rollout.author else ""
    yield f"  begun {when(rollout.began_unix_s)}{author}, changed {when(rollout.changed_unix_s)}"


def _course(rollout: Rollout) -> Iterator[str]:
    course = rollout.course
    held = rollout.held_s if rollout.phase in (Phase.RUNNING, Phase.PAUSED) else None
    steps = []
    for number, step in enumerate(course.steps):
        is_here = number == rollout.step and held is not None
        since = f", {held:.0f} s of it over" if is_here else ""
        steps.append(f"{step.percent:g} % for {span(step.hold_s)}{since}")
    yield f"steps: {' -> '.join(steps)}"
    if not course.gates:
        yield "gates: none"
        return
    yield (
        f"gates: {', '.join(map(str, course.gates))}; judged from {course.min_outcomes} outcomes "
        f"of {course.min_reporters} reporters, else: {course.on_gate_missing}"
    )


def preview(reply: rollout_pb2.PreviewResponse) -> Any:
    """A table of whom each step would move."""
    rollout = rollout_from_message(reply.rollout)
    rows = []
    for number, step in enumerate(reply.steps):
        hold_s = rollout.course.steps[number].hold_s
        head = (str(number + 1), f"{step.percent:g} %", span(hold_s))
        moves = [_flow(flow) for flow in step.flows if flow.from_version != flow.to_version]
        for at, move in enumerate(moves or [("nobody moves", *["-"] * 5)]):
            rows.append((*(head if at == 0 else [""] * 3), *move))
    return make_table(_FLOWS, rows)


def _flow(flow: Flow) -> Sequence[str]:
    first = ", ".join(
        f"{each.instance} {each.before:.1%} -> {each.after:.1%}" for each in flow.instances
    )
    return (
        flow.pop or "-",
        flow.service,
        flow.from_version or "-",
        flow.to_version or "-",
        f"{flow.share:.1%}",
        first or "-",
    )
