"""Many processes that register at once, played by one: `python -m tests.servers.fleet`.

Prints one line of JSON when all are in, beats as they are welcomed, and ends with its stdin.
"""

import asyncio
import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import grpc

from meshd.v1 import records_pb2, registry_pb2_grpc
from meshd.v1 import registry_pb2 as pb
from tests.servers.processes import ROOT

# Streams of one connection; each process of a real fleet has its own.
_STREAMS = 200
# A fleet that gets no CPU is silent: it is forgiven, for that is not what is looked at.
_LEASE_S = 30.0
_OPTIONS = (("grpc.use_local_subchannel_pool", 1),)


def address(number: int) -> str:
    """The address of an instance."""
    return f"10.{1 + (number >> 16)}.{number >> 8 & 255}.{number & 255}"


class _Instance:
    """One of the fleet."""

    def __init__(self, channel: grpc.aio.Channel, number: int, service: str) -> None:
        self._call = registry_pb2_grpc.RegistryStub(channel).Register()
        self._number = number
        self._message = records_pb2.Instance(
            name=f"fleet-{number}", service=service, version="1.2.0", pop="eu",
            addresses=[address(number)],
        )  # fmt: skip
        self._every_s = 0.0

    async def enter(self) -> str:
        """Register; what went wrong, or nothing."""
        try:
            hello = pb.Hello(instance=self._message, lease_s=_LEASE_S)
            await self._call.write(pb.RegisterRequest(hello=hello))
            told = await self._call.read()
        except grpc.aio.AioRpcError as error:
            return f"{error.code().name}: {error.details()}"
        if told is grpc.aio.EOF:
            return "the stream ended"
        self._every_s = told.welcome.beat_every_s
        return ""

    async def beat(self) -> None:
        """Beat for ever, each at its own moment."""
        await asyncio.sleep((0.5 + self._number % 97 / 194) * self._every_s)
        while True:
            await self._call.write(pb.RegisterRequest(beat=pb.Heartbeat(load=0.3)))
            told = await self._call.read()
            if told is grpc.aio.EOF:
                return
            self._every_s = told.welcome.beat_every_s or self._every_s
            await asyncio.sleep(self._every_s)


async def _play(core: str, count: int, services: list[str]) -> None:
    channels = [
        grpc.aio.insecure_channel(core, options=_OPTIONS) for _ in range(-(-count // _STREAMS))
    ]
    fleet = [
        _Instance(channels[number % len(channels)], number, services[number % len(services)])
        for number in range(count)
    ]
    began = time.monotonic()
    beating: list[asyncio.Task[None]] = []

    async def enter(one: _Instance) -> str:
        wrong = await one.enter()
        if not wrong:
            # At once, as each process would: the first must not wait for the last.
            beating.append(asyncio.create_task(one.beat()))
        return wrong

    failed = [what for what in await asyncio.gather(*map(enter, fleet)) if what]
    took_s = time.monotonic() - began
    print(json.dumps({"seconds": took_s, "failed": failed[:5]}), flush=True)  # noqa: T201
    await asyncio.to_thread(sys.stdin.read)
    for each in beating:
        each.cancel()
    await asyncio.gather(*beating, return_exceptions=True)
    for channel in channels:
        await channel.close()


@dataclass
class Fleet:
    """A fleet in a process of its own."""

    core: str
    count: int
    services: list[str]
    process: "subprocess.Popen[str] | None" = None

    def start(self) -> None:
        """Let it begin to register."""
        command = [sys.executable, "-m", "tests.servers.fleet", self.core, str(self.count)]
        self.process = subprocess.Popen(
            [*command, *self.services], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            cwd=ROOT,
        )  # fmt: skip

    def entered(self) -> Any:
        """Wait until all are in: `seconds` that it took, and why some `failed`."""
        assert self.process and self.process.stdout, "it was started"
        return json.loads(self.process.stdout.readline())

    def stop(self) -> None:
        """End it: all its streams end without a leave."""
        if self.process is None:
            return
        with suppress(BrokenPipeError):
            self.process.communicate("", timeout=30)
        self.process.kill()
        self.process.wait()


if __name__ == "__main__":
    # A real fleet runs elsewhere: it must not take the CPU from what is measured.
    os.nice(10)
    asyncio.run(_play(sys.argv[1], int(sys.argv[2]), sys.argv[3:]))
