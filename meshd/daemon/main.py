"""One core process: store -> state -> gRPC and HTTP, and the tasks that keep them moving."""

import asyncio
import contextlib
import gc
import logging
import signal
from collections.abc import Coroutine, Iterable, Iterator
from typing import Any

from meshd.core.snapshot import Snapshot
from meshd.core.topology import Topology
from meshd.daemon.deployments import Deployments
from meshd.daemon.duties import Duties
from meshd.daemon.exchange import Exchange
from meshd.daemon.exchange_metrics import ExchangeCollector
from meshd.daemon.forget import forget_absent
from meshd.daemon.gate import Gate
from meshd.daemon.http import start_http
from meshd.daemon.members import Kept, Members
from meshd.daemon.metrics import CoreCollector
from meshd.daemon.node import OwnState, own_node, swap_session
from meshd.daemon.observed import Observed
from meshd.daemon.probes.own import guard_of
from meshd.daemon.probes.prober import Prober
from meshd.daemon.pump import Pump, snapshot_of
from meshd.daemon.rollout_metrics import RolloutCollector
from meshd.daemon.rpc.cluster import Cluster
from meshd.daemon.saved import keep_saved, read_saved
from meshd.daemon.server import Server, start_server
from meshd.daemon.settings import CoreSettings
from meshd.daemon.state import State
from meshd.daemon.store.base import Store
from meshd.daemon.store.opened import open_store

log = logging.getLogger(__name__)

_GRACE_S = 1.0
# A store on this disk is slow at times, but not gone.
_EMBEDDED_WAIT_S = 10.0


async def begin(settings: CoreSettings, store: Store) -> tuple[State, Pump]:
    """The state as it is known: from the store on this machine, else from the copy on disk.

    A store elsewhere is not waited for: what differs there comes when it is reached.
    """
    saved = await asyncio.to_thread(read_saved, settings.data / "state")
    if settings.store == "embedded":
        contents = await store.load()
        snapshot, guard = snapshot_of(contents)
        instances = snapshot.topology.instances
        signals = saved.signals if saved else {}
        known = {name: held for name, held in signals.items() if name in instances}
        state = State(snapshot.advance(signals=known), guard)
        pump = _pump(settings, store, state)
        pump.begin(contents)
        return state, pump
    state = State(saved.snapshot() if saved else Snapshot.build(Topology()), 0)
    pump = _pump(settings, store, state)
    pump.following.relist_s = settings.relist_s
    return state, pump


@contextlib.contextmanager
def _unstirred() -> Iterator[None]:
    """Nothing of what is loaded is garbage, and looking for some doubles the time."""
    gc.disable()
    yield
    gc.collect()
    gc.freeze()
    # More may be loaded later, and a full pass over all of it holds everybody up.
    gc.set_threshold(50_000, 50, 1000)
    gc.enable()


def _pump(settings: CoreSettings, store: Store, state: State) -> Pump:
    duties = Duties(settings.node, settings.probes.vantage)
    return Pump(store, state, Observed.resume(state.snapshot, duties))


def _members(settings: CoreSettings, store: Store, pump: Pump) -> Members:
    """The cores of a store, as the pump hears of them."""
    node = own_node(settings)
    predecessor = swap_session(settings.data / "session", node.session)
    is_alone = settings.store == "embedded"
    made = Members(
        store,
        node,
        is_alone=is_alone,
        predecessor=predecessor,
        kept=None if is_alone else Kept(settings.data / "nodes"),
    )
    pump.on_batch, pump.on_load = made.changed, made.loaded
    return made


async def run(settings: CoreSettings) -> None:
    """Serve until SIGTERM or SIGINT."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    async with contextlib.AsyncExitStack() as stack:
        store, of_store = await open_store(settings)
        stack.push_async_callback(store.close)
        with _unstirred():
            state, pump = await begin(settings, store)
        is_embedded = settings.store == "embedded"
        gate = Gate(store, pump, _EMBEDDED_WAIT_S) if is_embedded else Gate(store, pump)
        addresses = [settings.grpc, f"unix:{settings.data / 'core.sock'}"]
        guard = guard_of(settings)
        prober = Prober(state, pump, settings, guard)
        members = _members(settings, gate, pump)
        own_state = OwnState(state, pump, prober, lambda: server.registry.streams)
        exchange = Exchange(state, pump, members, own_state)
        cluster = Cluster(state, exchange, settings.store, pump.following.accept)
        server = await start_server(addresses, gate, state, pump, guard, cluster)
        stack.push_async_callback(server.stop, _GRACE_S)
        host, _, port = settings.http.rpartition(":")
        collectors = [
            CoreCollector(state, pump, pump.reach, lambda: server.registry.streams),
            ExchangeCollector(exchange, pump.reports),
            prober.metrics,
            RolloutCollector(state, server.rollouts.advancing, pump.reports),
            *of_store,
        ]
        where = (host.strip("[]"), int(port))
        deployments = _deployments(settings, state, server)
        runner = await start_http(state, pump, where, collectors, deployments)
        stack.push_async_callback(runner.cleanup)
        log.info("core ready: grpc=%s http=%s %r", settings.grpc, settings.http, state)
        jobs = (
            store.run(),
            pump.reach.run(store),
            pump.run_store(),
            pump.run_signals(),
            pump.run_ticks(),
            server.rollouts.advancing.run(),
            prober.run(),
            members.run(),
            exchange.run(),
            server.tell_health(state),
            keep_saved(settings.data / "state", state, topology=not is_embedded),
            forget_absent(gate, state, settings.forget_after_s),
        )
        await _work(jobs, stopped, members)


def _deployments(settings: CoreSettings, state: State, server: Server) -> Deployments | None:
    token = settings.deploy_token_file
    return Deployments(state, server.rollouts, token) if token else None


async def _work(
    jobs: Iterable[Coroutine[Any, Any, None]], stopped: asyncio.Event, members: Members
) -> None:
    """Do all of it until this core is to stop."""
    async with asyncio.TaskGroup() as tasks:
        work = [tasks.create_task(job) for job in jobs]
        await stopped.wait()
        await members.leave()
        for task in work:
            task.cancel()
