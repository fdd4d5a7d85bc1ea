"""meshctl doctor: the command."""

import socket
from collections.abc import Sequence

import click

from meshd.cli.connect import REFUSED, UNREACHABLE, Server, fail
from meshd.cli.doctor.checks import examine
from meshd.cli.doctor.choice import Core, subject_for
from meshd.cli.doctor.subject import Finding, Level, Subject
from meshd.cli.output import console, json_option, print_json
from meshd.core.errors import Invalid
from meshd.core.model import Prefix, parse_address

_TRIES = 3


@click.command()
@click.argument("address")
@click.option("--name", help="Service name to ask for.  [one whose lists differ most]")
@click.option("--source", multiple=True, help="Own address to ask from; may be repeated.")
@click.option("--subnet", multiple=True, help="Client subnet to send, or `none`; may be repeated.")
@json_option
@click.pass_context
def doctor(
    context: click.Context,
    address: str,
    name: str | None,
    source: tuple[str, ...],
    subnet: tuple[str, ...],
    as_json: bool,
) -> None:
    """Ask a DNS server for names of the mesh, and say which of its settings spoil the answers.

    ADDRESS is HOST or HOST:PORT. What is right the core says (--server), so run it while nothing
    changes. A server on this machine is asked from several loopback addresses, as if they were
    several clients; any other from the own address, and with client subnets out of the Ranges.

    Exits with 1 if a check fails, with 3 if the server does not reply.

    Example: meshctl doctor 127.0.0.1:53
    """
    asked = _host_and_port(address)
    try:
        sources = [str(parse_address(text)) for text in source]
        subnets = [str(Prefix.parse(text)) for text in subnet if text != "none"]
    except Invalid as error:
        raise click.UsageError(str(error)) from None
    server: Server = context.obj
    with server.channel() as channel:
        core = Core(channel, server.timeout_s)
        subject = subject_for(core, asked, name, sources, subnets if subnet else None)
        findings = _steady(core, subject)
    if as_json:
        print_json(_as_dict(subject, findings))
    else:
        _print(subject, findings)
    if any(finding.level is Level.FAIL for finding in findings):
        # The first check alone: the server does not reply.
        context.exit(UNREACHABLE if len(findings) == 1 else REFUSED)


def _host_and_port(text: str) -> tuple[str, int]:
    """HOST, HOST:PORT, IPV6 or [IPV6]:PORT; names are looked up."""
    host, colon, port = text.rpartition(":")
    if not colon or (":" in host and not host.startswith("[")):
        host, port = text, "53"
    if not port.isdecimal() or not 0 < int(port) < 65536:
        raise click.BadParameter(f"{text!r} is not HOST or HOST:PORT", param_hint="ADDRESS")
    try:
        found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_DGRAM)
    except OSError as error:
        raise click.BadParameter(f"{host}: {error.strerror}", param_hint="ADDRESS") from None
    return str(found[0][4][0]), int(port)


def _steady(core: Core, subject: Subject) -> list[Finding]:
    """Findings of a time in which what meshd answers did not change."""
    questions = [(subject.name, kind, a.client) for a in subject.askers for kind in subject.kinds]
    for _ in range(_TRIES):
        before = [core.fresh(*question) for question in questions]
        findings = list(examine(subject))
        if before == [core.fresh(*question) for question in questions]:
            break
        core.forget()
    else:
        fail(["meshd's answers change too fast to compare with: try again, or another --name"])
    return findings


def _as_dict(subject: Subject, findings: Sequence[Finding]) -> object:
    return {
        "address": f"{subject.host}:{subject.port}",
        "name": subject.name,
        "clients": [str(asker) for asker in subject.askers],
        "findings": [finding._asdict() for finding in findings],
    }


def _print(subject: Subject, findings: Sequence[Finding]) -> None:
    colours = {Level.OK: "green", Level.NOTE: "yellow", Level.FAIL: "bold red"}
    out = console()
    clients = ", ".join(map(str, subject.askers))
    out.print(f"{subject.host} port {subject.port}: {subject.name} as {clients}", markup=False)
    for check, level, text, mend in findings:
        out.print(f"{level:<5}", style=colours.get(level, ""), end="")
        out.print(f"{check:<10}{text}" + (f"; to mend: {mend}" if mend else ""), markup=False)
