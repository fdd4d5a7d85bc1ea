"""The supervisor: starts the core and the answerers as processes, and starts again what ends.

It does nothing else, so that there is little that could end it.
"""

import ctypes
import logging
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

log = logging.getLogger(__name__)

_WATCHED = {signal.SIGCHLD, signal.SIGTERM, signal.SIGINT}
_BACKOFF_S = (0.05, 5.0)
# A process that lived so long was well: its next end is not another of a row.
_SETTLED_S = 10.0
_STOP_S = 5.0
_PR_SET_PDEATHSIG = 1

_libc = ctypes.CDLL(None)


@dataclass(slots=True)
class Role:
    """One process to keep running: a Python module, its settings, the sockets it inherits."""

    name: str
    module: str
    settings: str
    fds: Sequence[int] = ()
    # If the first start fails, there is something that starting again will not mend.
    must_start: bool = False
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    start_at: float = 0.0
    delay: float = field(default=_BACKOFF_S[0])
    starts: int = 0

    def start(self, now: float) -> None:
        """Start the process."""
        self.process = subprocess.Popen(
            [sys.executable, "-m", self.module, self.settings],
            pass_fds=self.fds,
            stdin=subprocess.DEVNULL,
            preexec_fn=_as_child,  # noqa: PLW1509 - the supervisor has one thread
        )
        self.started = now
        self.starts += 1

    def ended(self, now: float) -> int | None:
        """The exit code if the process has just ended; sets when to start it again."""
        if self.process is None or self.process.poll() is None:
            return None
        code = self.process.returncode
        self.process = None
        settled = now - self.started >= _SETTLED_S
        self.delay = _BACKOFF_S[0] if settled else min(self.delay * 2, _BACKOFF_S[1])
        self.start_at = now + self.delay
        return code


def _as_child() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, set())
    # Without their supervisor the children would live on, unwatched, on its sockets.
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def supervise(roles: Sequence[Role]) -> int:
    """Run all roles until SIGTERM or SIGINT; 0, or 1 if one could not be started at all."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)
    try:
        return _watch(roles)
    finally:
        _stop(roles)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _WATCHED)


def _watch(roles: Sequence[Role]) -> int:
    while True:
        now = time.monotonic()
        for role in roles:
            if role.process is None and role.start_at <= now:
                role.start(now)
        due = [role.start_at - now for role in roles if role.process is None]
        got = signal.sigtimedwait(_WATCHED, max(0.0, min(due, default=3600.0)))
        if got is not None and got.si_signo in (signal.SIGTERM, signal.SIGINT):
            return 0
        for role in roles:
            code = role.ended(time.monotonic())
            if code is None:
                continue
            if role.must_start and role.starts == 1 and code > 0:
                log.critical("%s could not start", role.name)
                return 1
            log.warning("%s ended: code=%s restart_in=%.2fs", role.name, code, role.delay)


def _stop(roles: Sequence[Role]) -> None:
    running = [role.process for role in roles if role.process is not None]
    for process in running:
        process.terminate()
    deadline = time.monotonic() + _STOP_S
    for process in running:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
