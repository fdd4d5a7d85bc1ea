"""Which cores probe an instance: a few of them, the same on every node, spread evenly."""

from collections.abc import Sequence

from meshd.core.hashing import mix64, seed


def probers(instance: str, cores: Sequence[str], vantage: int) -> tuple[str, ...]:
    """The `vantage` cores that probe an instance (all, if there are fewer), by rendezvous hash.

    A core that goes leaves all other pairs as they are: only its instances find another.
    """
    at = seed(instance)
    ranked = sorted(set(cores), key=lambda core: (mix64(at ^ seed(core)), core))
    return tuple(ranked[:vantage])
