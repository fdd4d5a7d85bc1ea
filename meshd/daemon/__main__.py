"""Entry of a core process: `python -m meshd.daemon <settings as JSON>`."""

import asyncio
import logging
import os
import resource
import sys

from meshd.core.errors import MeshError
from meshd.daemon.main import run
from meshd.daemon.settings import CoreSettings

# Answerers on the same machine come first: what a core does may wait some milliseconds, and a
# burst of registrations or reports must not be noticed by those who ask.
_NICE = 5


def _take_room() -> None:
    """Let every process of a large fleet have its connection: the soft limit is 1024 as a rule."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def main() -> int:
    """Run one core with the settings in the first argument; 1 if it could not start."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s core %(message)s")
    # Whoever can open core.sock can change the topology.
    os.umask(0o077)
    os.nice(_NICE)
    _take_room()
    settings = CoreSettings.model_validate_json(sys.argv[1])
    try:
        asyncio.run(run(settings))
    except (MeshError, OSError) as error:
        logging.getLogger(__name__).critical("core cannot run: %s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
