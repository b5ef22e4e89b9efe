"""Eight branched worlds in one process against eight processes with one each: latents a second of all
together, and the memory that they take.

Branches share one set of weights and one Python; processes share nothing, but use every core. The same
branches stepped by as many threads as there are cores are measured as well: PyTorch and OpenVINO
compute without Python's lock.
"""

import functools
import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any, Final

import psutil

from models.checkpoint import Checkpoint
from models.controls import LABELS
from models.device import cores, pick_device, use_threads
from models.engines.choose import with_engine
from models.live_world import LiveWorld
from models.parts import Parts
from pipeline.bench.options import Options
from pipeline.bench.processes import MEGABYTE, in_a_process, processes, started
from pipeline.bench.table import table

BRANCHES: Final = 8
WARM: Final = 2  # latents that do not count
_meeting: Barrier | None = None  # of the processes, before they are timed


def measure(options: Options) -> dict[str, Any]:
    """All three, one after the other; ``options.seconds`` / 3 each."""
    seconds, count = options.seconds / 3, cores()
    ways: dict[str, Callable[[], tuple[float, float]]] = {
        "one process": functools.partial(together, options.model, seconds, 1),
        f"one process, {count} threads": functools.partial(together, options.model, seconds, count),
        f"{BRANCHES} processes": functools.partial(apart, options.model, seconds),
    }
    rows = [(name, *_rounded(in_a_process(way))) for name, way in ways.items()]
    table(("eight worlds", "latents/s", "MB"), rows)
    first, last = rows[0], rows[-1]
    return {
        "cores": count,
        "ways": [{"way": way, "latents_per_s": rate, "mb": size} for way, rate, size in rows],
        "speed": round(first[1] / last[1], 3),
        "memory": round(first[2] / last[2], 3),
    }


def together(model: Path, seconds: float, threads: int) -> tuple[float, float]:
    """Branches of one world, each step in all of them: (latents a second, MB)."""
    world = _world(model)
    worlds = [world.branch() for _ in range(BRANCHES)]
    with ThreadPoolExecutor(threads) as pool:

        def step(_: int) -> None:
            list(pool.map(LiveWorld.step, worlds, LABELS))

        rate = BRANCHES * _rate(step, seconds)
    return rate, psutil.Process().memory_info().rss / MEGABYTE


def apart(model: Path, seconds: float) -> tuple[float, float]:
    """As many processes with a world each: (latents a second, MB)."""
    meeting = multiprocessing.get_context("spawn").Barrier(BRANCHES)
    with processes(BRANCHES, _meet_at, meeting) as pool:
        jobs = [started(pool, _alone, model, seconds, number) for number in range(BRANCHES)]
        done = [job.result() for job in jobs]
    return sum(rate for rate, _ in done), sum(size for _, size in done)


def _meet_at(meeting: Barrier) -> None:
    global _meeting
    _meeting = meeting


def _alone(model: Path, seconds: float, number: int) -> tuple[float, float]:
    world = _world(model)
    assert _meeting is not None
    _meeting.wait()
    rate = _rate(lambda _: world.step(LABELS[number]), seconds)
    return rate, psutil.Process().memory_info().rss / MEGABYTE


def _world(model: Path) -> LiveWorld:
    """As the Gymnasium environment has it, a little driven."""
    use_threads(1)
    device = pick_device()
    checkpoint = with_engine(Checkpoint.open(model), device)
    world = LiveWorld.begin(Parts(checkpoint, device), checkpoint.default_prompt)
    for _ in range(WARM):
        world.step(LABELS[0])
    return world


def _rate(step: Callable[[int], object], seconds: float) -> float:
    """Steps a second."""
    for number in range(WARM):
        step(number)
    count, begun = 0, time.perf_counter()
    while time.perf_counter() - begun < seconds:
        step(count)
        count += 1
    return count / (time.perf_counter() - begun)


def _rounded(measured: tuple[float, float]) -> tuple[float, float]:
    rate, size = measured
    return round(rate, 1), round(size, 0)
