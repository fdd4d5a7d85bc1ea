"""Benchmarks against peers in the same run: `python -m tests.bench`. Ratios count, not figures."""
