"""The latents of one stream: which is next, which are under way, where a new group goes on, and the
moments that one can go back to."""

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import InitVar, dataclass, field, replace

import numpy as np

from actors.gang import Reference
from actors.records import LatentChunk, Slice, StepOrder, StepReply
from actors.source import FrameChunk, Moment
from configs.errors import UserError
from models.snapshot import KEPT, KEPT_EVERY, REPLAY
from models.world import WorldState


@dataclass(frozen=True)
class Prompt:
    """A text in force, its version, and its embedding as TextWorker makes it."""

    text: str
    version: int
    embedding: np.ndarray


@dataclass(frozen=True)
class Step:
    """A step under way: what was asked, when (it could have started at ``asked``), and what will
    come of it."""

    order: StepOrder
    prompt: Prompt
    asked: float
    sampled: float
    chunk: Reference[LatentChunk]
    replies: "asyncio.Future[list[StepReply]]"
    slices: "asyncio.Future[list[Slice]]"


@dataclass(frozen=True)
class Commit:
    """Where a new group goes on: before latent ``index``, whose first frame is number ``frame``.
    ``history`` are the chunks before it, which rebuild a decoder's memory. No state: latent 0."""

    index: int
    seed: int
    prompt: Prompt
    state: WorldState | None = None
    history: tuple[LatentChunk, ...] = ()
    frame: int = 0

    def uncounted(self) -> "Commit":
        """The same for a session that counts its controls from anew: none of them is in it."""
        if self.state is None:
            return self
        return replace(self, state=replace(self.state, cursors=(0,) * len(self.state.cursors)))


Steered = tuple[str, Prompt]  # what one latent's step was given


@dataclass(frozen=True)
class Route:
    """How a moment is reached: from ``commit`` on by ``way``. ``past`` are the commits kept before
    it, and ``led`` is what led from the oldest of them to it."""

    commit: Commit
    way: tuple[Steered, ...] = ()
    past: tuple[Commit, ...] = ()
    led: tuple[Steered, ...] = ()


@dataclass(frozen=True)
class Offsets:
    """What to add to the clocks of the two groups to get ours."""

    dit: float
    vae: float


@dataclass
class Timeline:
    """One stream since it began at the commit of ``route``. ``window`` is W, the latents of a step;
    those before ``first`` are not handed on."""

    window: int
    route: InitVar[Route]
    epoch: int = 0
    first: int = 0
    commit: Commit = field(init=False)
    next_index: int = field(init=False)
    under_way: deque[Step] = field(default_factory=deque)
    _history: deque[LatentChunk] = field(init=False)
    _kept: deque[Commit] = field(init=False)
    _steered: deque[Steered] = field(init=False)  # since the oldest kept
    # latents whose frames come with a later one's
    _waiting: list[tuple[Step, StepReply]] = field(default_factory=list)

    def __post_init__(self, route: Route) -> None:
        self.commit = commit = route.commit
        self.next_index = commit.index
        self._history = deque(commit.history, REPLAY)
        self._kept = deque((*route.past, commit), KEPT)
        self._steered = deque(route.led, KEPT * (KEPT_EVERY + self.window))

    def done(self, step: Step, chunk: LatentChunk, reply: StepReply, slices: list[Slice]) -> None:
        """The oldest step under way came back: its chunk, a rank's reply, a slice of each VAE
        worker. Should a group be replaced now, it goes on behind it."""
        assert self.under_way.popleft() is step
        self._history.append(replace(chunk, latents=chunk.latents.copy()))
        self.commit = Commit(
            index=step.order.index + self.window,
            seed=self.commit.seed,
            prompt=step.prompt,
            state=reply.state,
            history=tuple(self._history),
            frame=self.commit.frame + len(slices[0].frames),
        )
        self._steered.extend((label, step.prompt) for label in step.order.labels)
        self._waiting.append((step, reply))
        whole = bool(len(slices[0].frames))  # no latent waits for its frames
        if whole and self.commit.index - self._kept[-1].index >= KEPT_EVERY:
            self._kept.append(self.commit)

    @property
    def kept(self) -> list[int]:
        """Latents before which a commit is kept, the oldest first."""
        return [commit.index for commit in self._kept]

    def moment(self, latent: int) -> Moment:
        """Before a latent since the oldest kept one. Raises UserError."""
        oldest, newest = self._kept[0].index, self.commit.index
        if not oldest <= latent <= newest or latent % self.window:
            steps = f", in steps of {self.window}" if self.window > 1 else ""
            raise UserError(f"rewind: expected a latent from {oldest} to {newest}{steps}")
        *past, commit = (each for each in self._kept if each.index <= latent)
        steered = tuple(self._steered)[-(newest - oldest) :] if newest > oldest else ()
        led, way = steered[: commit.index - oldest], steered[commit.index - oldest :]
        way = way[: latent - commit.index]
        prompt = way[-1][1] if way else commit.prompt
        return Moment(latent, commit.seed, prompt.text, Route(commit, way, tuple(past), led))

    def rest(self) -> None:
        """Keep nothing but where it stands, and what steered it so far."""
        self._kept = deque([self.commit], KEPT)

    def recall(self, commits: Sequence[Commit]) -> None:
        """Keep these of this stream again, in order: as far as they are older than those that are
        kept, and what led on from them is known."""
        known, oldest = self.commit.index - len(self._steered), self._kept[0].index
        older = [commit for commit in commits if known <= commit.index < oldest]
        room = KEPT - len(self._kept)
        self._kept.extendleft(reversed(older[-room:] if room else []))

    def joined(self, slices: list[Slice], offsets: Offsets) -> FrameChunk | None:
        """The slices of the step that was done last, side by side. None if the decoder waits for
        another latent, whose frames its labels then come with, or if nobody is to see them."""
        parts = [part.frames for part in slices]
        frames = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=2)
        if not len(frames):
            return None
        waiting, self._waiting = self._waiting, []
        count = len(waiting)
        waiting = [pair for pair in waiting if pair[0].order.index >= self.first]
        if not waiting:
            return None
        frames = frames[len(frames) * (count - len(waiting)) // count :]
        step, reply = waiting[-1]
        return FrameChunk(
            epoch=self.epoch,
            index=waiting[0][0].order.index,
            first_frame=self.commit.frame - len(frames),
            frames=frames,
            labels=tuple(label for _, made in waiting for label in made.labels),
            cursor=reply.cursor,
            prompt_version=step.prompt.version,
            prompt=step.prompt.text,
            steered=tuple(label for earlier, _ in waiting for label in earlier.order.labels),
            stamps={
                "asked": step.asked,
                "sampled": step.sampled,
                "step_start": reply.started + offsets.dit,
                "step_end": reply.ended + offsets.dit,
                "decode_start": min(part.started for part in slices) + offsets.vae,
                "decode_end": max(part.ended for part in slices) + offsets.vae,
                "arrived": time.monotonic(),
            },
        )
