"""Versions and selectors: which versions of a service a client gets.

Forms: `1.2` (exact; 1.2 is 1.2.0), `1.2.*`, `>=1.2,<2`, `latest`, a channel (`beta`), and a
weighted split `{1.2: 95, 1.3: 5}` (also `1.2:95 1.3:5`).
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache, total_ordering

from meshd.core.errors import Invalid
from meshd.core.hashing import BUCKETS

_VERSION = re.compile(
    r"v?(\d{1,18}(?:\.\d{1,18}){0,3})(?:-([0-9A-Za-z.-]{1,40}))?(?:\+[0-9A-Za-z.-]{1,40})?"
)
_CHANNEL = re.compile(r"[a-z][a-z0-9-]{0,31}")
_BOUND = re.compile(r"(>=|<=|>|<|==|=|!=)\s*(.+)")

Release = tuple[int, ...]


@total_ordering
@dataclass(frozen=True, slots=True, eq=False)
class Version:
    """A version as semver orders it (semver 2.0 section 11), with 1 to 4 numbers."""

    text: str
    release: Release = field(init=False)
    key: tuple[Release, tuple[tuple[int, int, str], ...]] = field(init=False)

    def __post_init__(self) -> None:
        found = _VERSION.fullmatch(self.text)
        if not found:
            raise Invalid(f"{self.text!r} is not a version (as in 1.2.0 or 1.3.0-beta.1)")
        release = tuple(int(number) for number in found[1].split("."))
        object.__setattr__(self, "release", release + (0,) * (4 - len(release)))
        # A release sorts after its pre-releases; numbers sort before words.
        pre = tuple(
            (0, int(part), "") if part.isdigit() else (1, 0, part)
            for part in (found[2] or "").split(".")
            if found[2]
        )
        object.__setattr__(self, "key", (self.release, pre or ((2, 0, ""),)))

    @property
    def is_release(self) -> bool:
        """True if it is no pre-release."""
        return self.key[1] == ((2, 0, ""),)

    @property
    def label(self) -> str:
        """The version as one DNS label: dots become '-'."""
        return re.sub(r"[^a-z0-9]", "-", self.text.lower())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Version) and self.key == other.key

    def __lt__(self, other: "Version") -> bool:
        return self.key < other.key

    def __hash__(self) -> int:
        return hash(self.key)

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Exact:
    """One version."""

    version: Version

    def __str__(self) -> str:
        return self.version.text


@dataclass(frozen=True, slots=True)
class Family:
    """All versions that begin with these numbers: `1.2.*`."""

    numbers: Release

    def __str__(self) -> str:
        return ".".join(map(str, self.numbers)) + ".*"


@dataclass(frozen=True, slots=True)
class Bounds:
    """All versions within bounds: `>=1.2,<2`."""

    bounds: tuple[tuple[str, Version], ...]

    def __str__(self) -> str:
        return ",".join(f"{sign}{version}" for sign, version in self.bounds)


@dataclass(frozen=True, slots=True)
class Latest:
    """The highest release that an instance serves."""

    def __str__(self) -> str:
        return "latest"


@dataclass(frozen=True, slots=True)
class Channel:
    """What the service's channel of that name stands for."""

    name: str

    def __str__(self) -> str:
        return self.name


Arm = Exact | Family | Bounds | Latest | Channel


@dataclass(frozen=True, slots=True)
class Split:
    """Shares of clients: arms with weights, in the order of their text."""

    arms: tuple[tuple[Arm, int], ...]

    def __str__(self) -> str:
        return "{" + ", ".join(f"{arm}: {weight}" for arm, weight in self.arms) + "}"

    def arm_at(self, position: int) -> Arm:
        """The arm at a bucket's position; more weight for one arm moves only what it gains."""
        total = sum(weight for _, weight in self.arms)
        reached = 0
        for arm, weight in self.arms:
            reached += weight
            if position * total < reached * BUCKETS:
                return arm
        return self.arms[-1][0]


Selector = Arm | Split
LATEST = Latest()


@lru_cache(maxsize=65536)
def parse_selector(text: str) -> Selector:
    """Read any form of selector; Invalid says what is wrong."""
    text = text.strip()
    if text.startswith("{") and text.endswith("}"):
        return _parse_split([part for part in text[1:-1].split(",") if part.strip()])
    if ":" in text:
        return _parse_split(text.split())
    return _parse_arm(text)


def _parse_split(parts: list[str]) -> Split:
    arms: dict[Arm, int] = {}
    for part in parts:
        arm_text, _, weight_text = part.rpartition(":")
        if not weight_text.strip().isdigit() or not 0 <= int(weight_text) <= 1_000_000:
            raise Invalid(f"{part.strip()!r} is not <version>: <weight>")
        arm = _parse_arm(arm_text.strip().strip("'\""))
        if arm in arms:
            raise Invalid(f"{arm} stands twice in a split")
        arms[arm] = int(weight_text)
    if not 1 <= len(arms) <= 16 or not sum(arms.values()):
        raise Invalid("a split has 1..16 arms and a weight above 0")
    # Sorted, so that one split written in two orders is one selector.
    return Split(tuple(sorted(arms.items(), key=lambda item: str(item[0]))))


def _parse_arm(text: str) -> Arm:
    if text == "latest":
        return LATEST
    if text.endswith(".*"):
        return Family(_release_numbers(text[:-2]))
    if text[:1] in (">", "<", "=", "!"):
        return Bounds(tuple(_parse_bound(part.strip()) for part in text.split(",")))
    if _CHANNEL.fullmatch(text) and not _VERSION.fullmatch(text):
        return Channel(text)
    return Exact(Version(text))


def _release_numbers(text: str) -> Release:
    numbers = text.split(".")
    if not 1 <= len(numbers) <= 3 or not all(number.isdigit() for number in numbers):
        raise Invalid(f"'{text}.*' is not a version prefix (as in 1.2.*)")
    return tuple(int(number) for number in numbers)


def _parse_bound(text: str) -> tuple[str, Version]:
    found = _BOUND.fullmatch(text)
    if not found:
        raise Invalid(f"{text!r} is not a bound (as in >=1.2,<2)")
    return found[1].replace("==", "="), Version(found[2].strip())


def _within(version: Version, sign: str, bound: Version) -> bool:
    below, equal = version < bound, version == bound
    return {
        ">=": not below, ">": not below and not equal, "<": below, "<=": below or equal,
        "=": equal, "!=": not equal,
    }[sign]  # fmt: skip


def select(
    arm: Arm, versions: Iterable[Version], channels: Mapping[str, Selector]
) -> frozenset[Version]:
    """The versions, of those that are served, which an arm names (possibly none)."""
    if isinstance(arm, Channel):
        target = channels.get(arm.name)
        # A channel that stands for a channel or a split would hide what clients get.
        return (
            frozenset()
            if isinstance(target, Channel | Split | None)
            else select(target, versions, {})
        )
    if isinstance(arm, Exact):
        return frozenset(version for version in versions if version == arm.version)
    # Pre-releases are taken only by name or channel.
    releases = [version for version in versions if version.is_release]
    if isinstance(arm, Latest):
        return frozenset([max(releases)] if releases else [])
    if isinstance(arm, Family):
        size = len(arm.numbers)
        return frozenset(version for version in releases if version.release[:size] == arm.numbers)
    named = [version for version in versions if ("=", version) in arm.bounds]
    return frozenset(
        version
        for version in (*releases, *named)
        if all(_within(version, sign, bound) for sign, bound in arm.bounds)
    )


def by_nearness(
    arm: Arm, chosen: Iterable[Version], others: Iterable[Version], channels: Mapping[str, Selector]
) -> list[Version]:
    """The versions that stand in for those an arm chose, the next best first.

    That is the highest below them, else the lowest above; pre-releases come last.
    """
    highest = max(chosen, default=None) or _aim(arm, channels)

    def distance(version: Version) -> tuple[bool, bool, int]:
        is_above = highest is not None and version > highest
        return not version.is_release, is_above, places[version] * (1 if is_above else -1)

    places = {version: place for place, version in enumerate(sorted(others))}
    return sorted(places, key=distance)


def _aim(arm: Selector | None, channels: Mapping[str, Selector]) -> Version | None:
    """The version near which an arm looks that finds none; None: as high as there is."""
    if isinstance(arm, Channel):
        return _aim(channels.get(arm.name), {})
    if isinstance(arm, Exact):
        return arm.version
    if isinstance(arm, Family):
        return Version(".".join(map(str, arm.numbers)))
    return arm.bounds[0][1] if isinstance(arm, Bounds) else None
