"""Which cores do what: a few probe each instance, one decides on each service.

The same on every node that knows the same cores, and spread evenly. A core that goes leaves all
other pairs as they are: only what it did finds another.
"""

from collections.abc import Sequence

from meshd.core.hashing import mix64, seed


def probers(instance: str, cores: Sequence[str], vantage: int) -> tuple[str, ...]:
    """The `vantage` cores that probe an instance (all, if there are fewer), by rendezvous hash."""
    return tuple(_ranked(instance, cores)[:vantage])


def decider(service: str, cores: Sequence[str]) -> str:
    """The core that makes the signals of a service's instances, by rendezvous hash."""
    return _ranked(service, cores)[0]


def _ranked(name: str, cores: Sequence[str]) -> list[str]:
    at = seed(name)
    return sorted(set(cores), key=lambda core: (mix64(at ^ seed(core)), core))
