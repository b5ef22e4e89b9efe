"""A clock that moves only when nothing else is left to do: what a test says of time then holds on
any machine, however busy."""

import asyncio
import selectors
import time
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest

Result = TypeVar("Result")


class _Hasty(selectors.SelectSelector):
    """Does not wait for a timer: puts the clock forward to it."""

    def __init__(self, now: float) -> None:
        super().__init__()
        self.now = now

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            return super().select(None)
        self.now += max(0.0, timeout)
        return super().select(0)


def run(work: Coroutine[Any, Any, Result], patch: pytest.MonkeyPatch) -> Result:
    """Run ``work`` as ``asyncio.run`` does, on such a clock, which is everybody's meanwhile."""
    selector = _Hasty(time.monotonic())
    with patch.context() as inside:
        inside.setattr(time, "monotonic", lambda: selector.now)
        with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selector)) as runner:
            return runner.run(work)
