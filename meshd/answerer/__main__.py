"""Entry of an answerer process: `python -m meshd.answerer <settings as JSON>`."""

import logging
import sys

import uvloop

from meshd.answerer.main import run
from meshd.answerer.settings import AnswererSettings


def main() -> None:
    """Run one answerer with the settings in the first argument."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s answerer %(message)s")
    uvloop.run(run(AnswererSettings.model_validate_json(sys.argv[1])))


if __name__ == "__main__":
    main()
