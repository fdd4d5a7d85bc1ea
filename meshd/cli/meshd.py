"""`meshd`: serve (core and answerers on one machine) and answer (answerers beside a DNS server)."""

import contextlib
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import click

from meshd import __version__
from meshd.answerer.settings import AnswererSettings
from meshd.cli.config import Config, read_config
from meshd.cli.etcd_options import etcd_options, with_options
from meshd.cli.listen import open_bridge, open_dns, open_table
from meshd.cli.supervise import Role, supervise
from meshd.core.errors import Invalid, MeshError
from meshd.daemon.settings import CoreSettings, ProbeSettings

_REFUSED = 1
_USAGE = 2


@click.group()
@click.version_option(__version__, prog_name="meshd")
def main() -> None:
    """Answers service names with the instances that each client should use, best first.

    `meshd serve` needs no flags: it keeps its data in ./meshd-data, listens for DNS on
    127.0.0.1:5300, for gRPC on 127.0.0.1:7700, and for PowerDNS on meshd-data/bridge.sock.
    """
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s meshd %(message)s", stream=sys.stderr
    )


_shared = with_options(
    click.option(
        "--config",
        type=click.Path(dir_okay=False, path_type=Path),
        help="TOML file; keys are the names of these flags.",
    ),
    click.option("--data", type=click.Path(file_okay=False), help="Data directory."),
    click.option("--dns", help="DNS listener, HOST:PORT[,HOST:PORT]  [127.0.0.1:5300]"),
    click.option("--bridge", type=click.Path(), help="Socket for PowerDNS and Unbound."),
    click.option("--bridge-group", help="Group that may use bridge and table: `pdns`."),
    click.option("--table", type=click.Path(), help="Table of answers for dnsdist."),
    click.option("--purge", help="Run where names change: 'pdns_control purge {name}$'"),
    click.option("--answerers", type=int, help="Processes that answer  [one a CPU]"),
    click.option("--ecs-from", help="Networks trusted with ECS  [127.0.0.0/8,::1/128]"),
    click.option("--proxy-from", help="Networks that may send PROXY v2  [the same]"),
    click.option("--node", help="Name of this node  [host name]"),
)


@main.command()
@_shared
@click.option("--store", type=click.Choice(["embedded", "etcd"]), help="[embedded: a file]")
@click.option("--etcd", help="[https://]HOST:PORT[,HOST:PORT]  [127.0.0.1:2379]")
@etcd_options
@click.option("--grpc", help="gRPC API, HOST:PORT  [127.0.0.1:7700]")
@click.option("--advertise", help="Where other cores reach it, HOST:PORT  [as --grpc]")
@click.option("--core", help="Other cores, for its answerers to turn to: HOST:PORT[,HOST:PORT]")
@click.option("--http", help="Health and metrics, HOST:PORT  [127.0.0.1:7780]")
@click.option(
    "--deploy-token-file",
    type=click.Path(),
    help="Let in who shows its token: POST /v1/deployments begins a rollout  [nobody]",
)
@click.option("--insecure", is_flag=True, default=None, help="Allow gRPC beyond loopback.")
@click.option("--probe-in-flight", type=int, help="Probes at once, at most  [256]")
@click.option("--vantage", type=int, help="Cores that probe each instance  [2, or all]")
@click.option(
    "--probe-allow",
    help="Networks probed although closed to probes (loopback, link-local, metadata)  [none]",
)
@click.option("--probe-ports", help="Ports probed although no service has them: 8081,9090  [none]")
def serve(config: Path | None, **flags: Any) -> None:
    """Run a core and its answerers on this machine.

    Example: meshd serve --data /var/lib/meshd --bridge /run/meshd/bridge.sock

    One of several: meshd serve --store etcd --etcd e1:2379,e2:2379,e3:2379 --grpc 10.0.0.5:7700
    --insecure --core 10.0.0.6:7700,10.0.0.7:7700
    """
    settings = _read(config, flags)
    if settings.core and settings.store == "embedded":
        _fail("core: other cores have another store; --store etcd is one that cores share", _USAGE)
    role = Role("core", "meshd.daemon", core_settings(settings).model_dump_json(), must_start=True)
    own = f"unix:{settings.data.absolute() / 'core.sock'}"
    _run(settings, (own, *settings.core), [role])


def core_settings(config: Config) -> CoreSettings:
    """What the core of `meshd serve` is told."""
    return CoreSettings(
        node=config.node,
        data=config.data.absolute(),
        store=config.store,
        etcd=config.etcd_settings,
        grpc=config.grpc,
        advertise=config.advertise,
        http=config.http,
        deploy_token_file=config.deploy_token_file,
        probes=ProbeSettings(
            in_flight=config.probe_in_flight,
            vantage=config.vantage,
            allow=config.probe_allow,
            ports=config.probe_ports,
        ),
    )


@main.command()
@_shared
@click.option("--core", help="Cores to follow, HOST:PORT[,HOST:PORT]", required=False)
def answer(config: Path | None, **flags: Any) -> None:
    """Run answerers alone, beside a DNS server, following cores elsewhere.

    Example: meshd answer --core 10.0.0.5:7700,10.0.0.6:7700 --bridge /run/meshd/bridge.sock
    """
    settings = _read(config, flags)
    if not settings.core:
        _fail("meshd answer needs --core HOST:PORT", _USAGE)
    _run(settings, settings.core, [])


def _read(path: Path | None, flags: dict[str, Any]) -> Config:
    named = {name.replace("_", "-"): value for name, value in flags.items()}
    try:
        return read_config(path, named)
    except Invalid as error:
        _fail("\n".join(str(fault) for fault in error.faults), _USAGE)


def _fail(message: str, code: int) -> NoReturn:
    for line in message.splitlines():
        click.echo(f"meshd: {line}", err=True)
    sys.exit(code)


def _run(config: Config, cores: Sequence[str], roles: list[Role]) -> None:
    config.data.mkdir(mode=0o750, parents=True, exist_ok=True)
    try:
        udp, tcp = open_dns(config.dns)
        bridge = open_bridge(config.bridge_path, config.bridge_group)
        table = open_table(config.table, config.bridge_group) if config.table else None
    except MeshError as error:
        _fail(str(error), _REFUSED)
    for index in range(config.answerers):
        settings = AnswererSettings(
            index=index,
            node=config.node,
            cores=tuple(cores),
            data=config.data.absolute(),
            udp_fds=tuple(sock.fileno() for sock in udp),
            tcp_fds=tuple(sock.fileno() for sock in tcp),
            bridge_fd=bridge.fileno(),
            # It has one writer.
            table_fd=table if index == 0 else None,
            purge=config.purge if index == 0 else None,
            ecs_from=config.ecs_from,
            proxy_from=config.proxy_from,
        )
        fds = (*settings.udp_fds, *settings.tcp_fds, bridge.fileno(), *([table] if table else []))
        roles.append(Role(f"answerer {index}", "meshd.answerer", settings.model_dump_json(), fds))
    logging.getLogger(__name__).info(
        "serving: dns=%s bridge=%s data=%s", ",".join(config.dns), config.bridge_path, config.data
    )
    code = supervise(roles)
    with contextlib.suppress(OSError):
        config.bridge_path.unlink()
    sys.exit(code)


if __name__ == "__main__":
    main()
