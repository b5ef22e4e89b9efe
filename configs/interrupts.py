"""Ctrl-C while Python imports. Nothing has begun by then, so the process ends at once and says nothing:
an exception in the midst of an import is a traceback, and in some extensions an abort."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


def leave(number: int, frame: FrameType | None) -> None:
    """End this process with the exit code of a signal."""
    os._exit(128 + number)


@contextmanager
def importing() -> Iterator[None]:
    """While packages are imported that take a while, Ctrl-C ends the process at once; after it, it is
    a KeyboardInterrupt again. Changes nothing where somebody handles it otherwise, or wants to hear
    nothing of it."""
    ours = threading.current_thread() is threading.main_thread()
    if not ours or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
