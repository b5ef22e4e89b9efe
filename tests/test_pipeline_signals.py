"""Signals that end a run, and those that do not."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Iterator

import pytest

from pipeline.signals import StopSignals


@pytest.fixture
def hangup() -> Iterator[None]:
    """SIGHUP is handled as before after the test."""
    before = signal.getsignal(signal.SIGHUP)
    yield
    signal.signal(signal.SIGHUP, before)


async def ended_by_hangup() -> int:
    """The exit code of a run whose terminal is closed, and which else ends by itself."""
    over = asyncio.Event()

    async def work() -> None:
        os.kill(os.getpid(), signal.SIGHUP)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(over.wait(), 0.2)

    return await StopSignals(lambda reason: over.set()).run(work())


@pytest.mark.parametrize(
    ("handling", "code"), [(signal.SIG_DFL, 128 + signal.SIGHUP), (signal.SIG_IGN, 0)]
)
@pytest.mark.usefixtures("hangup")
def test_a_signal_that_was_ignored_stays_ignored(handling: signal.Handlers, code: int) -> None:
    """As under nohup."""
    signal.signal(signal.SIGHUP, handling)
    assert asyncio.run(ended_by_hangup()) == code
    assert signal.getsignal(signal.SIGHUP) is handling
