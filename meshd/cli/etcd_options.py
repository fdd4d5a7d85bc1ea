"""The options that say how to log in to etcd: the same for a core and for whoever moves a store."""

from collections.abc import Callable
from pathlib import Path

import click

Command = Callable[..., None]
Decorator = Callable[[Command], Command]


def with_options(*options: Decorator) -> Decorator:
    """A decorator that adds options, in the order that they are listed in."""

    def add(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add


_path = click.Path(dir_okay=False, path_type=Path)
etcd_options = with_options(
    click.option("--etcd-prefix", help="What its keys begin with  [/meshd/]"),
    click.option("--etcd-ca", type=_path, help="CA of etcd's certificate, PEM  [the system's]"),
    click.option("--etcd-cert", type=_path, help="Certificate to show to etcd, PEM."),
    click.option("--etcd-key", type=_path, help="Its key, PEM; for nobody else to read."),
    click.option("--etcd-user", help="User of etcd, where it wants a password."),
    click.option("--etcd-password-file", type=_path, help="File that holds the password."),
)
