"""Stopwatches, and processes whose peak memory is their own."""

import multiprocessing
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Final, TypeVar

MEGABYTE: Final = 1e6

Result = TypeVar("Result")


def samples(work: Callable[[], object], times: int, warm: int = 2) -> list[float]:
    """Milliseconds of each of ``times`` runs after ``warm`` runs that do not count."""
    for _ in range(warm):
        work()
    milliseconds = []
    for _ in range(times):
        start = time.perf_counter()
        work()
        milliseconds.append(1000 * (time.perf_counter() - start))
    return milliseconds


def stopwatch(work: Callable[[], object], times: int) -> float:
    """Median milliseconds of ``times`` runs."""
    return statistics.median(samples(work, times, warm=1))


def percentiles(milliseconds: Sequence[float]) -> dict[str, float]:
    """p50 and p95."""
    cuts = statistics.quantiles(milliseconds, n=20)
    return {"p50": round(statistics.median(milliseconds), 2), "p95": round(cuts[-1], 2)}


def in_a_process(work: Callable[..., Result], *arguments: object) -> Result:
    """Run ``work`` in a fresh process, so that its peak memory and its cluster are its own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


def in_a_pair(
    work: Callable[..., Result], *arguments: object, seconds: float = 120.0
) -> list[Result]:
    """Run ``work(rank, init_method, ...)`` as two ranks, each in a fresh process. Raises what a rank
    raised, and TimeoutError."""
    context = multiprocessing.get_context("spawn")
    with (
        tempfile.TemporaryDirectory() as folder,
        ProcessPoolExecutor(2, mp_context=context) as pool,
    ):
        method = f"file://{folder}/store"
        jobs = [pool.submit(work, rank, method, *arguments) for rank in (0, 1)]
        return [job.result(timeout=seconds) for job in jobs]


def peak_memory() -> float:
    """Largest resident size of this process so far in MB, mapped file pages included."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MEGABYTE
