"""A real core for meshctl to talk to."""

from collections.abc import Iterator

import pytest

from tests.servers.processes import Meshd


@pytest.fixture(scope="module")
def meshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Meshd]:
    """meshd with an empty store."""
    made = Meshd(tmp_path_factory.mktemp("meshd"))
    try:
        made.start_ready()
        yield made
    finally:
        made.stop()
