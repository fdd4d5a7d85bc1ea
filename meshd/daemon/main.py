"""One core process: store -> state -> gRPC and HTTP, and the tasks that keep them moving."""

import asyncio
import contextlib
import gc
import logging
import signal
from pathlib import Path

from meshd.core.snapshot import Snapshot
from meshd.daemon.forget import forget_absent
from meshd.daemon.http import start_http
from meshd.daemon.metrics import CoreCollector
from meshd.daemon.probes.own import guard_of
from meshd.daemon.probes.prober import Prober
from meshd.daemon.pump import Pump, leases_of, snapshot_of
from meshd.daemon.reach import Reach
from meshd.daemon.saved import keep_signals, read_signals
from meshd.daemon.server import start_server
from meshd.daemon.settings import CoreSettings
from meshd.daemon.state import State
from meshd.daemon.store.base import Contents
from meshd.daemon.store.embedded import EmbeddedStore

log = logging.getLogger(__name__)

_GRACE_S = 1.0
# Revisions of history and audit: registrations come and go in it too.
_KEEP = 100_000


def _remembered(contents: Contents, signals: Path) -> tuple[Snapshot, int]:
    """What the store holds, with the signals that were known last."""
    snapshot, guard = snapshot_of(contents)
    instances = snapshot.topology.instances
    known = {name: held for name, held in read_signals(signals).items() if name in instances}
    return snapshot.advance(signals=known), guard


async def run(settings: CoreSettings) -> None:
    """Serve until SIGTERM or SIGINT."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    async with contextlib.AsyncExitStack() as stack:
        store = await EmbeddedStore.open(settings.data / "store.db", keep_revisions=_KEEP)
        stack.push_async_callback(store.close)
        # Nothing of what is loaded is garbage, and looking for some doubles the time.
        gc.disable()
        contents = await store.load()
        state = State(*_remembered(contents, settings.data / "signals"))
        state.leases = leases_of(contents.items)
        pump = Pump(store, state)
        addresses = [settings.grpc, f"unix:{settings.data / 'core.sock'}"]
        guard = guard_of(settings)
        prober = Prober(state, pump, settings, guard)
        server = await start_server(addresses, store, state, pump, guard)
        stack.push_async_callback(server.stop, _GRACE_S)
        host, _, port = settings.http.rpartition(":")
        reach = Reach()
        core_metrics = CoreCollector(state, pump, reach, lambda: server.registry.streams)
        collectors = [core_metrics, prober.metrics]
        runner = await start_http(state, reach, (host.strip("[]"), int(port)), collectors)
        stack.push_async_callback(runner.cleanup)
        gc.collect()
        gc.freeze()
        gc.enable()
        log.info("core ready: grpc=%s http=%s %r", settings.grpc, settings.http, state)
        async with asyncio.TaskGroup() as tasks:
            work = [
                tasks.create_task(store.run()),
                tasks.create_task(reach.run(store)),
                tasks.create_task(pump.run_store()),
                tasks.create_task(pump.run_signals()),
                tasks.create_task(pump.run_ticks()),
                tasks.create_task(prober.run()),
                tasks.create_task(keep_signals(settings.data / "signals", state)),
                tasks.create_task(forget_absent(store, state, settings.forget_after_s)),
            ]
            await stopped.wait()
            for task in work:
                task.cancel()
