"""Run a test's function on several real ranks, each in its own process."""

import functools
import multiprocessing
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import torch

from models.parallel import SequenceGroup


def run_ranks(
    size: int,
    function: Callable[..., Any],
    *arguments: Any,
    backend: str = "gloo",
    seconds: float = 240,
) -> list[Any]:
    """Return [function(group of rank r, *arguments) for r in range(size)], all ranks running at
    once.

    backend: gloo, or one of CUDA's, where rank r has device r. seconds: after which it is given up,
    a quarter of them for one exchange. The function is a top-level one of a test module; arguments
    and results cross process borders.
    """
    with tempfile.TemporaryDirectory() as folder:
        method = f"file://{folder}/store"
        jobs = [
            _pool().submit(_rank, rank, size, method, backend, seconds / 4, function, arguments)
            for rank in range(size)
        ]
        return [job.result(timeout=seconds) for job in jobs]


@functools.cache
def _pool() -> ProcessPoolExecutor:
    """Processes that serve all tests, since importing torch takes longer than most of them. A rank
    waits for its peers, so no process ever runs two ranks of one group."""
    return ProcessPoolExecutor(4, mp_context=multiprocessing.get_context("spawn"))


def _rank(
    rank: int,
    size: int,
    method: str,
    backend: str,
    exchange: float,
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
) -> Any:
    torch.set_num_threads(1)
    device = "cpu" if backend == "gloo" else f"cuda:{rank}"
    group = SequenceGroup.join(
        rank, size, init_method=method, backend=backend, device=device, timeout_seconds=exchange
    )
    try:
        return function(group, *arguments)
    finally:
        group.close()
