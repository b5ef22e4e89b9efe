"""Tasks that run beside everything else."""

import asyncio
import gc

import pytest

from actors.tasks import Tasks, together


def test_what_runs_is_kept_waited_for_and_ended() -> None:
    async def act() -> list[str]:
        done: list[str] = []
        tasks = Tasks()

        async def work(name: str, seconds: float) -> None:
            try:
                await asyncio.sleep(seconds)
            finally:
                done.append(name)

        tasks.start(work("soon", 0.01))
        tasks.start(work("late", 60))
        gc.collect()  # nobody else holds them
        await tasks.finish(0.1)
        assert done == ["soon"]
        await tasks.cancel()
        await tasks.finish(0.1)  # nothing is left
        return done

    assert asyncio.run(act()) == ["soon", "late"]


def test_the_first_failure_ends_what_is_done_together() -> None:
    ended: list[str] = []

    async def long() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append("long")

    async def failing() -> None:
        await asyncio.sleep(0)
        raise ValueError("it broke")

    async def whole() -> None:
        with pytest.raises(ValueError, match="it broke"):
            await together(long(), failing())
        assert ended == ["long"]
        await together(asyncio.sleep(0), asyncio.sleep(0))

    asyncio.run(whole())
