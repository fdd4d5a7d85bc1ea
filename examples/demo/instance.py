"""One instance of the demo: a small HTTP server that registers itself and tells its load.

    python instance.py --name api-eu-1 --version 1.2.0 --pop eu --address 127.10.1.1

GET / says who answers, GET /healthz says ok, POST /load/0.95 sets the load that is told.
"""

import argparse
import http.server
import signal
import threading
import time

from meshd.client import BlockingRegistration


def http_server(
    registration: BlockingRegistration, arguments: argparse.Namespace
) -> http.server.ThreadingHTTPServer:
    """The HTTP server of an instance."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = f"{arguments.name} {arguments.version}\n"
            self.answer(200, "ok\n" if self.path == "/healthz" else name)

        def do_POST(self) -> None:
            try:
                registration.load = load = float(self.path.removeprefix("/load/"))
            except ValueError:
                self.answer(400, "POST /load/0.95\n")
                return
            self.answer(200, f"load {load}\n")

        def answer(self, status: int, body: str) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            """The demo's terminal shows the answers, not each request."""

    return http.server.ThreadingHTTPServer((arguments.address, arguments.port), Handler)


def main() -> None:
    """Serve until SIGTERM, then leave the mesh before the port closes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--core", default="127.0.0.1:7700")
    parser.add_argument("--service", default="api")
    parser.add_argument("--name", required=True)
    parser.add_argument("--version", required=True)
    parser.add_argument("--pop", default="", help="by the ranges if not given")
    parser.add_argument("--address", required=True)
    parser.add_argument("--port", type=int, default=8080)
    arguments = parser.parse_args()
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    signal.signal(signal.SIGINT, lambda *_: stopping.set())
    registration = BlockingRegistration(
        arguments.core,
        name=arguments.name,
        service=arguments.service,
        version=arguments.version,
        pop=arguments.pop,
        addresses=[arguments.address],
        ports={"http": arguments.port},
        lease_s=1.5,
        load=0.1,
    )
    server = http_server(registration, arguments)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with registration:
        stopping.wait()
    # Whoever was answered this address a moment ago may still come.
    time.sleep(0.2)
    server.shutdown()


if __name__ == "__main__":
    main()
