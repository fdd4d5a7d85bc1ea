"""Many processes that report at once, played by one: `python -m tests.servers.reporters`.

Each calls every other instance, and reports at the pace that it is told. Ends with its stdin and
prints one line of JSON: how many `calls` were told of, and how many outcomes were `ignored`.
"""

import asyncio
import json
import os
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import grpc

from meshd.v1 import reporter_pb2 as pb
from meshd.v1 import reporter_pb2_grpc
from tests.servers.processes import ROOT

# Streams of one connection; each process of a real fleet has its own.
_STREAMS = 100
_OPTIONS = (("grpc.use_local_subchannel_pool", 1),)
_CALLS = 20
# Where their latencies lie.
_LATENCY = {40: 9, 41: 6, 44: 3, 52: 1}


def batch(reporter: str, instances: list[str]) -> pb.ReportRequest:
    """Twenty calls to each instance, of which one failed."""
    outcomes = [
        pb.Outcomes(instance=name, attempts=_CALLS, failures=1, in_flight=1, latency=_LATENCY)
        for name in instances
    ]
    return pb.ReportRequest(reporter=reporter, window_s=2, outcomes=outcomes)


class _Player:
    """All reporters, and what they told."""

    def __init__(self, core: str, count: int, instances: list[str]) -> None:
        self._channels = [
            grpc.aio.insecure_channel(core, options=_OPTIONS) for _ in range(-(-count // _STREAMS))
        ]
        self._count = count
        self._instances = instances
        self.calls = 0
        self.ignored = 0

    async def play(self) -> None:
        """Report until stdin ends."""
        work = [asyncio.create_task(self._report(number)) for number in range(self._count)]
        await asyncio.to_thread(sys.stdin.read)
        for each in work:
            each.cancel()
        await asyncio.gather(*work, return_exceptions=True)
        for channel in self._channels:
            await channel.close()

    async def _report(self, number: int) -> None:
        channel = self._channels[number % len(self._channels)]
        call: Any = reporter_pb2_grpc.ReporterStub(channel).Report()
        mine = self._instances[number % 2 :: 2]
        request = batch(f"reporter-{number}", mine)
        await asyncio.sleep(number / self._count * 2)
        while True:
            await call.write(request)
            told = await call.read()
            if told is grpc.aio.EOF:
                return
            self.calls += _CALLS * len(mine)
            self.ignored += told.ignored
            await asyncio.sleep(told.every_s)


@dataclass
class Reporters:
    """Reporters in a process of their own."""

    core: str
    count: int
    instances: list[str]
    process: "subprocess.Popen[str] | None" = None

    def start(self) -> None:
        """Let them begin."""
        command = [sys.executable, "-m", "tests.servers.reporters", self.core, str(self.count)]
        self.process = subprocess.Popen(
            [*command, *self.instances], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            cwd=ROOT,
        )  # fmt: skip

    def finish(self) -> Any:
        """End them: what they told."""
        assert self.process is not None, "they were started"
        said, _ = self.process.communicate("", timeout=30)
        return json.loads(said)

    def stop(self) -> None:
        """End them, however far they got."""
        if self.process is not None and self.process.poll() is None:
            with suppress(BrokenPipeError, subprocess.TimeoutExpired):
                self.process.communicate("", timeout=10)
            self.process.kill()
            self.process.wait()


async def _main(core: str, count: int, instances: list[str]) -> None:
    player = _Player(core, count, instances)
    await player.play()
    print(json.dumps({"calls": player.calls, "ignored": player.ignored}))  # noqa: T201


if __name__ == "__main__":
    # Real reporters run elsewhere: they must not take the CPU from what is measured.
    os.nice(10)
    asyncio.run(_main(sys.argv[1], int(sys.argv[2]), sys.argv[3:]))
