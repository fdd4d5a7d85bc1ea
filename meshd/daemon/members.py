"""Who the cores of this store are: a key each in it, under a lease, and what was heard of them.

A member is whoever has a key, or had one and is still heard. Times are monotonic seconds.
"""

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from google.protobuf.message import DecodeError

from meshd.core.errors import LeaseLost, Malformed, MeshError, Refused, Unavailable
from meshd.daemon.store.base import Author, Batch, Contents, Expect, Put, Store
from meshd.v1.cluster_pb2 import Node, NodesResponse, NodeState, NodeStatus

log = logging.getLogger(__name__)

PREFIX = "nodes/"
LEASE_S = 10.0
# Of the time of a lease.
_RENEW, _TAKEN = 0.3, 1.2
# Who says nothing for so long is not there.
LIVE_S = 3.0
# Whose store is away for so long leaves duties to those whose is not.
_STORE_AWAY_S = 5.0
MOST_MEMBERS = 100
_MOST_BYTES, _MOST_TEXT = 4096, 256


def node_of(key: str, value: bytes) -> Node:
    """The core under a key; Malformed."""
    try:
        node = Node.FromString(value[:_MOST_BYTES])
    except DecodeError as error:
        raise Malformed(f"{key}: {error}") from None
    texts = (node.name, node.address, node.version, node.session)
    is_good = all(text.isprintable() and len(text) <= _MOST_TEXT for text in texts)
    if not (is_good and node.address and node.session and PREFIX + node.name == key):
        raise Malformed(f"{key}: holds no core of that name")
    return node


class Kept:
    """The other cores on this disk, for a start while the store is away."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> Iterable[Node]:
        """Those that were written last; none if there are none, or the file is damaged."""
        try:
            found = NodesResponse.FromString(self._path.read_bytes())
            return [
                node_of(PREFIX + each.node.name, each.node.SerializeToString())
                for each in found.nodes
            ]
        except FileNotFoundError:
            return []
        except (OSError, DecodeError, Malformed) as error:
            log.warning("other cores not read: path=%s error=%s", self._path, error)
            return []

    def write(self, nodes: Iterable[Node]) -> None:
        """Replace the file whole; a full disk costs the copy alone."""
        made = NodesResponse(nodes=[NodeStatus(node=node) for node in nodes])
        draft = self._path.with_name(self._path.name + ".new")
        try:
            draft.write_bytes(made.SerializeToString())
            draft.replace(self._path)
        except OSError as error:
            log.warning("other cores not written: path=%s error=%s", self._path, error)


class Members:
    """The cores of a store, this one among them; alone, it is the only one."""

    def __init__(
        self,
        store: Store,
        own: Node,
        *,
        is_alone: bool = False,
        predecessor: str = "",
        lease_s: float = LEASE_S,
        kept: Kept | None = None,
    ) -> None:
        self._store = store
        self.own = own
        self.is_alone = is_alone
        # The session of the process before, whose key may be taken over at once.
        self._sessions = {own.session, predecessor} - {""}
        self._lease_s = lease_s
        self._lease = 0
        # Name -> the core, and the revision that put its key.
        self._held: dict[str, tuple[Node, int]] = {}
        self._kept = kept
        if kept is not None:
            self._held = {node.name: (node, 0) for node in kept.read() if node.name != own.name}
        self._gone: set[str] = set()
        self._seen = self._committed = 0
        self._taken_since: float | None = None
        # Since when some core that may decide reaches the store; None: none does.
        self._reached_since: float | None = float("-inf")
        self.states: dict[str, NodeState] = {}
        self.heard_at: dict[str, float] = {}
        # What an operator has to do something about; empty: nothing.
        self.alarm = ""
        self.ignored = 0

    @property
    def others(self) -> Mapping[str, Node]:
        """All but this core."""
        return {name: node for name, (node, _) in self._held.items() if name != self.own.name}

    @property
    def has_joined(self) -> bool:
        """True if this core is one, as far as the store was heard."""
        held = self._held.get(self.own.name)
        return self.is_alone or (held is not None and held[0].session == self.own.session)

    def loaded(self, contents: Contents) -> None:
        """The whole store was read."""
        found = {item.key: item for item in contents.items if item.key.startswith(PREFIX)}
        self._gone |= {name for name in self._held if PREFIX + name not in found}
        for item in found.values():
            self._take(item.key, item.value, item.revision)
        self._seen = contents.revision

    def changed(self, batch: Batch) -> None:
        """The store committed something."""
        for change in batch.changes:
            if change.key.startswith(PREFIX):
                self._take(change.key, change.value, batch.revision)
        self._seen = batch.revision

    def _take(self, key: str, value: bytes | None, revision: int) -> None:
        name = key.removeprefix(PREFIX)
        if value is None:
            self._gone.add(name)
            if name == self.own.name:
                self._held.pop(name, None)
            return
        try:
            node = node_of(key, value)
        except Malformed as error:
            self.ignored += 1
            log.warning("core ignored: %s", error)
            return
        if name in self._held or len(self._held) < MOST_MEMBERS:
            self._held[name] = (node, revision)
            self._gone.discard(name)
            self._keep_others()

    def _keep_others(self) -> None:
        if self._kept is not None:
            self._kept.write(self.others.values())

    def hear(self, name: str, now: float, state: NodeState | None = None) -> None:
        """Another core said something."""
        self.heard_at[name] = now
        if state is not None:
            self.states[name] = state

    def pardon(self, seconds: float) -> None:
        """This process stood still: it could not have heard anybody."""
        for name in self.heard_at:
            self.heard_at[name] += seconds

    def is_live(self, name: str, now: float) -> bool:
        """True if a core was heard lately."""
        return now - self.heard_at.get(name, float("-inf")) < LIVE_S

    def live(self, now: float) -> frozenset[str]:
        """The other cores that were heard lately; those that are gone for good are forgotten."""
        for name in [name for name in self._gone if not self.is_live(name, now)]:
            self._gone.discard(name)
            for held in (self._held, self.states, self.heard_at):
                held.pop(name, None)
            self._keep_others()
        return frozenset(name for name in self.others if self.is_live(name, now))

    def able(self, live: Iterable[str], own: NodeState, now: float) -> tuple[str, ...]:
        """Of the live ones and this core, those that duties go to.

        Those that know what the others know, and of them those whose store is not away. When it
        was away for all of them, those that reach it last have some time to.
        """
        states = {name: self.states[name] for name in live if name in self.states}
        states[self.own.name] = own
        settled = {name: state for name, state in states.items() if state.is_settled}
        fresh = [
            name
            for name, state in settled.items()
            if state.HasField("store_age_s") and state.store_age_s <= _STORE_AWAY_S
        ]
        if not fresh:
            self._reached_since = None
        elif self._reached_since is None:
            self._reached_since = now
        elif now - self._reached_since > _STORE_AWAY_S:
            return tuple(sorted(fresh))
        return tuple(sorted(settled or [self.own.name]))

    async def run(self) -> None:
        """Keep this core's own key, for ever."""
        while not self.is_alone:
            try:
                await self._keep(time.monotonic())
            except Unavailable:
                # A state, not an error: what is known stays.
                pass
            except (LeaseLost, Refused) as error:
                log.warning("membership not kept: node=%s error=%s", self.own.name, error)
            await asyncio.sleep(self._lease_s * _RENEW)

    async def _keep(self, now: float) -> None:
        held = self._held.get(self.own.name)
        if self._is_taken(held[0] if held else None, now):
            return
        if not self._lease or not await self._renewed():
            self._lease = await self._store.grant(self._lease_s)
        elif (held and held[0].session == self.own.session) or self._seen < self._committed:
            return
        key, value = PREFIX + self.own.name, self.own.SerializeToString(deterministic=True)
        author = Author(f"core {self.own.name}", f"at {self.own.address}")
        expect = [Expect(key, held[1] if held else 0)]
        self._committed = await self._store.commit([Put(key, value, self._lease)], author, expect)

    async def _renewed(self) -> bool:
        try:
            await self._store.renew(self._lease)
        except LeaseLost:
            return False
        return True

    def _is_taken(self, held: Node | None, now: float) -> bool:
        """True if another process has the name; said once it is not just one that has ended."""
        if held is None or held.session in self._sessions:
            self.alarm, self._taken_since = "", None
            return False
        self._taken_since = self._taken_since or now
        if now - self._taken_since > _TAKEN * self._lease_s:
            self.alarm = (
                f"another core is called {held.name} (at {held.address}): this one is no member"
            )
        return True

    async def leave(self) -> None:
        """Be no member any more, if the store can be told."""
        try:
            if self._lease:
                async with asyncio.timeout(1):
                    await self._store.revoke(self._lease)
        except (MeshError, TimeoutError) as error:
            log.warning("membership ends with its lease: %s", error)
