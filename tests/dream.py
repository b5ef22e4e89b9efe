"""A world dreamed in this process, as a source of chunks: LiveWorld (models/live_world.py) on small
random weights. What it keeps, saves and opens is the real thing; a step takes milliseconds."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from actors.moments import every
from actors.source import FrameChunk, Moment, Pace, StageReport, Take, WorldInfo
from models.checkpoint import Checkpoint
from models.live_world import LiveWorld
from models.parts import Parts
from tests.tiny_checkpoint import PROMPTS, write_checkpoint

CPU = torch.device("cpu")


def dreamed(folder: Path, late_labels: int = 2, full_vae: bool = False) -> Parts:
    """The weights of such worlds, written to a new folder."""
    made = write_checkpoint(folder / "stage4", late_labels=late_labels, full_vae=full_vae)
    return Parts(Checkpoint.open(made), CPU, "float32")


class DreamSource:
    """A ChunkSource. A moment's state is a LiveWorld that stands there and is never stepped."""

    def __init__(self, parts: Parts) -> None:
        checkpoint = parts.checkpoint
        self.info = WorldInfo(
            name=checkpoint.name,
            model_hash=checkpoint.model_hash,
            height=checkpoint.height,
            width=checkpoint.width,
            presets=PROMPTS,
            latents_per_step=checkpoint.streaming.window_size,
            moments=True,
        )
        self.parts = parts
        self.epoch = self.frame = self.first = self.version = self.cursor = 0
        self.held, self.wanted = "D", ""
        self.take = Take(0, (), ())
        self.steps, self.changed = Pace.standing(), asyncio.Event()

    async def start(
        self,
        seed: int,
        prompt: str,
        report: Callable[[StageReport], None],
        moment: Moment | None = None,
    ) -> None:
        self.wanted = prompt
        if moment is None:
            self._stand(LiveWorld.begin(self.parts, prompt, seed))
        else:
            self.open(moment)
        report(StageReport("ready", 100.0, "dreaming", 0.0))

    async def next(self) -> FrameChunk:
        labels: list[str] = []
        while True:
            await self._turn(self.live.index)
            index, began = self.live.index, time.monotonic()
            labels += self._step()
            done = time.monotonic()
            frames = self.live.frames if self.live.index > 1 or len(self.live.frames) else None
            await asyncio.sleep(0)
            if frames is None or self.live.index <= self.first:
                continue
            first = self.frame
            self.frame += len(frames)
            times = dict.fromkeys(("step_end", "decode_start", "decode_end", "arrived"), done)
            return FrameChunk(
                epoch=self.epoch,
                index=index + self.info.latents_per_step - len(labels),
                first_frame=first,
                frames=frames,
                labels=tuple(labels),
                steered=tuple(labels),
                cursor=self.cursor,
                prompt_version=self.version,
                prompt=self.live.prompt,
                stamps={"sampled": began, "step_start": began, **times},
            )

    def hold(self, label: str, cursor: int) -> None:
        self.held, self.cursor = label, cursor

    async def set_prompt(self, text: str, version: int) -> None:
        self.parts.encode([text])
        self.wanted, self.version = text, version

    def reset(self, seed: int, take: Take | None = None) -> int:
        prompt = take.prompts[0] if take else self.wanted
        self.wanted = prompt
        return self._stand(LiveWorld.begin(self.parts, prompt, seed), take)

    def kept(self) -> Sequence[int]:
        newest = self.live.index
        return range(newest - self.live.rewindable, newest + 1, self.info.latents_per_step)

    def moment(self, latent: int) -> Moment:
        live = self.live.branch()
        live.rewind(live.index - latent)
        return Moment(latent, live.snapshot().state.seed, live.prompt, live)

    def open(self, moment: Moment) -> int:
        assert isinstance(moment.state, LiveWorld)
        self.wanted = moment.prompt
        return self._stand(moment.state.branch())

    async def save(self, moment: Moment, take: Take, path: Path) -> None:
        assert isinstance(moment.state, LiveWorld)
        assert moment.state.labels == take.labels
        moment.state.save(path)

    async def load(self, path: Path) -> tuple[Moment, Take]:
        live = LiveWorld.open(self.parts, path)
        snapshot = live.snapshot()
        seed = snapshot.state.seed
        take = Take(seed, live.labels, every(snapshot.prompts, live.index))
        return Moment(live.index, seed, live.prompt, live), take

    def pace(self, pace: Pace) -> None:
        self.steps = pace
        self.changed.set()

    async def close(self) -> None:
        pass

    def _stand(self, live: LiveWorld, take: Take | None = None) -> int:
        self.live, self.take, self.epoch = live, take or Take(0, (), ()), self.epoch + 1
        self.first = self.take.first or live.index
        self.frame = self.first * self.info.frames_per_latent
        self.steps = Pace.standing()
        return self.epoch

    def _step(self) -> tuple[str, ...]:
        window, index = self.info.latents_per_step, self.live.index
        labels = (*self.take.labels[index : index + window], *(self.held,) * window)[:window]
        if index < len(self.take.labels):
            self.wanted = self.take.prompts[index]
        if self.wanted != self.live.prompt:
            self.live.set_prompt(self.wanted)
        self.live.step(labels)
        return labels

    async def _turn(self, index: int) -> None:
        while (wait := self.steps.wait(index, self.info, time.monotonic())) is None or wait > 0:
            self.changed.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.changed.wait(), wait)
            index = self.live.index


def again(parts: Parts, take: Take) -> np.ndarray:
    """Frames uint8 [n, H, W, 3] of a drive from latent 0 on, undisturbed."""
    live = LiveWorld.begin(parts, take.prompts[0], take.seed)
    window = parts.checkpoint.streaming.window_size
    frames = []
    for index in range(0, len(take.labels) // window * window, window):
        if take.prompts[index] != live.prompt:
            live.set_prompt(take.prompts[index])
        frames.append(live.step(take.labels[index : index + window]))
    return np.concatenate(frames)
