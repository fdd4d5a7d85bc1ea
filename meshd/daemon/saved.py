"""The signals on disk: what was known when a core ended, so that the next begins with it.

A core that knew nothing would call every instance up for a moment, down ones included.
"""

import asyncio
import logging
import os
import time
import zlib
from collections.abc import Mapping
from pathlib import Path

from google.protobuf.message import DecodeError

from meshd.core.errors import Invalid
from meshd.core.signals import Signal
from meshd.daemon.state import State
from meshd.v1.topology_pb2 import SnapshotPart
from meshd.wire.messages import signal_from_message, signal_to_message

log = logging.getLogger(__name__)

_EVERY_S = 1.0
# At most this share of the time goes into it.
_DUTY = 0.05
_SUM_BYTES = 4


def read_signals(path: Path) -> Mapping[str, Signal]:
    """The signals in a file; none if it is not there or damaged."""
    try:
        part = SnapshotPart.FromString(_checked(path.read_bytes()))
        found = [signal_from_message(message) for message in part.signals]
    except FileNotFoundError:
        return {}
    except (OSError, DecodeError, Invalid) as error:
        log.warning("signals not read: path=%s error=%s", path, error)
        return {}
    return {name: signal for name, signal in found if signal is not None}


def _checked(data: bytes) -> bytes:
    if zlib.crc32(data[_SUM_BYTES:]).to_bytes(_SUM_BYTES) != data[:_SUM_BYTES]:
        raise Invalid("its checksum is wrong")
    return data[_SUM_BYTES:]


def write_signals(path: Path, signals: Mapping[str, Signal]) -> None:
    """Replace the file whole."""
    part = SnapshotPart(signals=[signal_to_message(*item) for item in signals.items()])
    data = part.SerializeToString()
    draft = path.with_name(path.name + ".new")
    draft.write_bytes(zlib.crc32(data).to_bytes(_SUM_BYTES) + data)
    os.replace(draft, path)


async def keep_signals(path: Path, state: State) -> None:
    """Write signals whenever they changed, at most once a second, for ever."""
    written: Mapping[str, Signal] = state.snapshot.signals
    took = 0.0
    while True:
        await asyncio.sleep(max(_EVERY_S, took / _DUTY))
        signals = state.snapshot.signals
        if signals is written:
            continue
        began = time.monotonic()
        try:
            await asyncio.to_thread(write_signals, path, signals)
            written = signals
        except OSError as error:
            log.warning("signals not written: path=%s error=%s", path, error)
        took = time.monotonic() - began
