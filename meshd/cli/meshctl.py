"""`meshctl`: everything that people and pipelines ask of a core."""

import click

from meshd import __version__
from meshd.cli.cluster_commands import accept_store, nodes
from meshd.cli.connect import Server
from meshd.cli.doctor.command import doctor
from meshd.cli.experiment_commands import experiment
from meshd.cli.instance_commands import instance
from meshd.cli.migrate_command import migrate
from meshd.cli.resolve_commands import explain, resolve
from meshd.cli.rollout_commands import rollout
from meshd.cli.snapshot_commands import snapshot
from meshd.cli.top_command import top
from meshd.cli.topology_commands import apply, export, get, history, plan
from meshd.cli.watch_command import watch


@click.group()
@click.version_option(__version__, prog_name="meshctl")
@click.option(
    "--server",
    default="127.0.0.1:7700",
    envvar="MESHCTL_SERVER",
    show_default=True,
    show_envvar=True,
    help="gRPC address of a core, HOST:PORT or unix:/path; several, by commas: the first there.",
)
@click.option("--timeout", default=10.0, show_default=True, help="Seconds to wait for it.")
@click.pass_context
def main(context: click.Context, server: str, timeout: float) -> None:
    """Plan and change the topology, and ask what clients are answered and why.

    Exit codes: 0 done, 1 refused or failed, 2 usage, 3 cannot reach the server.
    """
    addresses = tuple(part for part in server.split(",") if part)
    if not addresses:
        raise click.BadParameter("names no core", param_hint="--server")
    context.obj = Server(addresses, timeout)


_COMMANDS = (
    apply, plan, get, export, history, resolve, explain, doctor, top, watch, instance,
    rollout, experiment, nodes, accept_store, snapshot, migrate,
)  # fmt: skip
for command in _COMMANDS:
    main.add_command(command)


if __name__ == "__main__":
    main()
