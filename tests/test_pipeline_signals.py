"""Signals that end a run, and those that do not."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Iterator

import pytest

from pipeline.signals import StopSignals


@pytest.fixture
def as_before() -> Iterator[None]:
    """SIGHUP and SIGINT are handled as before after the test."""
    before = {number: signal.getsignal(number) for number in (signal.SIGHUP, signal.SIGINT)}
    yield
    for number, handling in before.items():
        signal.signal(number, handling)


async def ended_by(number: signal.Signals) -> int:
    """The exit code of a run that gets a signal, and which else ends by itself."""
    over = asyncio.Event()

    async def work() -> None:
        os.kill(os.getpid(), number)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(over.wait(), 0.2)

    return await StopSignals(lambda reason: over.set()).run(work())


@pytest.mark.parametrize(
    ("handling", "code"), [(signal.SIG_DFL, 128 + signal.SIGHUP), (signal.SIG_IGN, 0)]
)
@pytest.mark.usefixtures("as_before")
def test_a_terminal_that_closes_ends_it_but_under_nohup(
    handling: signal.Handlers, code: int
) -> None:
    signal.signal(signal.SIGHUP, handling)
    assert asyncio.run(ended_by(signal.SIGHUP)) == code
    assert signal.getsignal(signal.SIGHUP) is handling


@pytest.mark.usefixtures("as_before")
def test_who_asks_a_run_in_the_background_to_end_is_heard() -> None:
    """A script's shell lets what it starts behind itself (&) ignore SIGINT."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    assert asyncio.run(ended_by(signal.SIGINT)) == 128 + signal.SIGINT
