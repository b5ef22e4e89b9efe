"""The playhead: frames that lie ready, the grid they are shown on, and when the next step should
start.

No clock, no loop: the show asks and tells the time.
"""

import math
from collections import deque
from typing import Final

from actors.source import FrameChunk, Pace
from pipeline.stage import pacing
from pipeline.stage.audience import ShownFrame

# latents after a reset that pay for more than themselves and say nothing about the next ones
WARM_UP: Final = 4


class Playhead:
    """Chunks in, one frame per slot out. Refuses chunks of overtaken epochs; a gap within an epoch
    is an error."""

    def __init__(self, period: float, frames_per_latent: int, just_in_time: bool = True) -> None:
        self.epoch = 0
        self.overtaken = 0  # frames that came after the reset that made them worthless
        self.lead = pacing.Lead()
        self._period = period
        self._rows = frames_per_latent
        self._just_in_time = just_in_time
        self._slots = pacing.Slots(period)
        # with the label that its latent's step was given, if it is the first of its latent
        self._ready: deque[tuple[ShownFrame, str | None]] = deque()
        self._next_latent = 0
        self._shown_latent = -1
        self._cold = WARM_UP  # latents before this one

    def rewind(self, epoch: int, latent: int = 0) -> None:
        """Another stream, or this one again: drop what lies ready and wait for ``latent`` of
        ``epoch``."""
        self.epoch = epoch
        self._ready.clear()
        self._next_latent, self._shown_latent = latent, latent - 1
        self._cold = latent + WARM_UP
        self.rest()

    def take_rest(self) -> list[ShownFrame]:
        """Take the frames that lie ready and belong to the latent on the screen."""
        frames = []
        while self._ready and self._ready[0][0].latent == self._shown_latent:
            frames.append(self._ready.popleft()[0])
        return frames

    def rest(self) -> None:
        """The clock of the world stands; the next frame is due as soon as it is asked for."""
        self._slots = pacing.restart(self._slots)

    def admit(self, chunk: FrameChunk) -> bool:
        """Lay a chunk's frames ready; False for one of an epoch that a reset overtook."""
        if chunk.epoch < self.epoch:
            self.overtaken += len(chunk.frames)
            return False
        if chunk.index != self._next_latent:
            raise RuntimeError(
                f"the source sent latent {chunk.index} where {self._next_latent} was expected"
            )
        self.epoch = chunk.epoch
        stamps = chunk.stamps
        if chunk.index >= self._cold and "sampled" in stamps:
            began = stamps.get("asked", stamps["sampled"])  # it may have waited for its turn
            self.lead = pacing.observe(self.lead, stamps["arrived"] - began)
        for number, image in enumerate(chunk.frames):
            latent, row = divmod(number, self._rows)
            frame = ShownFrame(
                epoch=chunk.epoch,
                index=chunk.first_frame + number,
                latent=chunk.index + latent,
                image=image,
                label=chunk.labels[latent],
                cursor=chunk.cursor,
                prompt=chunk.prompt,
                prompt_version=chunk.prompt_version,
                stamps=stamps,
                motion=chunk.motion[number] if chunk.motion else None,
            )
            self._ready.append((frame, None if row else chunk.steered[latent]))
        self._next_latent += len(chunk.labels)
        return True

    @property
    def depth(self) -> int:
        """Frames that lie ready."""
        return len(self._ready)

    @property
    def due(self) -> float | None:
        """When the next frame is due; None = as soon as one is there."""
        return self._slots.due

    def advance(self, now: float) -> tuple[ShownFrame, pacing.Placed, str | None]:
        """Take the next frame at ``now``: the frame, the slot it is placed in, and the label its
        latent's step was given if it is the first of its latent."""
        (frame, steered), due = self._ready.popleft(), self._slots.due
        placed = pacing.place(self._slots, now)
        self._slots = placed.slots
        if steered is None:
            return frame, placed, None
        self._shown_latent = frame.latent
        if due is not None and "arrived" in frame.stamps:
            self.lead = pacing.adapt(self.lead, max(0.0, frame.stamps["arrived"] - due))
        return frame, placed, steered

    def pace(self, paused: bool) -> Pace:
        """When the source may start its next steps."""
        start = 0.0
        if paused:
            start = math.inf
        elif self._just_in_time:
            start = pacing.start_time(self.lead, self._slots.due, len(self._ready), self._period)
        return Pace(self._next_latent, start, self._shown_latent)
