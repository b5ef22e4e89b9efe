"""The clock of a show: when the next frame is due and when the source may start its next steps."""

import asyncio
import time
from collections.abc import Callable
from typing import Final

from actors.source import ChunkSource
from pipeline.stage.playhead import Playhead

BEAT_SECONDS: Final = 0.5
LAPSE_SECONDS: Final = 3.0  # without a beat: this process was not run


class Clock:
    """A playhead that knows the time, sleeps until a frame is due and paces the source. Can
    stand."""

    def __init__(
        self, source: ChunkSource, just_in_time: bool, lapsed: Callable[[float, float], None]
    ) -> None:
        """lapsed: called with the times from and until which nobody ran."""
        info = source.info
        self.playhead = Playhead(1 / info.fps, info.frames_per_latent, just_in_time)
        self.paused = False
        self._source = source
        self._changed = asyncio.Event()
        self._beat = time.monotonic()
        self._lapsed = lapsed

    def pace(self) -> None:
        """Tell the source when its next steps may start."""
        self._source.pace(self.playhead.pace(self.paused))

    def wake(self) -> None:
        """Something changed: frames came, a pause, a reset."""
        self.pace()
        self._changed.set()

    def set_paused(self, paused: bool) -> None:
        """Stop the clock, or let it go on."""
        self.paused = paused
        self.playhead.rest()
        self.wake()

    async def beat(self) -> None:
        """Notice, for ever, that nobody ran for a while (a closed laptop, a paused container)."""
        while True:
            self._lapse(time.monotonic())
            await asyncio.sleep(BEAT_SECONDS)

    def _lapse(self, now: float) -> None:
        """Time in which nobody ran is neither late nor a stall: the grid of slots starts anew."""
        if now - self._beat > LAPSE_SECONDS:
            self.playhead.rest()
            self._lapsed(self._beat, now)
        self._beat = now

    async def slot(self) -> float:
        """Sleep until a frame lies ready and is due; returns the time."""
        loop = asyncio.get_running_loop()
        while True:
            now = time.monotonic()
            self._lapse(now)
            due = self.playhead.due
            waiting = bool(self.playhead.depth) and not self.paused
            if waiting and (due is None or due <= now):
                return now
            self._changed.clear()
            alarm = (
                loop.call_later(due - now, self._changed.set)
                if waiting and due is not None
                else None
            )
            await self._changed.wait()
            if alarm is not None:
                alarm.cancel()
