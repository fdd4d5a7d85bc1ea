"""meshctl instance drain: take an instance out of answers, and say when it is safe to stop."""

import datetime
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import click

from meshd.cli.connect import Server, fail
from meshd.cli.output import console, json_option, print_json
from meshd.cli.overrides import duration, for_option, force_option, override, standing
from meshd.core.model import Force
from meshd.core.verdict import Verdict
from meshd.v1.resolver_pb2 import SafeToStop

_POLL_S = 1.0


@dataclass(frozen=True, slots=True)
class _Drain:
    """One drain: of what, for how long, and whether unsafe things may be done."""

    server: Server
    name: str
    for_s: float
    is_forced: bool

    def say(self, force: Force, what: str) -> int:
        """Commit an override; returns the revision."""
        return override(self.server, (self.name, force), what, self.for_s, self.is_forced)

    def standing(self) -> Sequence[SafeToStop]:
        """How its instances stand now."""
        return standing(self.server, self.name)


@click.command()
@click.argument("name", metavar="NAME_OR_PATTERN")
@click.option(
    "--notice", "notice_s", callback=duration, metavar="DURATION",
    help="How long it is still answered, for the shortest time  [the TTL's minimum]",
)  # fmt: skip
@click.option("--wait", is_flag=True, help="Until it is safe to stop.")
@for_option
@force_option
@json_option
@click.pass_obj
def drain(  # noqa: PLR0913, PLR0917 - one parameter a flag
    server: Server,
    name: str,
    notice_s: float | None,
    wait: bool,
    for_s: float,
    is_forced: bool,
    as_json: bool,
) -> None:
    """Take instances out of new answers, and say when the last answer that holds them is over.

    At first they are still answered, but for the shortest time (--notice), then no more. Ctrl-C
    leaves the drain in place; `meshctl instance clear` takes it back.

    Example: meshctl instance drain api-eu-1 --wait && ssh api-eu-1 systemctl stop api
    """
    asked = _Drain(server, name, for_s, is_forced)
    stage = "nothing was written"
    try:
        found = asked.standing()
        if notice_s is None:
            notice_s = max(each.min_ttl_s for each in found)
        if notice_s and any(each.is_answered for each in found):
            asked.say(Force.LEAVE, f"instance drain {name}: notice of {notice_s:g} s")
            stage = f"{name} is still answered, for the shortest time: drain it again, or clear it"
            _pass(notice_s, f"{name} is leaving: it goes out of answers", as_json)
        revision = asked.say(Force.DRAIN, f"instance drain {name}")
        stage = f"the drain of {name} stays in place"
        found = asked.standing()
        _report(name, found, revision, as_json)
        if wait:
            _wait(asked, as_json)
    except KeyboardInterrupt:
        fail([f"interrupted: {stage}"])


def _wait(asked: _Drain, as_json: bool) -> None:
    while True:
        found = asked.standing()
        answered = [each for each in found if each.is_answered]
        if answered:
            said = ", ".join(f"{each.instance} ({each.verdict})" for each in answered[:5])
            fail([f"still answered, so it does not become safe to stop: {said}"])
        left_s = max(each.safe_in_s for each in found)
        if left_s <= 0:
            return
        _pass(min(left_s, 10.0), f"{asked.name}: safe to stop", as_json, left_s)


def _pass(seconds: float, what: str, as_json: bool, left_s: float | None = None) -> None:
    """Let time pass, with a line that counts down where somebody looks."""
    seen = sys.stdout.isatty() and not as_json
    end, until = time.monotonic() + seconds, left_s if left_s is not None else seconds
    began = time.monotonic()
    with console().status(what) if seen else nullcontext() as status:
        while (left := end - time.monotonic()) > 0:
            if status is not None:
                status.update(f"{what} in {until - (time.monotonic() - began):.0f} s")
            time.sleep(min(left, _POLL_S))


def _report(name: str, found: Sequence[SafeToStop], revision: int, as_json: bool) -> None:
    safe_in_s = max(each.safe_in_s for each in found)
    at = datetime.datetime.now().astimezone() + datetime.timedelta(seconds=safe_in_s)
    answered = [each for each in found if each.is_answered]
    if as_json:
        print_json(_as_json(name, found, revision, None if answered else at))
        return
    many = f" ({len(found)} instances)" if len(found) > 1 or found[0].instance != name else ""
    done = f"{name}{many}: forced drain, revision {revision}"
    if not answered:
        click.echo(f"{done}; safe to stop at {at:%H:%M:%S} (in {safe_in_s:.0f} s)")
        return
    click.echo(done)
    for each in answered:
        click.echo(f"{each.instance} is still answered: {_why(each)}", err=True)


def _why(each: SafeToStop) -> str:
    if each.verdict == Verdict.DRAINING:
        return "nothing else of its service is ready"
    return f"its verdict is {each.verdict}, by an override of its own or a longer pattern"


def _as_json(
    name: str, found: Sequence[SafeToStop], revision: int, at: datetime.datetime | None
) -> dict[str, Any]:
    instances = [
        {
            "instance": each.instance,
            "verdict": each.verdict,
            "safe_in_s": round(each.safe_in_s, 3),
            "is_answered": each.is_answered,
        }
        for each in found
    ]
    return {
        "instance": name,
        "done": "forced drain",
        "revision": revision,
        "safe_in_s": None if at is None else round(max(e.safe_in_s for e in found), 3),
        "safe_at": None if at is None else at.isoformat(timespec="seconds"),
        "instances": instances,
    }
