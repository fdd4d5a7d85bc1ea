"""Waiting until every answerer that follows any core answers from a revision."""

import functools
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import click
import grpc

from meshd.cli.connect import Server, fail
from meshd.cli.etcd_options import Command
from meshd.cli.overrides import duration
from meshd.v1 import cluster_pb2 as pb
from meshd.v1 import cluster_pb2_grpc

_POLL_S = 0.2
# Of a core that was not heard for so long nobody knows who follows it.
_SILENT_S = 3.0
_ASK_S = 5.0
# Follows too, and answers nobody.
WATCH = "meshctl watch"
_SHOWN = 20


def wait_options(command: Command) -> Command:
    """--wait and --timeout: for how long, or None for not at all."""

    @click.option("--wait", "is_waited", is_flag=True, help="Until every answerer has it.")
    @click.option(
        "--timeout", "timeout_s", default="60s", show_default=True, callback=duration,
        metavar="DURATION", help="How long --wait waits.",
    )  # fmt: skip
    @functools.wraps(command)
    def waiting(*arguments: Any, is_waited: bool, timeout_s: float, **flags: Any) -> None:
        command(*arguments, wait_s=timeout_s if is_waited else None, **flags)

    return waiting


@dataclass(slots=True)
class Answerers:
    """The answerers seen since this began, whoever they followed, and what they answer from."""

    server: Server
    revisions: dict[str, int] = field(default_factory=dict)
    # Cores that could not be asked who follows them.
    silent: tuple[str, ...] = ()

    @classmethod
    def seen_by(cls, server: Server) -> "Answerers":
        """Those that follow now."""
        made = cls(server)
        made.look()
        return made

    def look(self) -> None:
        """See who follows now; one that changes its core meanwhile stays known."""
        try:
            with self.server.opened() as (_, channel):
                stub = cluster_pb2_grpc.ClusterStub(channel)
                reply = stub.Nodes(pb.NodesRequest(), timeout=min(_ASK_S, self.server.timeout_s))
        except grpc.RpcError as error:
            self.silent = (f"no core: {error.code().name}",)
            self.server = self.server.turned()
            return
        self.silent = tuple(_silent(reply))
        for each in reply.nodes:
            for name in {*each.state.answerers} - {WATCH}:
                held = self.revisions.get(name, 0)
                self.revisions[name] = max(held, each.state.confirmed.get(name, 0))

    def behind(self, revision: int) -> list[str]:
        """Those that do not answer from it yet, and what is not known."""
        found = [
            f"{name} (at revision {held})" if held else f"{name} (it did not say)"
            for name, held in sorted(self.revisions.items())
            if held < revision
        ]
        if not self.revisions:
            found.append("no answerer follows any core")
        return [*found, *self.silent]

    def waited(self, revision: int, timeout_s: float, as_json: bool) -> dict[str, Any]:
        """Wait, and say so; what there is to add for programs."""
        took_s = self._wait(revision, timeout_s)
        if not as_json:
            count = len(self.revisions)
            many = f"all {count} answerers answer" if count > 1 else "the answerer answers"
            click.echo(f"{many} from revision {revision} ({took_s:.1f} s)")
        return {"answerers": dict(sorted(self.revisions.items())), "waited_s": round(took_s, 3)}

    def _wait(self, revision: int, timeout_s: float) -> float:
        """Seconds until all answer from it; who is behind when time is over ends the program."""
        began = time.monotonic()
        while True:
            self.look()
            behind = self.behind(revision)
            waited_s = time.monotonic() - began
            if not behind:
                return waited_s
            if waited_s > timeout_s:
                more = [f"and {len(behind) - _SHOWN} more"] if len(behind) > _SHOWN else []
                late = f"it is written, but not all answer from revision {revision}"
                fail([f"{late} within {timeout_s:g} s: {', '.join([*behind[:_SHOWN], *more])}"])
            time.sleep(_POLL_S)


def _silent(reply: pb.NodesResponse) -> Iterator[str]:
    for each in reply.nodes:
        if not each.HasField("heard_age_s"):
            yield f"core {each.node.name} (never heard)"
        elif each.heard_age_s > _SILENT_S:
            yield f"core {each.node.name} (not heard for {each.heard_age_s:.0f} s)"
