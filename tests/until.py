"""Waiting in tests: for what is to come, and for what is under way."""

import asyncio
from collections.abc import Callable


async def until(condition: Callable[..., object], seconds: float = 20.0) -> None:
    """Return once ``condition`` holds; TimeoutError when it does not come true."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


async def settled() -> None:
    """What needs nothing but the event loop has happened."""
    for _ in range(10):
        await asyncio.sleep(0)
