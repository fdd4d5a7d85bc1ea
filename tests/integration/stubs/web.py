"""A small HTTP server, one instance of a service: GET / says who answers, /healthz says ok.

python web.py ADDRESS PORT NAME

POST /fail/0.5 makes half of the GET / fail with 500; /healthz stays ok. Connections are kept.
"""

import http.server
import random
import sys


def main() -> None:
    """Serve until killed."""
    address, port, name = sys.argv[1:]
    failing = [0.0]

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Else each reply waits for an acknowledgement of its headers.
        wbufsize = -1

        def do_GET(self) -> None:
            if self.path == "/healthz":
                self.answer(200, "ok\n")
            elif random.random() < failing[0]:
                self.answer(500, "failed\n")
            else:
                self.answer(200, f"{name}\n")

        def do_POST(self) -> None:
            failing[0] = float(self.path.removeprefix("/fail/"))
            self.answer(200, f"{failing[0]}\n")

        def answer(self, status: int, body: str) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            """Probes are many."""

    http.server.ThreadingHTTPServer((address, int(port)), Handler).serve_forever()


if __name__ == "__main__":
    main()
