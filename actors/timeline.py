"""The latents of one stream: which is next, which are under way, and where a new group goes on."""

import asyncio
import time
from collections import deque
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from actors.gang import Reference
from actors.records import LatentChunk, Memory, Slice, StepOrder, StepReply
from actors.source import FrameChunk
from models.world import WorldState

# Latents whose decoding again rebuilds any decoder's memory (the full one reaches back about 45).
REPLAY: Final = 64


@dataclass(frozen=True)
class Prompt:
    """A text in force, its version, and its embedding as TextWorker makes it."""

    text: str
    version: int
    embedding: np.ndarray


@dataclass(frozen=True)
class Step:
    """A step under way: what was asked, when, and what will come of it."""

    order: StepOrder
    prompt: Prompt
    sampled: float
    chunk: Reference[LatentChunk]
    replies: "asyncio.Future[list[StepReply]]"
    slices: "asyncio.Future[list[Slice]]"


@dataclass(frozen=True)
class Commit:
    """Where a new group goes on: before latent ``index``. ``history`` are the chunks before it that
    rebuild a decoder's memory where ``memories`` (one a worker) are None. No state: latent 0."""

    index: int
    seed: int
    prompt: Prompt
    state: WorldState | None = None
    memories: tuple[Memory | None, ...] = ()
    history: tuple[LatentChunk, ...] = ()


@dataclass(frozen=True)
class Offsets:
    """What to add to the clocks of the two groups to get ours."""

    dit: float
    vae: float


@dataclass
class Timeline:
    """One stream since its reset. ``window`` is W, the latents of a step."""

    window: int
    commit: Commit
    epoch: int = 0
    next_index: int = 0
    under_way: deque[Step] = field(default_factory=deque)
    next_frame: int = 0
    _history: deque[LatentChunk] = field(default_factory=lambda: deque(maxlen=REPLAY))
    # latents whose frames come with a later one's
    _waiting: list[tuple[Step, StepReply]] = field(default_factory=list)

    def done(self, step: Step, chunk: LatentChunk, reply: StepReply, slices: list[Slice]) -> None:
        """The oldest step under way came back whole: a new group would go on behind it."""
        assert self.under_way.popleft() is step
        self._history.append(replace(chunk, latents=chunk.latents.copy()))
        memories = tuple(part.memory for part in slices)
        self.commit = Commit(
            index=step.order.index + self.window,
            seed=self.commit.seed,
            prompt=step.prompt,
            state=reply.state,
            memories=memories,
            history=tuple(self._history) if None in memories else (),
        )
        self._waiting.append((step, reply))

    def joined(self, slices: list[Slice], offsets: Offsets) -> FrameChunk | None:
        """The slices of the step that was done last, side by side. None if the decoder waits for
        another latent: its labels then come with the next frames."""
        parts = [part.frames for part in slices]
        frames = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=2)
        if not len(frames):
            return None
        waiting, self._waiting = self._waiting, []
        step, reply = waiting[-1]
        first_frame, self.next_frame = self.next_frame, self.next_frame + len(frames)
        return FrameChunk(
            epoch=self.epoch,
            index=waiting[0][0].order.index,
            first_frame=first_frame,
            frames=frames,
            labels=tuple(label for _, made in waiting for label in made.labels),
            cursor=reply.cursor,
            prompt_version=step.prompt.version,
            prompt=step.prompt.text,
            steered=tuple(label for earlier, _ in waiting for label in earlier.order.labels),
            stamps={
                "sampled": step.sampled,
                "step_start": reply.started + offsets.dit,
                "step_end": reply.ended + offsets.dit,
                "decode_start": min(part.started for part in slices) + offsets.vae,
                "decode_end": max(part.ended for part in slices) + offsets.vae,
                "arrived": time.monotonic(),
            },
        )
