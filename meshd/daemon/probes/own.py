"""The guard of this process: what its operator allows, and its own ports."""

import socket

from meshd.core.guard import Guard
from meshd.core.model import Address
from meshd.daemon.settings import CoreSettings


def guard_of(settings: CoreSettings) -> Guard:
    """The guard that settings make."""
    own = {int(address.rpartition(":")[2]) for address in (settings.grpc, settings.http)}
    probes = settings.probes
    return Guard(probes.allow, frozenset(probes.ports), frozenset(own), is_local)


def is_local(address: Address) -> bool:
    """True for an address of this machine: only such a one can be bound."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.bind((str(address), 0))
    except OSError:
        return False
    return True
