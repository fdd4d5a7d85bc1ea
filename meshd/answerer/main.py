"""One answerer process: snapshot from disk, then answers; following a core is done beside."""

import asyncio
import contextlib
import gc
import logging
import signal
import socket
import time

from meshd.answerer.bridge import Bridge, BridgeServer
from meshd.answerer.disk import SnapshotFile
from meshd.answerer.follow import Follower
from meshd.answerer.listener import TcpListener, UdpListener
from meshd.answerer.purge import Purge
from meshd.answerer.replies import Replier
from meshd.answerer.settings import AnswererSettings
from meshd.answerer.state import State
from meshd.answerer.table import BEAT_S, Table
from meshd.answerer.told import keep_told
from meshd.answerer.trust import Trusted

log = logging.getLogger(__name__)


async def run(settings: AnswererSettings) -> None:
    """Answer until SIGTERM or SIGINT."""
    state = State()
    # Each answerer could hold its own copy, but one file on a machine is enough.
    file = SnapshotFile(settings.data / "snapshot")
    snapshot = file.load()
    if snapshot is not None:
        state.swap(snapshot)
        log.info("snapshot read from disk: %r", state)
    _settle_memory()
    keeps = file if settings.index == 0 else None
    follower = Follower(state, settings.cores, f"{settings.node}/{settings.index}", keeps)
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    async with contextlib.AsyncExitStack() as stack:
        await _listen(settings, state, stack)
        if settings.purge is not None:
            purging = asyncio.create_task(Purge(state, settings.purge).run())
            stack.callback(purging.cancel)
        numbers = settings.data / f"answerer-{settings.index}.prom"
        telling = asyncio.create_task(keep_told(numbers, settings.index, state, follower))
        stack.callback(telling.cancel)
        following = asyncio.create_task(follower.run())
        stack.callback(following.cancel)
        stopping = asyncio.create_task(stopped.wait())
        await asyncio.wait((following, stopping), return_when=asyncio.FIRST_COMPLETED)
        if following.done():
            following.result()
    file.close()


async def _listen(
    settings: AnswererSettings, state: State, stack: contextlib.AsyncExitStack
) -> None:
    loop = asyncio.get_running_loop()
    ecs_from = Trusted(settings.ecs_from)
    table = None
    if settings.table_fd is not None:
        table = Table(settings.table_fd, state)
        beating = asyncio.create_task(_beat(table))
        stack.callback(beating.cancel)
    replier = Replier(state, ecs_from, Trusted(settings.proxy_from), table)
    for fd in settings.udp_fds:
        udp = UdpListener(socket.socket(fileno=fd), replier)
        udp.start(loop)
        stack.callback(udp.stop, loop)
    for fd in settings.tcp_fds:
        tcp = TcpListener(socket.socket(fileno=fd), replier)
        await tcp.start()
        stack.callback(tcp.stop)
    if settings.bridge_fd is not None:
        bridge = Bridge(state, ecs_from)
        server = BridgeServer(socket.socket(fileno=settings.bridge_fd), bridge)
        await server.start()
        stack.callback(server.stop)


async def _beat(table: Table) -> None:
    """As long as this process answers, its table counts."""
    while True:
        table.beat(time.monotonic())
        await asyncio.sleep(BEAT_S)


def _settle_memory() -> None:
    """Keep the collector off a topology of millions of objects: a full pass would stall answers."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 1000)
