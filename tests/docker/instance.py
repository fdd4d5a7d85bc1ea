"""An instance for the cluster without containers: a web server that registers itself.

`python -m tests.docker.instance NAME ADDRESS CORE[,CORE]`
"""

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from meshd.client import BlockingRegistration


class _Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Probes are of no interest."""


def main(name: str, address: str, cores: str) -> None:
    """Serve, registered, until it is killed."""
    with (
        ThreadingHTTPServer((address, 8080), _Page) as server,
        BlockingRegistration(
            cores.split(","),
            name=name,
            service="api",
            version="1.2.0",
            pop="eu",
            addresses=[address],
        ),
    ):
        server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
