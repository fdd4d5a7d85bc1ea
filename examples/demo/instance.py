"""One instance of the demo: a small HTTP server that registers itself and tells its load.

    python instance.py --name api-eu-1 --version 1.2.0 --pop eu --address 127.10.1.1

GET / says who answers, GET /healthz says ok, POST /load/0.95 sets the load that is told.
"""

import argparse
import http.server
import signal
import threading
import time

import grpc

from meshd.v1 import records_pb2, registry_pb2, registry_pb2_grpc

LEASE_S = 1.5


class Instance:
    """What this process is, and its load."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.record = records_pb2.Instance(
            name=arguments.name,
            service=arguments.service,
            version=arguments.version,
            pop=arguments.pop,
            addresses=[arguments.address],
            ports={"http": arguments.port},
        )
        self.load = 0.1
        self.stopping = threading.Event()

    def keep_registered(self, core: str) -> None:
        """Register, then beat until told to stop; register again whenever the lease is lost."""
        with grpc.insecure_channel(core) as channel:
            registry = registry_pb2_grpc.RegistryStub(channel)
            lease = 0
            while not self.stopping.is_set():
                try:
                    if not lease:
                        lease = registry.Register(
                            registry_pb2.RegisterRequest(instance=self.record, lease_s=LEASE_S),
                            timeout=2,
                        ).lease
                    registry.Heartbeat(
                        registry_pb2.HeartbeatRequest(
                            instance=self.record.name, lease=lease, load=self.load
                        ),
                        timeout=1,
                    )
                except grpc.RpcError as error:
                    lost = (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.ABORTED)
                    lease = 0 if error.code() in lost else lease
                self.stopping.wait(LEASE_S / 3)
            if lease:
                request = registry_pb2.DeregisterRequest(instance=self.record.name, lease=lease)
                registry.Deregister(request, timeout=2)


def http_server(instance: Instance, address: str, port: int) -> http.server.ThreadingHTTPServer:
    """The HTTP server of an instance."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            record = instance.record
            body = "ok\n" if self.path == "/healthz" else f"{record.name} {record.version}\n"
            self.answer(200, body)

        def do_POST(self) -> None:
            try:
                instance.load = float(self.path.removeprefix("/load/"))
            except ValueError:
                self.answer(400, "POST /load/0.95\n")
                return
            self.answer(200, f"load {instance.load}\n")

        def answer(self, status: int, body: str) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            """The demo's terminal shows the answers, not each request."""

    return http.server.ThreadingHTTPServer((address, port), Handler)


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
    instance = Instance(arguments)
    server = http_server(instance, arguments.address, arguments.port)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    signal.signal(signal.SIGTERM, lambda *_: instance.stopping.set())
    signal.signal(signal.SIGINT, lambda *_: instance.stopping.set())
    instance.keep_registered(arguments.core)
    # Whoever was answered this address a moment ago may still come.
    time.sleep(0.2)
    server.shutdown()


if __name__ == "__main__":
    main()
