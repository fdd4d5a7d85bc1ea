"""Which sources are believed when they speak for somebody else."""

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network

Network = IPv4Network | IPv6Network


class Trusted:
    """Networks whose word counts."""

    def __init__(self, networks: Sequence[Network]) -> None:
        self._bounds = [
            (net.version, int(net.network_address), int(net.broadcast_address)) for net in networks
        ]

    def holds(self, version: int, address: int) -> bool:
        """True if an address is in one of them."""
        return any(v == version and low <= address <= high for v, low, high in self._bounds)
