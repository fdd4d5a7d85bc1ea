"""A gRPC server with the health service, one instance of a service; prints a line for each call.

python health.py ADDRESS PORT
"""

import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc


class Health(health.HealthServicer):  # type: ignore[misc]
    """The health service, with a line for each check."""

    def Check(self, request: Any, context: Any) -> Any:  # noqa: N802
        sys.stdout.write("check\n")
        sys.stdout.flush()
        return super().Check(request, context)


def main() -> None:
    """Serve until killed."""
    address, port = sys.argv[1:]
    servicer = Health()
    servicer.set("", health_pb2.HealthCheckResponse.SERVING)
    server = grpc.server(ThreadPoolExecutor(4))
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    server.add_insecure_port(f"{address}:{port}")
    server.start()
    server.wait_for_termination()


if __name__ == "__main__":
    main()
