"""Telling the core that is followed which revision is answered from, for who waits for it."""

import asyncio
import random

import grpc

from meshd.answerer.state import State
from meshd.core.snapshot import Snapshot
from meshd.v1 import topology_pb2_grpc
from meshd.v1.topology_pb2 import ConfirmRequest

# After a quiet time at once, then so often at most: thousands of answerers may follow a core.
_GAP_S = 1.0
_TIMEOUT_S = 3.0


class Confirming:
    """Tells it after each swap that came with a revision; of many in a row the last one always."""

    def __init__(self, state: State, node: str) -> None:
        self._state = state
        self._node = node
        self._swapped = asyncio.Event()
        state.on_swap(self._swapped.set)

    async def tell(self, channel: grpc.aio.Channel) -> None:
        """Tell one core, until it turns out that it does not want to know."""
        stub = topology_pb2_grpc.TopologyStub(channel)
        told = None
        while True:
            self._swapped.clear()
            said = _request(self._node, self._state.snapshot)
            if said is not None and said != told:
                try:
                    await stub.Confirm(said, timeout=_TIMEOUT_S)
                    told = said
                except grpc.aio.AioRpcError as error:
                    if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                        return
                    # It is told again, if it is still followed.
                    self._swapped.set()
                await asyncio.sleep(_GAP_S * random.uniform(0.75, 1.25))
            await self._swapped.wait()


def _request(node: str, held: Snapshot | None) -> ConfirmRequest | None:
    if held is None:
        return None
    topology = held.topology
    return ConfirmRequest(node=node, store_id=topology.store_id, revision=topology.revision)
