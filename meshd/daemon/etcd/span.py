"""A span of keys."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Span:
    """All keys from a start to before an end."""

    start: bytes
    end: bytes

    @classmethod
    def under(cls, prefix: bytes) -> "Span":
        """All keys that start with a prefix, which ends in something below 0xff."""
        return cls(prefix, prefix[:-1] + bytes([prefix[-1] + 1]))
