"""A core that only listens to reports, speaking by hand, so that it can hang and be away."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from meshd.v1 import reporter_pb2 as pb
from meshd.v1 import reporter_pb2_grpc


@dataclass
class Listener(reporter_pb2_grpc.ReporterServicer):
    """Keeps each batch, and answers unless it is `silent`."""

    address: str
    every_s: float = 0.0
    silent: bool = False
    batches: list[pb.ReportRequest] = field(default_factory=list)
    streams: int = 0
    server: Any = None

    async def Report(self, requests: Any, _: Any) -> AsyncIterator[pb.ReportResponse]:  # noqa: N802
        self.streams += 1
        async for request in requests:
            self.batches.append(request)
            while self.silent:  # noqa: ASYNC110 - it hangs
                await asyncio.sleep(0.05)
            yield pb.ReportResponse(every_s=self.every_s)

    async def start(self) -> None:
        self.server = grpc.aio.server()
        reporter_pb2_grpc.add_ReporterServicer_to_server(self, self.server)
        self.server.add_insecure_port(self.address)
        await self.server.start()

    async def stop(self) -> None:
        await self.server.stop(0)

    def attempts(self, instance: str) -> int:
        """Calls to an instance, of all batches."""
        each = (found for batch in self.batches for found in batch.outcomes)
        return sum(found.attempts for found in each if found.instance == instance)


@asynccontextmanager
async def listening(path: Path, **more: Any) -> AsyncIterator[Listener]:
    made = Listener(f"unix:{path}/core.sock", **more)
    await made.start()
    try:
        yield made
    finally:
        await made.stop()
