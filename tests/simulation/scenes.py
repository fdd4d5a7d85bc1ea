"""The scenes that tests and the figure play."""

from meshd.core.model import Ttl
from tests.simulation.world import Setting

TTL_S = 60
# When load falls again in `two_pops`.
FULL_UNTIL = 1800
# In `evening`: when demand rises, and when one instance loses half its strength.
RISES, WEAKENS, EVENING = 2400, 2700, 3000
ADAPTIVE = Ttl(5, 60)
# With it an evening costs as many questions as with the adaptive one.
FIXED = Ttl(31, 31)


def one_weak(delay_s: int, strength: float = 0.6, noise: float = 0.0) -> Setting:
    """Four of which one can do less than it says: at 90 % and more while the others are at 60."""
    instances = {"a": ("eu", strength), "b": ("eu", 1.0), "c": ("eu", 1.0), "d": ("eu", 1.0)}
    return Setting(instances, lambda pop, now: 0.6, report_delay_s=delay_s, noise=noise)


def two_pops(home: float, neighbour: float, delay_s: int, until_s: int = FULL_UNTIL) -> Setting:
    """Four instances in each Pop; eu is loaded from the first minute to `until_s`."""

    def demand(pop: str, now: int) -> float:
        if pop == "us":
            return neighbour
        return home if 60 <= now < until_s else 0.4

    instances = {f"{pop}{n}": (pop, 1.0) for pop in ("eu", "us") for n in range(4)}
    fallback = {"eu": ("us",), "us": ("eu",)}
    return Setting(instances, demand, report_delay_s=delay_s, fallback=fallback)


def evening(ttl: Ttl) -> Setting:
    """A quiet time, a busy one, and then one of four is half as strong at once."""

    def demand(pop: str, now: int) -> float:
        return 0.4 + 0.3 * min(1.0, max(0.0, (now - RISES) / 120))

    instances = {name: ("eu", 1.0) for name in "abcd"}
    weakened = {"a": (WEAKENS, 0.5)}
    return Setting(instances, demand, ttl, report_delay_s=2, weakened=weakened)
