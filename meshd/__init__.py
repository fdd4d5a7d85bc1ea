"""A service mesh in DNS answers: topology and signals in, ordered instance lists out."""

__version__ = "0.1.0"
