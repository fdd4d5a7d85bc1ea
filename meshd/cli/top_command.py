"""meshctl top: instances as they are answered now, line by line, again and again."""

import contextlib
import json
import sys
from collections.abc import Iterable, Iterator, Sequence

import click
import grpc
from rich.live import Live

from meshd.cli.connect import Server
from meshd.cli.output import as_dict, console, json_option, make_table, print_table
from meshd.cli.overrides import duration
from meshd.v1 import resolver_pb2 as pb
from meshd.v1 import resolver_pb2_grpc

_COLUMNS = (
    "service", "pop", "instance", "version", "verdict", ">load", ">age", ">in flight",
    ">clients", ">success", ">p99", ">TTL", "why",
)  # fmt: skip


@click.command()
@click.option("--service", default="", help="Only this one.")
@click.option(
    "--every", "every_s", default="1s", show_default=True, callback=duration, metavar="DURATION"
)
@click.option("--once", is_flag=True, help="Print it once.")
@json_option
@click.pass_obj
def top(server: Server, service: str, every_s: float, once: bool, as_json: bool) -> None:
    """Show verdict, load, share of clients and TTL of all instances, until Ctrl-C.

    `clients` is the share of the clients of its Pop that are given this instance first, `age`
    how old its load is, `success` the part of calls that clients report as good, `TTL` what the
    clients of its Pop get. Without a terminal each round is
    printed whole; with --json it is one line.

    Example: meshctl top --service api
    """
    with contextlib.suppress(KeyboardInterrupt), server.channel() as channel:
        stub = resolver_pb2_grpc.ResolverStub(channel)
        request = pb.TopRequest(service=service, every_s=0 if once else every_s)
        replies = stub.Top(request, timeout=server.timeout_s if once else None)
        _show(_until_interrupted(replies), as_json)


def _until_interrupted(replies: Iterable[pb.TopResponse]) -> Iterator[pb.TopResponse]:
    """The replies; the call ends with the one who reads them."""
    assert isinstance(replies, grpc.Call), "a stream is a call"
    try:
        yield from replies
    finally:
        replies.cancel()


def _show(replies: Iterator[pb.TopResponse], as_json: bool) -> None:
    if as_json:
        for reply in replies:
            click.echo(json.dumps(as_dict(reply)))
    elif sys.stdout.isatty():
        with Live(console=console(), auto_refresh=False) as live:
            for reply in replies:
                live.update(make_table(_COLUMNS, _rows(reply), reply.note), refresh=True)
    else:
        for reply in replies:
            print_table(_COLUMNS, _rows(reply))
            _print_note(reply)


def _print_note(reply: pb.TopResponse) -> None:
    if reply.note:
        click.echo(f"note: {reply.note}")


def _rows(reply: pb.TopResponse) -> Iterator[Sequence[str]]:
    for service in reply.services:
        ttls = {each.pop: _span(each.ttl_min_s, each.ttl_max_s) for each in service.pops}
        for each in sorted(service.instances, key=lambda i: (i.pop, -i.share, i.instance)):
            yield _row(service.service, each, ttls.get(each.pop, "-"))


def _row(service: str, each: pb.TopInstance, ttl: str) -> Sequence[str]:
    return (
        service,
        each.pop,
        each.instance,
        each.version,
        _verdict(each),
        f"{each.load:.0%}",
        f"{each.load_age_s:.0f} s" if each.HasField("load_age_s") else "-",
        str(each.in_flight),
        f"{each.share:.1%}",
        f"{each.clients.success:.0%}" if each.HasField("clients") else "-",
        f"{each.clients.p99_ms:.0f} ms" if each.clients.HasField("p99_ms") else "-",
        ttl,
        each.reason,
    )


def _verdict(each: pb.TopInstance) -> str:
    if each.held:
        return f"{each.verdict} (held)"
    return each.verdict if each.success else f"{each.verdict} (ejected)"


def _span(low: int, high: int) -> str:
    return f"{low} s" if low == high else f"{low}..{high} s"
