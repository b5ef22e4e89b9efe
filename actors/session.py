"""The live session: paces the DiT group, hands its latents to the VAE group, and mends both when
they break.

One latent's way: label sampled -> every DiT rank's ``step`` -> rank 0's chunk, as a reference, into
every VAE worker's ``decode`` -> slices joined here. Nothing but labels goes out of this process and
nothing but frames comes in.

What makes a fault harmless: noise is a function of (seed, latent index), every step names the
latent that it makes, and the world's state comes back with every step. What broke is replaced, both
groups are set back to the newest state, and the steps that were under way are asked for again with
the labels they had.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np

from actors.groups import Groups, Rewound
from actors.layout import Layout
from actors.prompts import PromptReader
from actors.repair import FIRST_STEP_SECONDS, ClusterLost, Fault, Faults, Patience, cancel, watched
from actors.source import (
    STEPS_AHEAD,
    FrameChunk,
    Pace,
    Reporter,
    StageReport,
    Take,
    WorldInfo,
)
from actors.steering import Reset, Steering
from actors.timeline import Commit, Prompt, Step, Timeline
from configs.choice import WeightChoice
from configs.errors import UserError

LOOK_SECONDS: Final = 1.0  # between two looks whether the stream still moves


class Session:
    """A ChunkSource (actors/source.py) over Ray. ``address`` joins a cluster that exists, else it
    starts its own, whose logs go to ``keep_logs`` when it ends."""

    def __init__(
        self,
        info: WorldInfo,
        weights: WeightChoice,
        layout: Layout,
        address: str | None = None,
        keep_logs: Path | None = None,
    ) -> None:
        self.info = info
        self._say = Reporter()
        self.groups = Groups(weights, layout, address, self._say, keep_logs)
        self._prompts = PromptReader(self.groups, self._say)
        nothing = Prompt("", 0, np.zeros((1, 0, 0), np.float32))
        self._steering = Steering(nothing)
        self._timeline = Timeline(info.latents_per_step, Commit(0, 0, nothing))
        self._rewound = Rewound(())
        self._patience = Patience()
        self._faults = Faults()
        self._moved = time.monotonic()  # when something last came of the stream
        self._changed = asyncio.Event()  # a step may start
        self._asked = asyncio.Event()  # a step was asked for
        self._chunks: asyncio.Queue[FrameChunk | BaseException] = asyncio.Queue()
        self._work: asyncio.Task[None] | None = None
        self._reading: asyncio.Task[None] | None = None

    # -- ChunkSource -------------------------------------------------------------------------------

    async def start(self, seed: int, prompt: str, report: Callable[[StageReport], None]) -> None:
        """See ChunkSource. UserError: the cluster cannot be joined or has no room; weights that do
        not load."""
        self._say.to(report)
        await self.groups.open()
        self._say("prompt", 90, "reading the prompt")
        self._steering.prompt = Prompt(prompt, 0, await self._read_first(prompt))
        self._say("first frame", 95, "dreaming the first frame")
        self._begin(Reset(seed, None, {}))
        self._work = asyncio.create_task(self._run())

    async def next(self) -> FrameChunk:
        """See ChunkSource."""
        chunk = await self._chunks.get()
        if isinstance(chunk, BaseException):
            self._chunks.put_nowait(chunk)
            raise RuntimeError(str(chunk)) from chunk
        return chunk

    def hold(self, label: str, cursor: int) -> None:
        """See ChunkSource."""
        self._steering.held, self._steering.cursor = label, cursor

    async def set_prompt(self, text: str, version: int) -> None:
        """See ChunkSource."""
        self._steering.prompt = Prompt(text, version, await self._prompts.read(text))

    def reset(self, seed: int, take: Take | None = None) -> int:
        """See ChunkSource. The newest wins: one that has not begun is forgotten."""
        self._timeline.epoch += 1
        self._steering.pace = Pace.standing()
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None
        self._steering.wanted = wanted = Reset(seed, take, None if take else {})
        if take is not None:
            self._reading = asyncio.create_task(self._read(wanted, take))
        self._changed.set()
        return self._timeline.epoch

    def pace(self, pace: Pace) -> None:
        """See ChunkSource."""
        if pace.paused or self._steering.pace.paused:
            self._moved = time.monotonic()
        self._steering.pace = pace
        self._changed.set()

    async def close(self) -> None:
        """See ChunkSource."""
        tasks = [task for task in (self._work, self._reading) if task is not None]
        self._work = self._reading = None
        await cancel(*tasks)
        await self.groups.close()

    async def _read_first(self, prompt: str) -> np.ndarray:
        try:
            return await self.groups.unless_lost(self._prompts.read(prompt))
        except ClusterLost as lost:  # nobody mends yet
            await self.groups.mend(lost)
            return await self._prompts.read(prompt)

    # -- the life of the stream --------------------------------------------------------------------

    async def _run(self) -> None:
        """Serve until a fault that cannot be mended, which ``next`` then raises."""
        tasks: list[asyncio.Task[Any]] = [
            asyncio.create_task(self._serve_for_ever()),
            asyncio.create_task(self._prompts.keep()),
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            first = done.pop()
            error = first.exception() or RuntimeError("the session ended")
            self._chunks.put_nowait(error)
        finally:
            await cancel(*tasks)

    async def _serve_for_ever(self) -> None:
        while True:
            try:
                await self._serve()
            except Fault as fault:
                await self._mend(fault)

    async def _serve(self) -> None:
        """Start and collect steps until something breaks: Fault."""
        loops = (self._start_steps(), self._collect(), self._watch(), self.groups.watch())
        tasks: list[asyncio.Task[Any]] = [asyncio.create_task(loop) for loop in loops]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
            for task in done:
                task.result()
        finally:
            await cancel(*tasks)

    async def _start_steps(self) -> None:
        """Begin what was asked for, and start steps when the pace allows."""
        loop = asyncio.get_running_loop()
        while True:
            self._changed.clear()  # before looking: what changes from here on wakes us again
            wanted = self._steering.wanted
            if wanted is not None and wanted.embeddings is not None and self._rewound.done:
                self._begin(wanted)
            wait = self._wait()
            if wait is not None and wait <= 0:
                self._start_step()
                continue
            alarm = loop.call_later(wait, self._changed.set) if wait is not None else None
            await self._changed.wait()
            if alarm is not None:
                alarm.cancel()

    def _wait(self) -> float | None:
        """Seconds until the next step may start; None = not before something changes."""
        under_way = self._timeline.under_way
        busy = bool(under_way) and not under_way[-1].replies.done()
        if busy or len(under_way) >= STEPS_AHEAD or self._steering.wanted is not None:
            return None
        now, index = time.monotonic(), self._timeline.next_index
        return self._steering.pace.wait(index, self.info, now)

    def _start_step(self) -> None:
        """Sample the label, now, and ask every rank for the next step."""
        timeline = self._timeline
        order, prompt = self._steering.next_step(timeline.next_index, timeline.window)
        timeline.next_index += timeline.window
        self._ask(self.groups.step(order, prompt, time.monotonic()))

    def _ask(self, step: Step) -> None:
        step.replies.add_done_callback(lambda _: self._changed.set())
        self._timeline.under_way.append(step)
        self._moved = time.monotonic()
        self._asked.set()

    async def _collect(self) -> None:
        """Take what comes back, in order, and hand it on."""
        while True:
            rewound = self._rewound
            await rewound.hold(self._patience.limit)
            self._changed.set()
            step = await self._oldest(rewound)
            if step is None:
                continue
            replies = await watched(self.groups.dit, step.replies, self._patience.limit)
            slices = await watched(self.groups.vae, step.slices, self._patience.limit)
            chunk = await step.chunk
            if self._rewound is not rewound or self._steering.wanted is not None:
                continue  # a reset overtook it
            self._patience.took(time.monotonic() - step.sampled)
            self._moved = time.monotonic()
            self._timeline.done(step, chunk, replies[0], slices)
            joined = self._timeline.joined(slices, self.groups.offsets)
            if joined is not None:
                self._chunks.put_nowait(joined)
            self._changed.set()

    async def _oldest(self, rewound: Rewound) -> Step | None:
        """The step that comes back next; None when another stream begins first."""
        while self._rewound is rewound:
            if self._timeline.under_way and self._steering.wanted is None:
                return self._timeline.under_way[0]
            self._asked.clear()
            await self._asked.wait()
        return None

    async def _watch(self) -> None:
        """A stream that stands still although nobody paused it is a fault, whatever the reason."""
        ran = 0.0
        while True:
            before, moved = time.monotonic(), self._moved
            await asyncio.sleep(LOOK_SECONDS)
            ran += min(time.monotonic() - before, 2 * LOOK_SECONDS)
            if moved != self._moved or self._rests:
                ran = 0.0
            elif ran >= 2 * self._patience.limit:
                raise Fault(None, f"the stream stood still for {ran:.0f} s")

    @property
    def _rests(self) -> bool:
        """Nothing has to move: paused, or the next step's time has not come."""
        wanted, wait = self._steering.wanted, self._wait()
        if wanted is not None:
            return wanted.embeddings is None
        return self._steering.pace.paused or wait is None or wait > 0

    # -- reset and repair --------------------------------------------------------------------------

    async def _read(self, wanted: Reset, take: Take) -> None:
        """Read the prompts of a drive that is to be followed; then it can begin."""
        try:
            wanted.embeddings = await self._prompts.read_all(take.prompts)
        except UserError as error:
            self._say("prompt", None, f"a prompt of this drive cannot be read: {error}")
            wanted.embeddings = {}
        except RuntimeError as error:
            self._chunks.put_nowait(error)
        self._changed.set()

    def _begin(self, reset: Reset) -> None:
        """Latent 0 of a stream, on both groups; what is under way is forgotten."""
        self._steering.wanted = None
        self._steering.follow(reset)
        self._timeline = Timeline(
            self.info.latents_per_step,
            Commit(0, reset.seed, self._steering.prompt),
            epoch=self._timeline.epoch,
        )
        self._stand(self.groups.rewind(self._timeline.commit))

    def _stand(self, rewound: Rewound) -> None:
        self._rewound = rewound
        self._moved = time.monotonic()
        self._asked.set()

    async def _mend(self, fault: Fault) -> None:
        """Replace what broke, go back to the newest commit, and ask again for what was under way.

        The steps are kept until both groups stand at the commit: another death meanwhile only makes
        the repair longer. Raises RuntimeError when it leads nowhere."""
        began = time.monotonic()
        self._faults.begin(fault)
        self._timeline.epoch += 1
        self._say("rebuilding", None, f"{fault}; mending it, the world goes on where it was")
        while True:
            try:
                await self.groups.mend(fault)
                rewound = self.groups.rewind(self._timeline.commit)
                await self.groups.unless_lost(rewound.hold(FIRST_STEP_SECONDS))
                break
            except Fault as another:
                self._faults.again(another)
                fault = another
        self._stand(rewound)
        again, self._timeline.under_way = self._timeline.under_way, deque()
        for step in again if self._steering.wanted is None else ():
            self._ask(self.groups.step(step.order, step.prompt, time.monotonic()))
        seconds = time.monotonic() - began
        self._say("playing", 100, f"the world goes on after {seconds:.1f} s")
