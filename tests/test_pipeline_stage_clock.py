"""The clock of a show: time in which the process did not run is neither late nor a stall."""

import asyncio
import time

from pipeline.stage.show import Show
from tests.squares import Squares


def test_a_process_that_was_stopped_is_not_late() -> None:
    async def play() -> Show:
        show = Show(Squares(), seed=1, prompt="squares", duration=2.0)
        running = asyncio.create_task(show.run())
        while show.figures.frames < 8:
            await asyncio.sleep(0.01)
        show.hold("DL")
        time.sleep(4.0)  # nothing runs: what a SIGSTOP or a closed laptop does
        await running
        return show

    show = asyncio.run(play())
    stats = show.figures.stats(time.monotonic())
    assert stats["late_slots"] <= 2 and stats["stalls"] == 0
    assert show.figures.frames >= 31
    (delay,) = show.figures.control.everything
    assert delay < 1.5  # the key did not wait meanwhile either
