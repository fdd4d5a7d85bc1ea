"""The endpoints of etcd, each with a channel of its own, and which of them is in use.

One channel each: TLS then checks the name that was asked for, and a member that hangs is left
at once. An endpoint is kept until it fails.
"""

import logging
from collections.abc import Sequence
from typing import Any

import grpc

from meshd.daemon.etcd.access import Access
from meshd.etcdwire import etcd_pb2 as pb

log = logging.getLogger(__name__)

_REST_S = 2.0
MAX_ANSWER_BYTES = 64 << 20
_OPTIONS = (
    # Seldom enough for etcd, which ends connections that ping more often than each 5 s, or idle.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    # Without it a peer that hangs is noticed a minute after the ping.
    ("grpc.http2.ping_timeout_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.keepalive_permit_without_calls", 0),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.max_receive_message_length", MAX_ANSWER_BYTES),
    ("grpc.enable_retries", 0),
    # Else channels of two stores in one process share a connection.
    ("grpc.use_local_subchannel_pool", 1),
)
_SERVICE = {
    "Range": "KV",
    "DeleteRange": "KV",
    "Txn": "KV",
    "LeaseGrant": "Lease",
    "LeaseRevoke": "Lease",
    "LeaseTimeToLive": "Lease",
    "LeaseKeepAlive": "Lease",
    "Watch": "Watch",
    "Authenticate": "Auth",
}
_STREAMS = {"LeaseKeepAlive", "Watch"}


class Endpoint:
    """One member; connects when it is first called."""

    def __init__(self, target: str, credentials: grpc.ChannelCredentials | None) -> None:
        self.target = target
        self.rests_until = 0.0
        self._credentials = credentials
        self._channel: grpc.aio.Channel | None = None
        self._methods: dict[str, Any] = {}

    def method(self, name: str) -> Any:
        """A method of etcd's API by its name."""
        if self._channel is None:
            self._channel = self._connect()
        if name not in self._methods:
            kind = self._channel.stream_stream if name in _STREAMS else self._channel.unary_unary
            self._methods[name] = kind(
                f"/etcdserverpb.{_SERVICE[name]}/{name}",
                request_serializer=getattr(pb, f"{name}Request").SerializeToString,
                response_deserializer=getattr(pb, f"{name}Response").FromString,
            )
        return self._methods[name]

    async def close(self) -> None:
        if self._channel is not None:
            await self._channel.close()

    def _connect(self) -> grpc.aio.Channel:
        if self._credentials is None:
            return grpc.aio.insecure_channel(self.target, _OPTIONS)
        return grpc.aio.secure_channel(self.target, self._credentials, _OPTIONS)


class Endpoints:
    """All of them in the order in which they are tried; the first is in use."""

    def __init__(self, access: Access, order: Sequence[str]) -> None:
        self._all = [Endpoint(target, access.credentials) for target in order]
        self._current = 0

    @property
    def current(self) -> str:
        """The one in use."""
        return self._all[self._current].target

    def pick(self, now: float) -> Endpoint:
        """The one in use, or the next one that has not failed just now."""
        count = len(self._all)
        turns = [(self._current + turn) % count for turn in range(count)]
        self._current = min(turns, key=lambda each: max(0.0, self._all[each].rests_until - now))
        return self._all[self._current]

    def failed(self, endpoint: Endpoint, why: str, now: float) -> None:
        """Leave an endpoint alone for a while."""
        if endpoint.rests_until < now:
            log.info("etcd endpoint failed: endpoint=%s error=%s", endpoint.target, why)
        endpoint.rests_until = now + _REST_S

    async def close(self) -> None:
        for endpoint in self._all:
            await endpoint.close()
