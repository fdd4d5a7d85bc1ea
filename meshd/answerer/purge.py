"""The purge hook: a command that makes a DNS server's cache forget names that came or went.

PowerDNS keeps that a name is not there (negquery-cache-ttl). Never in the way of answers.
"""

import asyncio
import contextlib
import logging
import shlex

from meshd.answerer.state import State
from meshd.core.names import ancestors, to_text, to_wire
from meshd.core.snapshot import Snapshot
from meshd.core.topology import Topology

log = logging.getLogger(__name__)

NAME = "{name}"
# Other answerers take the same change over meanwhile, or the old answer would be kept anew.
_SETTLE_S = 0.2
# At most one run in so long.
_EVERY_S = 1.0
_TIMEOUT_S = 5.0
_SHOWN_BYTES = 300


def moved_names(before: Topology, after: Topology) -> set[str]:
    """The service names at which, or below which, names came or went."""
    found = set()
    if before.services is not after.services:
        old = {service.dns for service in before.services.values()}
        found |= old ^ {service.dns for service in after.services.values()}
    if before.instances is not after.instances:
        for name in before.instances.keys() | after.instances.keys():
            was, becomes = before.instances.get(name), after.instances.get(name)
            if was is not becomes and was != becomes:
                services = [each.service for each in (was, becomes) if each is not None]
                held = [after.services.get(service) for service in services]
                found.update(service.dns for service in held if service is not None)
    return {name.removeprefix("*.") for name in found}


def common_ancestor(names: set[str]) -> str:
    """The name that all of them are, or lie below; "." if they have nothing in common."""
    shared = [set(ancestors(to_wire(name))) for name in names]
    return to_text(max(set.intersection(*shared), key=len))


class Purge:
    """Runs the command when names came or went; counts what failed."""

    def __init__(self, state: State, command: str) -> None:
        self._state = state
        self._words = shlex.split(command)
        self._before: Snapshot | None = state.snapshot
        self._names: set[str] = set()
        self._wake = asyncio.Event()
        self.runs = 0
        self.failures = 0
        state.on_swap(self._swapped)

    def _swapped(self) -> None:
        before, after = self._before, self._state.snapshot
        self._before = after
        if before is not None and after is not None:
            self._names |= moved_names(before.topology, after.topology)
        if self._names:
            self._wake.set()

    async def run(self) -> None:
        """Run the command whenever it is due, for ever."""
        while True:
            await self._wake.wait()
            await asyncio.sleep(_SETTLE_S)
            self._wake.clear()
            names, self._names = self._names, set()
            # One command for all of them; without a common zone, one after the other.
            shared = common_ancestor(names)
            targets = [shared] if shared != "." else sorted(names)
            # Twice: an answerer that was late may have had the old answer kept anew.
            for name in (*targets, *targets):
                await self._purge(name)
                await asyncio.sleep(_EVERY_S - _SETTLE_S)

    async def _purge(self, name: str) -> None:
        self.runs += 1
        words = [word.replace(NAME, name.rstrip(".")) for word in self._words]
        try:
            said = await _run(words)
        except (OSError, TimeoutError) as error:
            said = str(error) or f"not done within {_TIMEOUT_S:g} s"
        if said is not None:
            self.failures += 1
            log.warning("purge failed: name=%s failures=%d error=%s", name, self.failures, said)


async def _run(words: list[str]) -> str | None:
    """Run a command; what it complained of, None if it is well. It does not outlive its time."""
    process = await asyncio.create_subprocess_exec(
        *words,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            _, complaint = await process.communicate()
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if not process.returncode:
        return None
    return f"exit {process.returncode}: {complaint[:_SHOWN_BYTES].decode(errors='replace').strip()}"
