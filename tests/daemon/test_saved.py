"""Signals on disk: what was known comes back, what is damaged is nothing."""

import asyncio
from pathlib import Path

import pytest

from meshd.core.signals import Signal
from meshd.core.verdict import Verdict
from meshd.daemon import saved
from meshd.daemon.state import State
from tests import samples

SIGNALS = {
    "api-eu-1": Signal(0.95, Verdict.FAILING, share=0.4, kept=0.9),
    "api-eu-2": Signal(0.0, Verdict.DOWN, held=True),
}


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "signals"
    assert saved.read_signals(path) == {}
    saved.write_signals(path, SIGNALS)
    assert saved.read_signals(path) == SIGNALS
    saved.write_signals(path, {})
    assert saved.read_signals(path) == {}


@pytest.mark.parametrize("at", [0, 3, 4, 20])
def test_a_damaged_file_is_nothing(tmp_path: Path, at: int) -> None:
    path = tmp_path / "signals"
    saved.write_signals(path, SIGNALS)
    data = bytearray(path.read_bytes())
    data[at] ^= 0x20
    path.write_bytes(data)
    assert saved.read_signals(path) == {}
    path.write_bytes(data[:at])
    assert saved.read_signals(path) == {}


async def test_they_are_kept_as_they_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saved, "_EVERY_S", 0.02)
    path = tmp_path / "signals"
    state = State(samples.snapshot(), 0)
    keeping = asyncio.create_task(saved.keep_signals(path, state))
    try:
        await asyncio.sleep(0.1)
        assert not path.exists(), "nothing changed, nothing to write"
        state.advance((), state.snapshot.topology.revision, dict(SIGNALS))
        async with asyncio.timeout(5):
            while saved.read_signals(path) != state.snapshot.signals:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    finally:
        keeping.cancel()
    assert saved.read_signals(path)["api-eu-2"] == SIGNALS["api-eu-2"]
