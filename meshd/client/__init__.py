"""What applications import: a program announces itself to the mesh that it serves in.

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
from meshd.client.endpoint import Endpoint, Outcome
from meshd.client.errors import Refused, Replaced, Unreachable
from meshd.client.registration import Registration, Standing
from meshd.client.report import Reporter

__all__ = [
    "Announced",
    "BlockingRegistration",
    "BlockingReporter",
    "Endpoint",
    "Figure",
    "Outcome",
    "Refused",
    "Registration",
    "Replaced",
    "Reporter",
    "Standing",
    "Unreachable",
]
