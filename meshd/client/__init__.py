"""What applications import: to call the services of a mesh, and to be one.

    async with Mesh("api.mesh.internal") as mesh:
        async with mesh.connect() as connection:
            ...

`meshd.client.httpx` and `meshd.client.grpc` are the same for those. A program announces itself:

    async with Registration(
        "127.0.0.1:7700", name="api-1", service="api", version="1.2.0", addresses=["10.1.0.1"]
    ) as registration:
        registration.load = 0.4
        ...
        await registration.drain()

Needs dnspython, grpcio and protobuf, nothing else.
"""

from meshd.client.announced import Announced, Figure
from meshd.client.blocking import BlockingRegistration, BlockingReporter
from meshd.client.choose import Strategy
from meshd.client.endpoint import Endpoint, Outcome
from meshd.client.errors import Refused, Replaced, Unreachable
from meshd.client.lookup import Answer, Denied, Unresolved
from meshd.client.mesh import BlockingMesh, Mesh, Ways
from meshd.client.pool import Connection, Limits, Pools, select_connection
from meshd.client.registration import Registration, Standing
from meshd.client.report import Reporter
from meshd.client.resolver import resolve_service

__all__ = [
    "Announced",
    "Answer",
    "BlockingMesh",
    "BlockingRegistration",
    "BlockingReporter",
    "Connection",
    "Denied",
    "Endpoint",
    "Figure",
    "Limits",
    "Mesh",
    "Outcome",
    "Pools",
    "Refused",
    "Registration",
    "Replaced",
    "Reporter",
    "Standing",
    "Strategy",
    "Unreachable",
    "Unresolved",
    "Ways",
    "resolve_service",
    "select_connection",
]
