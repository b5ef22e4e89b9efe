"""Tasks that run beside everything else."""

import asyncio
import gc

from actors.tasks import Tasks


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
