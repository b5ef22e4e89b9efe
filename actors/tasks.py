"""Tasks of an event loop: some that run beside everything else, and how they end."""

import asyncio
from collections.abc import Coroutine
from typing import Any


class Tasks:
    """Work that nobody waits for. Kept here until it is done: the loop alone would let go of it."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[Any]] = set()

    def start(self, work: Coroutine[Any, Any, Any]) -> None:
        """Run ``work`` beside everything else."""
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def finish(self, seconds: float) -> None:
        """Wait until all are done, but no longer than that."""
        if self._running:
            await asyncio.wait(self._running, timeout=seconds)

    async def cancel(self) -> None:
        """End all of them."""
        await cancel(*self._running)


async def together(*work: Coroutine[Any, Any, Any]) -> None:
    """Do all of it at once, until the first failure: that ends the others, and is raised."""
    tasks = [asyncio.create_task(each) for each in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        await cancel(*tasks)


async def cancel(*tasks: "asyncio.Task[Any]") -> None:
    """End tasks, and wait until they have ended."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
