"""A fleet that starts at once: everybody gets in, and those who ask notice nothing."""

from pathlib import Path

import pytest

from tests.bench.registration_bench import burst, document
from tests.servers.processes import Meshd

pytestmark = pytest.mark.integration

# More than gRPC lets wait by default before it refuses some at random.
COUNT = 2000


def test_a_burst_of_registrations(folder: Path) -> None:
    meshd = Meshd(folder, 1)
    try:
        meshd.start_ready()
        meshd.apply(document())
        _, before, during = burst(meshd, COUNT, 1.0)
        assert len(during.took_s) > 20
        assert before.wrong + during.wrong == []
    finally:
        meshd.stop()
