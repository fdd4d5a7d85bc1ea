"""A small HTTP server, one instance of a service: GET / says who answers, /healthz says ok.

python web.py ADDRESS PORT NAME
"""

import http.server
import sys


def main() -> None:
    """Serve until killed."""
    address, port, name = sys.argv[1:]

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b"ok\n" if self.path == "/healthz" else f"{name}\n".encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Probes are many."""

    http.server.ThreadingHTTPServer((address, int(port)), Handler).serve_forever()


if __name__ == "__main__":
    main()
