"""The live session: paces the DiT group, hands its latents to the VAE group, and mends both when
they break.

One latent's way: label sampled -> every DiT rank's ``step`` -> rank 0's chunk, as a reference, into
every VAE worker's ``decode`` -> slices joined here. Nothing but labels goes out of this process and
nothing but frames comes in.

What makes a fault harmless: noise is a function of (seed, latent index), every step names the
latent that it makes, and the world's state is kept with every chunk that was handed on. A broken
gang is replaced, both groups are set back to that state, and the steps that were under way are
asked for again with the labels they had.
"""

import asyncio
import math
import statistics
import time
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import numpy as np

from actors.cluster import Cluster, Layout
from actors.dit import DitWorker
from actors.gang import TEXT_SHARE, Gang
from actors.records import Weights
from actors.source import FrameChunk, Pace, StageReport, Take, WorldInfo
from actors.steps import Commit, Fault, Prompt, Step, gathered, is_done, line, watched
from actors.text import TextWorker
from actors.vae import VaeWorker
from configs.errors import UserError

STEPS_AHEAD: Final = 2  # of the latent on the screen
# latents whose decoding again rebuilds any decoder's memory (the full one reaches back about 45)
REPLAY: Final = 64
STALL_FLOOR: Final = 10.0
STALL_FACTOR: Final = 5.0
FIRST_STEP_SECONDS: Final = (
    600.0  # nothing is known yet: the published model needs minutes for a step on a CPU
)
FAULTS: Final = 3
FAULT_SECONDS: Final = 60.0


class Session:
    """A ChunkSource (actors/source.py) over Ray. ``address`` joins a cluster that exists, else it
    starts its own."""

    def __init__(
        self, info: WorldInfo, weights: Weights, layout: Layout, address: str | None = None
    ) -> None:
        self.info = info
        self.epoch = 0
        self._weights, self._layout, self._address = weights, layout, address
        self._name = uuid.uuid4().hex
        self._cluster: Cluster | None = None
        self._begun = time.monotonic()
        self._report: Callable[[StageReport], None] = lambda report: None
        self._held, self._cursor = "D", 0
        self._pace = Pace(0, math.inf, -1)
        self._seed = 0
        self._prompt = Prompt("", 0, None)
        self._world_prompt = self._prompt  # what the DiT group was told last
        self._commit = Commit(0, self._prompt)
        self._rewound: asyncio.Future[list[Any]] | None = None  # both groups stand at the commit
        self._take: Take | None = None
        self._reset_wanted: tuple[int, Take | None] | None = None
        self._known: dict[str, Any] = {}
        self._under_way: deque[Step] = deque()
        self._history: deque[Any] = deque(maxlen=REPLAY)
        self._carried: list[
            tuple[Step, tuple[str, ...]]
        ] = []  # latents whose frames come with a later one's
        self._next_index = 0
        self._next_frame = 0
        self._durations: deque[float] = deque(maxlen=64)
        self._faults: deque[float] = deque()
        self._changed = asyncio.Event()
        self._asked = asyncio.Event()
        self._chunks: asyncio.Queue[FrameChunk | BaseException] = asyncio.Queue()
        self._work: asyncio.Task[None] | None = None
        self._gangs: tuple[Gang, ...] = ()
        self._peaks: dict[str, float] = {}

    # -- ChunkSource -------------------------------------------------------------------------------

    async def start(self, seed: int, prompt: str, report: Callable[[StageReport], None]) -> None:
        """See ChunkSource. UserError: the cluster cannot be joined or has no room; weights that do
        not load."""
        self._report, self._begun, self._seed = report, time.monotonic(), seed
        self._say("cluster", 5, f"joining {self._address}" if self._address else "starting Ray")
        self._cluster = await (
            Cluster.attach(self._address) if self._address else Cluster.start(self._layout)
        )
        self._layout = self._cluster.fit(self._layout)
        where = f"Ray at {self._cluster.address}" + (
            f", token in {self._cluster.token}" if self._cluster.own else ""
        )
        self._say("places", 30, f"{where}; reserving {self._layout}")
        await self._cluster.reserve(self._layout)
        self._say("models", 35, f"loading {self.info.name}: {self._layout}")
        self._make_gangs(self._cluster)
        await self._start_gangs()
        self._say("prompt", 90, "reading the prompt")
        self._prompt = Prompt(prompt, 0, await self._encode(prompt))
        self._say("first frame", 95, "dreaming the first frame")
        self._begin()
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
        self._held, self._cursor = label, cursor

    async def set_prompt(self, text: str, version: int) -> None:
        """See ChunkSource."""
        self._prompt = Prompt(text, version, await self._encode(text))

    def reset(self, seed: int, take: Take | None = None) -> int:
        """See ChunkSource."""
        self.epoch += 1
        self._reset_wanted = (seed, take)
        self._pace = Pace(0, math.inf, -1)
        self._changed.set()
        return self.epoch

    def pace(self, pace: Pace) -> None:
        """See ChunkSource."""
        self._pace = pace
        self._changed.set()

    async def close(self) -> None:
        """See ChunkSource."""
        work, self._work = self._work, None
        if work is not None:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
        cluster, self._cluster = self._cluster, None
        if cluster is not None:
            self._note_memory()
            if not cluster.own:
                await asyncio.gather(*(gang.end() for gang in self._gangs), return_exceptions=True)
            await cluster.close()

    @property
    def pids(self) -> dict[str, int]:
        """Process ids of the workers on this host, by name."""
        return {name: pid for gang in self._gangs for name, pid in gang.pids.items()}

    @property
    def nodes(self) -> list[str]:
        """Ray's names of the nodes that the workers are on."""
        return [node for gang in self._gangs for node in gang.nodes]

    @property
    def peak_memory(self) -> dict[str, float]:
        """The most resident memory of each worker on this host so far, MB; also after ``close``."""
        self._note_memory()
        return dict(self._peaks)

    def _note_memory(self) -> None:
        for gang in self._gangs:
            for name, megabytes in gang.peak_memory().items():
                self._peaks[name] = max(megabytes, self._peaks.get(name, 0.0))

    # -- starting ----------------------------------------------------------------------------------

    def _make_gangs(self, cluster: Cluster) -> None:
        dit, vae = self._layout.dit, self._layout.vae
        self._text = Gang(
            "text", TextWorker, self._weights, cluster, [self._layout.text], TEXT_SHARE
        )
        self._dit = Gang("dit", DitWorker, self._weights, cluster, range(dit))
        self._vae = Gang("vae", VaeWorker, self._weights, cluster, range(dit, dit + vae))
        self._gangs = (self._text, self._dit, self._vae)

    async def _start_gangs(self) -> None:
        """Start those that are not alive, all at once."""
        assert self._cluster is not None
        starts = {
            asyncio.create_task(self._start_gang(gang)) for gang in self._gangs if not gang.alive
        }
        fresh = self._cluster.own and len(starts) == len(self._gangs)
        try:
            if fresh:  # the check takes a second of a core: not while all of them load
                await asyncio.wait(starts, return_when=asyncio.FIRST_COMPLETED)
                starts.add(asyncio.create_task(self._check_strangers(self._cluster)))
            await asyncio.gather(*starts)
        finally:
            for task in starts:
                task.cancel()

    async def _start_gang(self, gang: Gang) -> None:
        await gang.start()
        loaded = sum(gang.alive for gang in self._gangs)
        self._say("models", 35 + 50 * loaded / len(self._gangs), f"{gang.name} ready")

    async def _check_strangers(self, cluster: Cluster) -> None:
        if not await cluster.refuses_strangers():
            raise RuntimeError(
                "the Ray head let a connection without our token in, or did not answer: not safe"
            )

    # -- the life of the stream --------------------------------------------------------------------

    async def _run(self) -> None:
        """Serve until a fault that cannot be mended, which ``next`` then raises."""
        assert self._cluster is not None
        ended = asyncio.create_task(self._cluster.ended())
        serving = asyncio.create_task(self._serve_for_ever())
        try:
            await asyncio.wait({ended, serving}, return_when=asyncio.FIRST_COMPLETED)
            error = serving.exception() if serving.done() else RuntimeError(ended.result())
            self._chunks.put_nowait(error or RuntimeError("the session ended"))
        finally:
            ended.cancel()
            serving.cancel()
            await asyncio.gather(ended, serving, return_exceptions=True)

    async def _serve_for_ever(self) -> None:
        fault: Fault | None = None
        while True:
            try:
                if fault is not None:
                    await self._mend(fault)
                    fault = None
                await self._serve()
            except Fault as broken:
                fault = broken

    async def _serve(self) -> None:
        """Start and collect steps until one of them breaks."""
        tasks = [asyncio.create_task(self._start_steps()), asyncio.create_task(self._collect())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _start_steps(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            if self._reset_wanted is not None:
                await self._apply_reset()
            wait = self._wait()
            if wait is not None and wait <= 0:
                self._start_step()
                continue
            self._changed.clear()
            alarm = loop.call_later(wait, self._changed.set) if wait is not None else None
            await self._changed.wait()
            if alarm is not None:
                alarm.cancel()

    def _wait(self) -> float | None:
        """Seconds until the next step may start; None = not before something changes."""
        window = self.info.latents_per_step
        busy = bool(self._under_way) and not is_done(self._under_way[-1].replies)
        ahead = self._next_index > self._pace.shown + STEPS_AHEAD * window
        if busy or ahead or len(self._under_way) >= STEPS_AHEAD or math.isinf(self._pace.start):
            return None
        later = (self._next_index - self._pace.index) * self.info.latent_seconds
        return self._pace.start + later - time.monotonic()

    def _start_step(self) -> None:
        """Sample the label, now, and ask every rank for the next step."""
        labels, text = (self._held,) * self.info.latents_per_step, self._prompt
        if self._take is not None and self._next_index < len(self._take.labels):
            stop = self._next_index + self.info.latents_per_step
            scripted = self._take.labels[self._next_index : stop]
            labels = scripted + labels[len(scripted) :]
            text = self._scripted_prompt(self._take.prompts[self._next_index])
        step = Step(self.epoch, self._next_index, labels, self._cursor, text, time.monotonic())
        self._next_index += self.info.latents_per_step
        self._ask(step)

    def _scripted_prompt(self, text: str) -> Prompt:
        if text != self._prompt.text:
            self._prompt = Prompt(text, self._prompt.version, self._known[text])
        return self._prompt

    def _ask(self, step: Step) -> None:
        """Send a step on its way through both groups."""
        first: list[Any] = []
        if step.prompt is not self._world_prompt:
            first = self._dit.ask("set_prompt", step.prompt.embedding)
            self._world_prompt = step.prompt
        order = (self._name, step.epoch, step.index, step.labels, step.cursor, step.prompt.version)
        replies = self._dit.ask("step", *order, returns=3)
        step.chunk, step.state, _ = replies[0]
        step.replies = gathered([reply[2] for reply in replies] + first)
        step.replies.add_done_callback(lambda _: self._changed.set())
        decoded = self._vae.ask("decode", step.chunk, returns=2)
        step.slices, step.memories = tuple(zip(*decoded, strict=True))
        self._under_way.append(step)
        self._asked.set()

    async def _collect(self) -> None:
        """Take what comes back, in order, and hand it on."""
        while True:
            if not self._under_way or self._reset_wanted is not None:
                self._asked.clear()
                await self._asked.wait()
            step = self._under_way[0]
            particulars, slices = await self._outcome(step)
            if (
                not self._under_way
                or self._under_way[0] is not step
                or self._reset_wanted is not None
            ):
                continue  # a reset overtook it
            self._under_way.popleft()
            self._durations.append(time.monotonic() - step.sampled)
            self._history.append(step.chunk)
            following = step.index + self.info.latents_per_step
            self._commit = Commit(following, step.prompt, step.state, step.memories)
            chunk = self._assemble(step, particulars, slices)
            if chunk is not None:
                self._chunks.put_nowait(chunk)
            self._changed.set()

    async def _outcome(self, step: Step) -> tuple[dict[str, Any], list[FrameChunk]]:
        """A step's particulars and slices. Raises Fault for the gang that broke or stands still."""
        limit = FIRST_STEP_SECONDS
        if self._durations:
            limit = max(STALL_FLOOR, STALL_FACTOR * statistics.median(self._durations))
        assert step.replies is not None and self._rewound is not None
        await watched(self._dit, self._rewound, limit)
        replies = await watched(self._dit, step.replies, limit)
        slices = await watched(self._vae, gathered(step.slices), limit)
        return replies[0], slices

    def _assemble(
        self, step: Step, particulars: dict[str, Any], slices: list[FrameChunk]
    ) -> FrameChunk | None:
        """Join the slices. None if the decoder waits for another latent: its labels then come with
        the next frames."""
        self._carried.append((step, particulars["labels"]))
        frames = (
            slices[0].frames
            if len(slices) == 1
            else np.concatenate([part.frames for part in slices], axis=2)
        )
        if not len(frames):
            return None
        carried, self._carried = self._carried, []
        first_frame, self._next_frame = self._next_frame, self._next_frame + len(frames)
        made = {name: when + self._dit.clock_offset for name, when in particulars["stamps"].items()}
        decoded = {
            "decode_start": min(part.stamps["decode_start"] for part in slices)
            + self._vae.clock_offset,
            "decode_end": max(part.stamps["decode_end"] for part in slices)
            + self._vae.clock_offset,
        }
        return FrameChunk(
            session=self._name,
            epoch=step.epoch,
            index=carried[0][0].index,
            first_frame=first_frame,
            frames=frames,
            labels=tuple(label for _, labels in carried for label in labels),
            cursor=particulars["cursor"],
            prompt_version=step.prompt.version,
            prompt=step.prompt.text,
            steered=tuple(label for earlier, _ in carried for label in earlier.labels),
            stamps={"sampled": step.sampled, **made, **decoded, "arrived": time.monotonic()},
        )

    # -- reset and repair --------------------------------------------------------------------------

    async def _apply_reset(self) -> None:
        """Begin the stream that was asked for; what is under way is forgotten."""
        wanted = self._reset_wanted
        assert wanted is not None
        seed, take = wanted
        texts = dict.fromkeys(take.prompts if take else ())
        self._known = {text: await self._encode(text) for text in texts}
        if self._reset_wanted is not wanted:
            return  # another one came meanwhile
        self._reset_wanted, self._seed, self._take = None, seed, take
        if take is not None:
            self._scripted_prompt(take.prompts[0])
        self._begin()

    def _begin(self) -> None:
        """Latent 0 of the current seed and prompt, on both groups."""
        self._under_way.clear()
        self._history.clear()
        self._carried.clear()
        self._next_index = self._next_frame = 0
        self._commit = Commit(0, self._prompt)
        self._rewound = gathered(self._rewind())

    def _rewind(self) -> list[Any]:
        """Set both groups to the newest commit; returns their replies."""
        commit, vae = self._commit, self._vae
        self._world_prompt = commit.prompt
        if commit.state is None:
            prompt = commit.prompt
            return self._dit.ask("reset", self._seed, prompt.text, prompt.embedding) + vae.ask(
                "reset"
            )
        memories = [(commit.index, memory, *self._history) for memory in commit.memories]
        return self._dit.ask("restore", commit.state) + vae.ask_each("restore", *memories)

    async def _mend(self, fault: Fault) -> None:
        """Replace the broken gang, go back to the newest commit, and ask again for what was under
        way."""
        now = time.monotonic()
        self._faults.append(now)
        while self._faults[0] < now - FAULT_SECONDS:
            self._faults.popleft()
        if len(self._faults) >= FAULTS:
            raise RuntimeError(
                f"{FAULTS} failures within {FAULT_SECONDS:.0f} s, the last one: {fault}"
            ) from fault
        self.epoch += 1
        self._say("rebuilding", None, f"{fault}; replacing it, the world goes on where it was")
        again = list(self._under_way)
        self._under_way.clear()
        self._note_memory()
        await fault.gang.end()
        try:
            await self._start_gangs()
            self._rewound = gathered(self._rewind())
            await watched(fault.gang, self._rewound, FIRST_STEP_SECONDS)
        except Fault:
            raise
        except Exception as error:
            raise Fault(fault.gang, line(error)) from error
        if self._reset_wanted is None:
            for step in again:
                self._ask(replace(step, epoch=self.epoch, sampled=time.monotonic()))
        self._say(
            "playing", 100, f"{fault.gang.name} replaced after {time.monotonic() - now:.1f} s"
        )

    async def _encode(self, text: str) -> Any:
        """The reference to a prompt's embedding; a broken text worker is replaced once."""
        for attempt in (1, 2):
            try:
                if not self._text.alive:
                    await self._text.start()
                embedding, notice = self._text.ask("encode", text, returns=2)[0]
                said = await notice
            except UserError:
                raise
            except Exception as error:
                await self._text.end()
                if attempt == 2:
                    raise RuntimeError(f"the text worker failed twice: {line(error)}") from error
                continue
            if said:
                self._say("prompt", None, said)
            return embedding
        raise AssertionError

    def _say(self, stage: str, percent: float | None, message: str) -> None:
        self._report(StageReport(stage, percent, message, round(time.monotonic() - self._begun, 2)))
