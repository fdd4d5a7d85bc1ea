"""Until a core has anything to answer from, it says so instead of answering."""

from collections.abc import Awaitable, Callable
from typing import Any, NoReturn

import grpc

from meshd.daemon.reach import Reach
from meshd.daemon.state import State

_OURS = "/meshd.v1."
# How a core is can be asked at any time.
_CLUSTER = "/meshd.v1.Cluster/"


class Waiting(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """Ends calls as UNAVAILABLE until there is a snapshot."""

    def __init__(self, state: State, reach: Reach) -> None:
        self._state = state
        self._reach = reach

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: Any
    ) -> Any:
        """The method that was called, or one that ends the call."""
        method = handler_call_details.method
        waits = method.startswith(_OURS) and not method.startswith(_CLUSTER)
        if self._state.is_loaded or not waits:
            return await continuation(handler_call_details)
        # On the wire every call is a stream of messages each way.
        return grpc.stream_stream_rpc_method_handler(self._abort)

    async def _abort(self, requests: Any, context: Any) -> NoReturn:
        reason = self._reach.reason or "the store was not reached yet"
        await context.abort(
            grpc.StatusCode.UNAVAILABLE, f"this core has nothing to answer from: {reason}"
        )
        raise AssertionError("abort raises")
