"""A TCP port before a member of etcd: connections that break, answers that get lost."""

from tests.tcp import Relay


class Between(Relay):
    """Hands connections on to an endpoint."""

    def __init__(self, endpoint: str, own_host: str = "127.0.0.1") -> None:
        host, _, port = endpoint.rpartition(":")
        super().__init__((host, int(port)), own_host)
        # What comes back is lost.
        self.is_mute = False
        # It is mute from when this went through to etcd.
        self.mutes_at: bytes | None = None

    @property
    def endpoint(self) -> str:
        return f"{self.host}:{self.port}"

    async def asked(self, data: bytes) -> bytes:
        if self.mutes_at is not None and self.mutes_at in data:
            self.is_mute, self.mutes_at = True, None
        return data

    async def answered(self, data: bytes) -> bytes:
        return b"" if self.is_mute else data
