"""Fixed hashes, equal on every node and in every release: buckets, seeds, permutations.

Python's own hash() is salted per process; nothing here may use it.
"""

import math
from collections.abc import Iterable
from hashlib import blake2b

BUCKETS = 1024
_MASK = (1 << 64) - 1


def mix64(value: int) -> int:
    """Spread an integer over 64 bits (splitmix64's finaliser, Steele et al. 2014)."""
    value = (value + 0x9E3779B97F4A7C15) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)


def seed(text: str) -> int:
    """A 64-bit seed of a name."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")


def client_bucket(value: int, length: int) -> int:
    """The bucket (0..1023) of a client key: the address bits kept, and how many they are."""
    return mix64(((value >> 64) * 0x9E3779B97F4A7C15 ^ value) * 131 + length & _MASK) >> 54


def permuted(bucket: int, salt: int) -> int:
    """Where a bucket stands (0..1023) in the order that a salt makes: a bijection for each salt."""
    step = salt >> 10 & 0x3FF | 1
    return (bucket * step ^ salt & 0x3FF) * 0x2E5 + (salt >> 20) & 0x3FF


_COST_SCALE = 1 << 40
_COST = tuple(int(-math.log((slot + 0.5) / 65536) * _COST_SCALE) for slot in range(65536))


def rendezvous_cost(bucket: int, instance_seed: int, weight: int) -> int:
    """Weighted rendezvous: the instance of least cost wins; P(win) is proportional to weight.

    -ln(u)/weight (Schindelhauer and Schomaker 2005), in whole numbers so that no two
    machines can disagree in the last bit.
    """
    draw = mix64(instance_seed ^ bucket * 0xD1342543DE82EF95 & _MASK)
    # The low bits break ties among the 65,536 table slots.
    return (_COST[draw >> 48] << 16 | draw & 0xFFFF) // weight


def rendezvous_costs(bucket: int, seeds: Iterable[int], weights: Iterable[int]) -> list[int]:
    """`rendezvous_cost` of many at once: calls would cost as much again as the arithmetic."""
    salt = bucket * 0xD1342543DE82EF95 & _MASK
    found = []
    for instance_seed, weight in zip(seeds, weights, strict=True):
        value = (instance_seed ^ salt) + 0x9E3779B97F4A7C15 & _MASK
        value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 & _MASK
        value = (value ^ value >> 27) * 0x94D049BB133111EB & _MASK
        value ^= value >> 31
        found.append((_COST[value >> 48] << 16 | value & 0xFFFF) // weight)
    return found
