"""meshctl resolve and explain: what a client is answered, and why."""

from collections.abc import Iterator, Sequence

import click

from meshd.cli.connect import REFUSED, Server
from meshd.cli.output import as_dict, console, json_option, print_json, print_table
from meshd.v1 import resolver_pb2 as pb
from meshd.v1 import resolver_pb2_grpc

_client = click.option("--client", default="", help="Address or prefix; none: the neutral view.")


@click.command()
@click.argument("name")
@_client
@click.option("--type", "kind", default="", help="Print the DNS records of this type instead.")
@json_option
@click.pass_context
def resolve(context: click.Context, name: str, client: str, kind: str, as_json: bool) -> None:
    """Print the instances that a client is answered, best first.

    Exits with 1 if the name is not there.

    Example: meshctl resolve api.mesh.internal --client 10.1.0.7
    """
    server: Server = context.obj
    with server.channel() as channel:
        request = pb.ResolveRequest(name=name, client=client, type=kind)
        stub = resolver_pb2_grpc.ResolverStub(channel)
        found = stub.Resolve(request, timeout=server.timeout_s)
    if as_json:
        print_json(as_dict(found))
    elif kind:
        _print_records(found)
    else:
        _print_endpoints(found)
    if found.status != "found":
        context.exit(REFUSED)


def _print_endpoints(found: pb.ResolveResponse) -> None:
    if found.status != "found":
        console().print(found.status)
        return
    rows = [
        (place, e.instance, e.version, e.pop, " ".join(e.addresses), e.port, e.tier, _yes(e.in_set))
        for place, e in enumerate(found.endpoints, start=1)
    ]
    columns = [">place", "instance", "version", "pop", "addresses", ">port", ">tier", "in set"]
    print_table(columns, rows)
    if found.motion.experiment or found.motion.rollout:
        console().print(f"version from {found.motion.selector_from}", markup=False)
    console().print(f"TTL {found.ttl_s} s, scope /{found.scope}, revision {found.revision}")


def _print_records(found: pb.ResolveResponse) -> None:
    console().print(f"{found.rcode}, scope /{found.scope}, revision {found.revision}")
    for section in ("answer", "authority", "additional"):
        for record in getattr(found, section):
            console().print(f"{section:<11} {record}", markup=False)


def _yes(value: bool) -> str:
    return "yes" if value else "-"


@click.command()
@click.argument("name")
@_client
@json_option
@click.pass_obj
def explain(server: Server, name: str, client: str, as_json: bool) -> None:
    """Say why a client is answered what it is: range, pop, version, scores, TTL, scope.

    Example: meshctl explain api.mesh.internal --client 10.1.0.7
    """
    with server.channel() as channel:
        request = pb.ExplainRequest(name=name, client=client)
        stub = resolver_pb2_grpc.ResolverStub(channel)
        found = stub.Explain(request, timeout=server.timeout_s)
    if as_json:
        print_json(as_dict(found))
        return
    for label, text in _decisions(found):
        console().print(f"{label:<9} {text}", markup=False)
    if found.instances:
        console().print()
        print_table(
            ["place", "instance", "version", "pop", "verdict", ">capacity", ">load", ">headroom",
             ">share", ">success", ">weight", ">tier", ">cost", ">TTL", "in set", "why",
             "not in the order because"],
            [_row(line) for line in found.instances],
        )  # fmt: skip
    seen = list(client_rows(found))
    if seen:
        console().print()
        columns = [
            "clients of",
            "instance",
            ">success",
            ">unreached",
            ">p50",
            ">p99",
            ">voices",
        ]
        print_table(columns, seen)


def client_rows(found: pb.ExplainResponse) -> Iterator[Sequence[object]]:
    """What the clients of each Pop reported of each instance."""
    for line in found.instances:
        for pop in line.clients.pops:
            yield (
                pop.pop or "no range",
                line.instance,
                f"{pop.success:.0%}",
                f"{pop.connect_errors:.0%}",
                f"{pop.p50_ms:.0f} ms" if pop.HasField("p50_ms") else "-",
                f"{pop.p99_ms:.0f} ms" if pop.HasField("p99_ms") else "-",
                pop.reporters,
            )


def _decisions(found: pb.ExplainResponse) -> Sequence[tuple[str, str]]:
    """The decisions in the order in which they are made."""
    lines = [
        ("name", f"{found.name} at revision {found.revision}: {found.status}"),
        ("client", found.client or "none: the neutral view"),
        ("ranges", " > ".join(found.ranges) or "none holds this client"),
    ]
    if found.selector:
        clamp = f"{found.ttl_min_s}..{found.ttl_max_s} s"
        lines += [
            ("pop", f"{found.pop or 'none'}, by range {found.range or 'none'}"),
            ("version", f"{found.selector}, from {found.selector_from}"),
            (
                "bucket",
                f"{found.bucket} of 1024, by the first {found.key_length} bits of the client",
            ),
            ("arm", found.arm),
            ("TTL", f"{found.ttl_s} s: {found.ttl_reason} (bounds {clamp})"),
            *(("", text) for text in _ttl_terms(found)),
            ("scope", f"/{found.scope}: all clients in that prefix get this answer"),
        ]
    return [*lines, *(("note", note) for note in found.notes)]


def _ttl_terms(found: pb.ExplainResponse) -> Sequence[str]:
    """The terms that apply, and which members of the set allow the least."""
    terms = [f"load allows {found.ttl_load_s} s: {found.ttl_headroom:.0%} free at least"]
    if found.HasField("ttl_verdict_s"):
        terms.append(f"a failing member allows {found.ttl_verdict_s:g} s: it can be down by then")
    if found.HasField("ttl_change_s"):
        terms.append(f"a change allows {found.ttl_change_s} s")
    if found.HasField("ttl_rollout_s"):
        terms.append(f"rollout {found.motion.rollout} allows {found.ttl_rollout_s} s")
    members = [line for line in found.instances if line.in_set]
    least = min((line.ttl_s for line in members), default=0)
    return terms + [
        f"{line.instance} allows {line.ttl_s:.0f} s: {line.verdict}, {line.headroom:.0%} free"
        for line in members
        if line.ttl_s == least < found.ttl_max_s
    ]


def _row(line: pb.ExplainedInstance) -> Sequence[object]:
    return (
        line.place or "-",
        line.instance,
        line.version,
        line.pop,
        line.verdict,
        f"{line.capacity:g}",
        f"{line.load:.0%}",
        f"{line.headroom:.0%}",
        f"{line.share:.2f}",
        f"{line.success:.0%}",
        line.weight,
        line.tier if line.place else "-",
        f"{line.cost:.1f}" if line.place else "-",
        f"<={line.ttl_s:.0f}" if line.ttl_s else "-",
        _yes(line.in_set),
        line.reason,
        line.excluded,
    )
