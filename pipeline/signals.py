"""How a run or a command ends: signals, a deadline, and an exit code, whatever state it is in."""

import asyncio
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Final

# from the first signal until the run is left as it is: the guardian ends the rest
GRACE_SECONDS: Final = 8.0
LEAVING: Final = (signal.SIGTERM, signal.SIGHUP)


class StopSignals:
    """Runs one coroutine under signals.

    The first SIGINT, SIGTERM or SIGHUP asks it to stop (recordings are finished); a second SIGINT,
    or GRACE_SECONDS, ends it now. What the process owned then dies with it: workers hang on a
    guardian that sees the launcher go, and ffmpeg ends a recording when its input ends. A SIGHUP
    that was ignored when this process began, as under nohup, stays so.
    """

    def __init__(self, stop: Callable[[str], None]) -> None:
        """stop: asks the run to end, with a reason; it must return at once."""
        self._stop = stop
        self._signal: signal.Signals | None = None
        self._task: asyncio.Task[None] | None = None

    async def run(self, work: Awaitable[None]) -> int:
        """Await ``work``; returns 0, or 128 + the number of the signal that ended it. Raises what
        ``work`` raises."""
        loop = asyncio.get_running_loop()
        self._task = asyncio.ensure_future(work)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            # SIGINT is ignored by all that a script starts with &, which may be ended by it all the same
            kept = number == signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN
            if not kept:
                loop.add_signal_handler(number, self._on_signal, number)
        try:
            await self._task
        except asyncio.CancelledError:
            if self._signal is None:
                raise
        except Exception as error:
            if self._signal is None:
                raise
            # the signal decides the exit code; nothing is hidden
            print(f"while stopping: {error}", file=sys.stderr)
        return 0 if self._signal is None else 128 + self._signal

    def _on_signal(self, number: signal.Signals) -> None:
        if self._signal is not None:
            if number == signal.SIGINT:
                leave(128 + self._signal)
            return
        self._signal = number
        asyncio.get_running_loop().call_later(GRACE_SECONDS, leave, 128 + number)
        self._stop(f"stopped by {number.name}")


def leave(code: int) -> None:
    """End this process now, threads that wait for a dead cluster included."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):  # nobody reads it any more
            stream.flush()
    os._exit(code)


def finish(code: int) -> int:
    """After a signal, end at once: a thread may still wait for a cluster that is gone."""
    if code > 128:
        leave(code)
    return code


def leave_on_signals() -> Callable[[], object]:
    """Let SIGTERM, and SIGHUP of a terminal that is closed, leave as Ctrl-C does, through every
    ``with``, so that no unfinished file stays; returns what undoes it. Changes nothing where somebody
    handles the signal already, or does not want to hear of it (nohup)."""
    if threading.current_thread() is not threading.main_thread():
        return nothing
    unheard = [each for each in LEAVING if signal.getsignal(each) is signal.SIG_DFL]

    def ended(number: int, frame: object) -> None:
        sys.exit(128 + number)

    def undo() -> None:
        for each in unheard:
            signal.signal(each, signal.SIG_DFL)

    for each in unheard:
        signal.signal(each, ended)
    return undo


@contextmanager
def postponed() -> Iterator[None]:
    """What a signal raises is raised at the end of this: no process is left half started. (A mask does
    not do it: any other thread may take a signal.)"""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    handlers = {each: signal.getsignal(each) for each in (signal.SIGINT, *LEAVING)}
    heard = {each: handler for each, handler in handlers.items() if callable(handler)}
    for each in heard:
        signal.signal(each, lambda number, frame: came.append(number))
    try:
        yield
    finally:
        for each, handler in heard.items():
            signal.signal(each, handler)
        for number in came[:1]:
            signal.raise_signal(number)


def nothing() -> None:
    """What there is to undo where nothing was changed."""
