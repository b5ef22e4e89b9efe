"""A source that draws its frames from (seed, latent, label), so that a world costs nothing; and a show over
it, driven and watched."""

import asyncio
import contextlib
import json
import time
from dataclasses import asdict

import numpy as np

from actors.source import FrameChunk, Moment, Pace, StageReport, Take, WorldInfo
from configs.errors import UserError
from pipeline.stage.show import Show

INFO = WorldInfo(name="squares", model_hash="a" * 16, height=16, width=32, presets=("night",))


def picture(seed: int, frame: int, label: str) -> np.ndarray:
    image = np.zeros((INFO.height, INFO.width, 3), np.uint8)
    image[:, :16] = (seed * 40 + 20) % 256
    image[:, 16:] = (frame * 8 + 64 * len(label)) % 256
    return image


class Squares:
    """A world of two grey squares. ``seconds`` is how long it takes to make a latent."""

    def __init__(self, seconds: float = 0.02) -> None:
        self.info = INFO
        self.seconds = seconds
        self.closed = False
        self.most_ahead = 0
        self._epoch, self._index, self._seed = 0, 0, 0
        self._take: Take | None = None
        self._held, self._cursor, self._prompt = ("D", 0, ("", 0))
        self._pace = Pace(0, float("inf"), -1)
        self._under: dict[int, str] = {}  # the prompt of every latent
        self._wake = asyncio.Event()

    async def start(self, seed, prompt, report, moment=None):
        self.report = report
        report(StageReport("loading", 50.0, "drawing squares", 0.0))
        self._seed, self._prompt = seed, (prompt, 0)
        if moment is not None:
            self.open(moment)

    async def next(self):
        while True:
            self._wake.clear()
            pace, now = self._pace, time.monotonic()
            start = pace.start + (self._index - pace.index) * INFO.latent_seconds
            if start <= now and self._index <= pace.shown + 2:
                break
            timeout = min(max(start - now, 0), 10) if self._index <= pace.shown + 2 else 10
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), timeout)
        self.most_ahead = max(self.most_ahead, self._index - self._pace.shown)
        chunk = self._make()
        await asyncio.sleep(self.seconds)
        stamps = chunk.stamps | {"step_end": time.monotonic(), "arrived": time.monotonic()}
        return FrameChunk(**{**chunk.__dict__, "stamps": stamps})

    def _make(self):
        label, prompt = self._held, self._prompt[0]
        if self._take is not None and self._index < len(self._take.labels):
            label, prompt = self._take.labels[self._index], self._take.prompts[self._index]
        self._under[self._index] = prompt
        frames = np.stack([picture(self._seed, 4 * self._index + n, label) for n in range(4)])
        now = time.monotonic()
        chunk = FrameChunk(
            epoch=self._epoch,
            index=self._index,
            first_frame=4 * self._index,
            frames=frames,
            labels=(label,),
            cursor=self._cursor,
            prompt_version=self._prompt[1],
            prompt=prompt,
            steered=(label,),
            stamps={"sampled": now, "step_start": now},
        )
        self._index += 1
        return chunk

    def hold(self, label, cursor):
        self._held, self._cursor = label, cursor

    async def set_prompt(self, text, version):
        if text == "impossible":
            raise UserError("the world cannot be that")
        self._prompt = (text, version)

    def reset(self, seed, take=None):
        self._epoch, self._seed, self._take = self._epoch + 1, seed, take
        self._index, self._under = take.first if take else 0, {}
        self._wake.set()
        return self._epoch

    def kept(self):
        return range(max(0, self._index - 240) // 8 * 8, self._index, 8)

    def moment(self, latent):
        return Moment(latent, self._seed, self._under.get(latent - 1, self._prompt[0]), None)

    def open(self, moment):
        self._epoch, self._index, self._seed = self._epoch + 1, moment.latent, moment.seed
        self._take, self._prompt = None, (moment.prompt, self._prompt[1])
        self._wake.set()
        return self._epoch

    async def save(self, moment, take, path):
        path.write_text(json.dumps([moment.latent, moment.seed, moment.prompt, asdict(take)]))

    async def load(self, path):
        latent, seed, prompt, take = json.loads(path.read_text())
        labels, prompts = tuple(take["labels"]), tuple(take["prompts"])
        return Moment(latent, seed, prompt, None), Take(take["seed"], labels, prompts)

    def pace(self, pace):
        self._pace = pace
        self._wake.set()

    async def close(self):
        self.closed = True


async def watch(show, until, seconds=10.0):
    """Collect every frame and event until ``until(frames, events)``."""
    frames, events = [], []
    sub = show.subscribe()

    async def read():
        while await sub.wait():
            events.extend(sub.events())
            if (frame := sub.frame()) is not None:
                frames.append(frame)
            if until(frames, events):
                break

    await asyncio.wait_for(read(), seconds)
    sub.close()
    return frames, events


def play(source, drive, **settings):
    """Run a show beside ``drive(show)``."""

    async def both():
        show = Show(source, **{"seed": 1, "prompt": "a road", **settings})
        running = asyncio.create_task(show.run())
        try:
            result = await asyncio.gather(drive(show))
        finally:
            show.stop()
            await running
        return show, result[0]

    return asyncio.run(both())


def kinds(events):
    return [event.kind for event in events]
