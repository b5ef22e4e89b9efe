"""Stopwatches."""

import statistics
import time
from collections.abc import Callable, Sequence


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
