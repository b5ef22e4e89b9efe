"""Processes of their own, in which things are measured: their peak memory is theirs, and they end with who
waits for them."""

import multiprocessing
import resource
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from typing import Final, TypeVar

from pipeline.signals import leave, leave_on_signals, postponed

MEGABYTE: Final = 1e6

Result = TypeVar("Result")


@contextmanager
def processes(
    size: int, begin: Callable[..., object] | None = None, *arguments: object
) -> Iterator[ProcessPoolExecutor]:
    """Fresh processes that call ``begin`` first. After an error here, or a signal, which is one, they
    are sent SIGTERM: nobody wants to know any more what they measure."""
    others = multiprocessing.active_children()
    undo = leave_on_signals()
    context = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(size, context, _begun, (begin, arguments)) as pool:
            try:
                yield pool
            except BaseException:
                for child in set(multiprocessing.active_children()) - set(others):
                    child.terminate()
                raise
    finally:
        undo()


def _begun(begin: Callable[..., object] | None, arguments: Sequence[object]) -> None:
    if begin is not None:
        begin(*arguments)


def started(
    pool: ProcessPoolExecutor, work: Callable[..., Result], *arguments: object
) -> "Future[Result]":
    """``work`` in one of our processes. Ctrl-C does not reach it: who waits for it ends it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # inherited
    try:
        with postponed():
            return pool.submit(_worked, work, *arguments)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _worked(work: Callable[..., Result], *arguments: object) -> Result:
    signal.signal(signal.SIGTERM, _ended)
    try:
        return work(*arguments)
    except SystemExit:  # what it began is tidied up
        leave(1)  # or it would begin what else waits to be done
        raise


def _ended(number: int, frame: object) -> None:
    signal.signal(number, signal.SIG_IGN)  # once is enough
    sys.exit(128 + number)


def in_a_process(work: Callable[..., Result], *arguments: object) -> Result:
    """Run ``work`` in a fresh process, so that its peak memory and its cluster are its own."""
    with processes(1) as pool:
        return started(pool, work, *arguments).result()


def in_a_pair(
    work: Callable[..., Result], *arguments: object, seconds: float = 120.0
) -> list[Result]:
    """Run ``work(rank, init_method, ...)`` as two ranks, each in a fresh process. Raises what a rank
    raised, and TimeoutError."""
    with tempfile.TemporaryDirectory() as folder, processes(2) as pool:
        method = f"file://{folder}/store"
        jobs = [started(pool, work, rank, method, *arguments) for rank in (0, 1)]
        return [job.result(timeout=seconds) for job in jobs]


def peak_memory() -> float:
    """Largest resident size of this process so far in MB, mapped file pages included."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MEGABYTE
