"""The live session: one world of a fleet, as a show sees it. Paces its steps, hands frames on, and
begins streams anew.

One latent's way: label sampled -> every DiT rank's ``step`` -> rank 0's chunk, as a reference, into
every VAE worker's ``decode`` -> slices joined here. Nothing but labels goes out of this process and
nothing but frames comes in.
"""

import asyncio
import time
from collections import deque
from collections.abc import Coroutine, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from actors.fleet import Fleet
from actors.moments import load, save
from actors.owned import owned
from actors.repair import Fault, Flow, watched
from actors.replica import Replica, Rewound
from actors.source import STEPS_AHEAD, FrameChunk, Moment, Pace, Report, Reporter, Take
from actors.steering import Reset, Steering, route_of
from actors.tasks import cancel
from actors.timeline import Commit, Prompt, Route, Step, Timeline
from configs.errors import UserError


class Session:
    """A ChunkSource (actors/source.py): a world of its own, on a replica that others may share."""

    def __init__(self, fleet: Fleet) -> None:
        self.info = fleet.info
        self.say = Reporter()
        self._fleet = fleet
        self._number, self._replica = -1, Replica()
        nothing = Prompt("", 0, np.zeros((1, 0, 0), np.float32))
        self._steering = Steering(nothing)
        self._timeline = Timeline(self.info.latents_per_step, Route(Commit(0, 0, nothing)))
        self._rewound = Rewound(())
        self.resting = False
        self._flow = Flow()
        self._changed = asyncio.Event()  # a step may start
        self._asked = asyncio.Event()  # a step was asked for
        self._chunks: asyncio.Queue[FrameChunk | BaseException] = asyncio.Queue()
        self._reading: asyncio.Task[None] | None = None

    # -- ChunkSource -------------------------------------------------------------------------------

    async def start(
        self,
        seed: int,
        prompt: str,
        report: Report,
        moment: Moment | None = None,
    ) -> None:
        """See ChunkSource. UserError: the cluster cannot be joined or has no room; weights that do
        not load."""
        self.say.to(report)
        self._number, self._replica = await self._fleet.enter(self)
        if moment is None:
            self.say("prompt", 90, "reading the prompt")
            embedding = await self._fleet.prompts.read(prompt, self.say.tell)
            self._steering.prompt = Prompt(prompt, 0, embedding)
        if self._steering.wanted is None:  # nobody asked for another one meanwhile
            self._steering.wanted = Reset(seed) if moment is None else _to(moment)
        self.say("first frame", 95, "dreaming the first frame")
        self._fleet.serve(self._number)

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
        embedding = await self._fleet.prompts.read(text, self.say.tell)
        self._steering.prompt = Prompt(text, version, embedding)

    def reset(self, seed: int, take: Take | None = None) -> int:
        """See ChunkSource. The newest wins: one that has not begun is forgotten."""
        if take is None:
            return self._want(Reset(seed))
        return self.resume(take)

    def resume(self, take: Take, commits: Sequence[Commit] = ()) -> int:
        """As ``reset`` with a take, from the last of some commits of its stream on: what is before
        that is not made again. To the earlier ones one can go back."""
        epoch = self._want(Reset(take.seed, ready=False))
        self._reading = asyncio.create_task(self._read(take, commits))
        return epoch

    def recall(self, commits: Sequence[Commit]) -> None:
        """Moments of this stream, in order, to which one can go back again."""
        self._timeline.recall(commits)

    def kept(self) -> Sequence[int]:
        """See ChunkSource."""
        return self._timeline.kept

    def moment(self, latent: int) -> Moment:
        """See ChunkSource."""
        return self._timeline.moment(latent)

    def open(self, moment: Moment) -> int:
        """See ChunkSource."""
        return self._want(_to(moment))

    async def save(self, moment: Moment, take: Take, path: Path) -> None:
        """See ChunkSource."""
        route, engine = _route(moment), self.info.engine
        commit = await self._fleet.reach(self._replica, route) if route.way else route.commit
        checkpoint = await self._fleet.checkpoint()
        await asyncio.to_thread(save, commit, moment, take, path, checkpoint, engine)

    async def load(self, path: Path) -> tuple[Moment, Take]:
        """See ChunkSource."""
        return await asyncio.to_thread(load, path, await self._fleet.checkpoint())

    def pace(self, pace: Pace) -> None:
        """See ChunkSource."""
        if pace.paused or self._steering.pace.paused:
            self._flow.moved()
        self._steering.pace = pace
        self._changed.set()

    def rest(self) -> None:
        """Give the workers' memory back, and the moments that were kept (`recall` takes such), until
        the pace allows a step again. For a paused stream; what is under way is thrown away and made again then."""
        self._timeline.under_way.clear()
        self._timeline.next_index = self._timeline.commit.index
        self._timeline.rest()
        self.resting = True
        self._replica.forget(self._number)
        self._stand(Rewound(()))

    async def close(self) -> None:
        """See ChunkSource."""
        reading, self._reading = self._reading, None
        await cancel(*filter(None, [reading]))
        await self._fleet.leave(self._number)

    # -- served by the fleet -----------------------------------------------------------------------

    def loops(self) -> Sequence[Coroutine[Any, Any, None]]:
        """See Served."""
        return self._start_steps(), self._collect(), self._flow.watch(self._should_move)

    async def _start_steps(self) -> None:
        """Begin what was asked for, and start steps when the pace allows."""
        loop = asyncio.get_running_loop()
        while True:
            self._changed.clear()  # before looking: what changes from here on wakes us again
            wanted = self._steering.wanted
            if wanted is not None and wanted.ready and self._rewound.done:
                self._start_stream(wanted)
            wait = self._wait()
            if wait is not None and wait <= 0:
                await self._start_step(time.monotonic() + max(wait, -self.info.latent_seconds))
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

    async def _start_step(self, deadline: float) -> None:
        """Wait for a turn; then sample the label, and ask every rank for the next step."""
        asked, turns = time.monotonic(), self._replica.turns
        await turns.take(deadline)
        wait = self._wait()
        if wait is None or wait > 0:  # something changed meanwhile
            turns.leave()
            return
        if self.resting:
            self.resting = False
            self._stand(self._replica.rewind(self._number, self._timeline.commit))
        timeline = self._timeline
        order, prompt = self._steering.next_step(timeline.next_index, timeline.window)
        timeline.next_index += timeline.window
        self._ask(self._replica.step_in_turn(self._number, order, prompt, asked))

    def _ask(self, step: Step) -> None:
        step.replies.add_done_callback(lambda _: self._changed.set())
        self._timeline.under_way.append(step)
        self._flow.moved()
        self._asked.set()

    async def _collect(self) -> None:
        """Take what comes back, in order, and hand it on."""
        replica = self._replica
        while True:
            rewound = self._rewound
            await rewound.hold(self._flow.limit)
            self._changed.set()
            step = await self._oldest(rewound)
            if step is None:
                continue
            replies = await watched(replica.dit, step.replies, self._flow.limit)
            slices = await watched(replica.vae, step.slices, self._flow.limit)
            chunk = owned(await step.chunk)
            if self._rewound is not rewound or self._steering.wanted is not None:
                continue  # a reset overtook it
            self._flow.took(time.monotonic() - step.sampled)
            self._flow.moved()
            self._fleet.took(replica, replies, slices)
            self._timeline.done(step, chunk, replies[0], slices)
            joined = self._timeline.joined(slices, replica.offsets)
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

    def _should_move(self) -> bool:
        """Nobody paused it, and the next step's time has come."""
        wanted, wait = self._steering.wanted, self._wait()
        if wanted is not None:
            return wanted.ready
        return not self._steering.pace.paused and wait is not None and wait <= 0

    # -- reset and repair --------------------------------------------------------------------------

    def _want(self, reset: Reset) -> int:
        self._timeline.epoch += 1
        self._steering.pace = Pace.standing()
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None
        self._steering.wanted = reset
        self._changed.set()
        return self._timeline.epoch

    async def _read(self, take: Take, commits: Sequence[Commit]) -> None:
        """Read the prompts of a drive that is to be followed; then it can begin."""
        prompts = take.prompts[commits[0].index if commits else 0 :]
        embeddings: dict[str, np.ndarray] = {}
        try:
            embeddings = await self._fleet.prompts.read_all(prompts, self.say.tell)
        except UserError as error:
            self.say.tell("drive", f"a prompt of this drive cannot be read: {error}")
        except RuntimeError as error:
            self.fail(error)
        route = route_of(take, embeddings, self._steering.prompt, commits)
        self._steering.wanted = Reset(take.seed, route, take.first)
        self._changed.set()

    def _start_stream(self, reset: Reset) -> None:
        """A stream begins, on both groups; what is under way is forgotten."""
        self._steering.wanted = None
        self.resting = False
        route = reset.route_under(self._steering.prompt)
        route = replace(route, commit=route.commit.uncounted())
        self._steering.follow(route)
        window, epoch = self.info.latents_per_step, self._timeline.epoch
        self._timeline = Timeline(window, route, epoch, reset.first)
        self._stand(self._replica.rewind(self._number, route.commit))

    def _stand(self, rewound: Rewound) -> None:
        self._rewound = rewound
        self._flow.moved()
        self._asked.set()

    def broke(self, fault: Fault) -> None:
        """See Served. The steps under way are kept until both groups stand at the commit."""
        self._timeline.epoch += 1
        self.say("rebuilding", None, f"{fault}; mending it, the world goes on where it was")

    def rewind(self) -> Rewound:
        """See Served. A stream that is still to begin, or rests, has nothing to go back to."""
        if self.resting or self._steering.wanted is not None:
            rewound = Rewound(())
        else:
            rewound = self._replica.rewind(self._number, self._timeline.commit)
        self._stand(rewound)
        return rewound

    def go_on(self, seconds: float) -> None:
        """See Served."""
        again, self._timeline.under_way = self._timeline.under_way, deque()
        for step in again if self._steering.wanted is None else ():
            self._ask(self._replica.step(self._number, step.order, step.prompt, time.monotonic()))
        self.say("playing", 100, f"the world goes on after {seconds:.1f} s")

    def fail(self, error: BaseException) -> None:
        """See Served."""
        self._chunks.put_nowait(error)


def _to(moment: Moment) -> Reset:
    """By the way that leads to a moment."""
    return Reset(moment.seed, _route(moment), moment.latent)


def _route(moment: Moment) -> Route:
    assert isinstance(moment.state, Route), "a moment of another kind of source"
    return moment.state
