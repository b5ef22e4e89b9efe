"""A world with its decoder: give it a label, get frames; save it, go back, branch.

A snapshot of it is kept every KEPT_EVERY latents. Any moment between two is reached by stepping on
from the earlier one with the labels and prompts there were: noise is a function of seed and latent
(models/noise.py), so the frames are the same, byte for byte on a CPU.
"""

import functools
import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

import numpy as np
import torch
from torch import Tensor

from configs.errors import UserError
from configs.limits import check_prompt, check_seed, quoted, whole_number
from models.device import threads
from models.frames import StreamDecoder, remember
from models.parts import Parts
from models.snapshot import KEPT, KEPT_EVERY, REPLAY, Snapshot, read_snapshot, world_file
from models.world import World

# A decoder's memory up to this size is kept itself, else the latents that rebuild it.
MEMORY_BYTES = 8 << 20

log = logging.getLogger(__name__)
Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def _in_turn(
    method: "Callable[Concatenate[LiveWorld, Arguments], Result]",
) -> "Callable[Concatenate[LiveWorld, Arguments], Result]":
    """What threads that share a world do one after another: its parts never stand at two moments."""

    @functools.wraps(method)
    def waiting(live: "LiveWorld", /, *given: Arguments.args, **named: Arguments.kwargs) -> Result:
        with live._turn:
            return method(live, *given, **named)

    return waiting


class LiveWorld:
    """One world being driven. Make it with `LiveWorld.begin` or `LiveWorld.open`.

    One CPU thread computes, as in a live rank. Weights are shared: by branches, by copies (``copy``
    and ``deepcopy`` are `branch`), by all worlds of the same `Parts`. Threads may share a world:
    what they ask of it is done one after another.
    """

    def __init__(self, parts: Parts, world: World) -> None:
        self.parts, self._world = parts, world
        self._decoder: StreamDecoder = parts.decoder()
        self._frames = np.empty((0, *_pixels(parts, world), 3), np.uint8)
        self._labels: list[str] = []
        self._prompts: list[tuple[int, str]] = []
        self._latents: deque[Tensor] = deque(maxlen=REPLAY)
        self._past: deque[Snapshot] = deque(maxlen=KEPT)
        self._turn = threading.RLock()

    @staticmethod
    def begin(
        parts: Parts,
        prompt: str,
        seed: int = 42,
        *,
        start: Tensor | None = None,
        guidance: float | None = None,
    ) -> "LiveWorld":
        """A new world. start: scaled latents [n, C, h, w] to continue; None = the weights' start
        clip for this prompt. guidance: None = what the weights say. Raises UserError."""
        prompt, seed = check_prompt(prompt), check_seed(seed)
        with threads(1):
            live = LiveWorld(parts, parts.world(guidance=guidance))
            clip = parts.checkpoint.start_latents(prompt) if start is None else start
            live._world.reset(seed, prompt, clip)
        live._prompts.append((0, prompt))
        live._past.append(live.snapshot())
        return live

    @staticmethod
    def open(parts: Parts, source: Path | Snapshot) -> "LiveWorld":
        """Go on from a file or a snapshot of the same weights. Raises UserError with one line for a
        file that does not fit."""
        if isinstance(source, Path):
            snapshot, engine = read_snapshot(source, parts.checkpoint)
            check_memory(parts, snapshot, str(source))
            if engine != parts.engine:
                log.warning(
                    "%s was computed by %s, here %s computes: frames may differ in rounding",
                    source,
                    engine,
                    parts.engine,
                )
        else:
            snapshot = source
        height, width = snapshot.frames.shape[1:3]
        with threads(1):
            world = parts.world(snapshot.settings, snapshot.guidance, height, width)
            live = LiveWorld(parts, world)
            live._restore(snapshot)
        live._past.append(snapshot)
        return live

    @property
    def index(self) -> int:
        """Latents since the reset; one is 0.25 s."""
        return self._world.index

    @property
    def prompt(self) -> str:
        """The text in force."""
        return self._prompts[-1][1]

    @property
    def labels(self) -> tuple[str, ...]:
        """All labels since the reset, one a latent."""
        return tuple(self._labels)

    @property
    def frames(self) -> np.ndarray:
        """What the last step showed: uint8 [n, H, W, 3]."""
        return self._frames.copy()

    @property
    def rewindable(self) -> int:
        """Latents one can go back now: at least those of the last minute, or of all there was since
        the world began or was opened."""
        return self.index - self._past[0].index

    @_in_turn
    def step(self, label: str | Sequence[str]) -> np.ndarray:
        """Drive on by one step, W latents: frames uint8 [4 W, H, W, 3].

        label: one, held for the whole step, or W of them. The full decoder shows nothing at the
        very first latent and eight frames at the second. Raises UserError for an unknown label."""
        self._make(label)
        if self.index - self._past[-1].index >= KEPT_EVERY:
            self._past.append(self.snapshot())
        return self.frames

    @_in_turn
    def set_prompt(self, prompt: str) -> None:
        """Change the text that the world follows from the next step on. Raises UserError."""
        prompt = check_prompt(prompt)
        with threads(1):
            self._world.set_prompt(prompt)
        self._prompts.append((self.index, prompt))

    @_in_turn
    def snapshot(self) -> Snapshot:
        """This moment, to open later; it never changes."""
        state = self._world.state()
        if self._past and torch.equal(self._past[-1].state.text, state.text):
            # A text takes megabytes at the published size: it is kept once.
            state = replace(state, text=self._past[-1].state.text)
        memory = {
            name: tensor.to("cpu", copy=True) for name, tensor in self._decoder.state().items()
        }
        large = sum(tensor.nbytes for tensor in memory.values()) > MEMORY_BYTES
        whole = len(self._latents) == min(REPLAY, self.index)
        return Snapshot(
            state=state,
            settings=self._world.settings,
            guidance=self._world.guidance,
            labels=tuple(self._labels),
            prompts=tuple(self._prompts),
            frames=self._frames,
            memory={} if large and whole else memory,
            latents=tuple(self._latents) if whole else (),
        )

    @_in_turn
    def restore(self, snapshot: Snapshot) -> None:
        """Be where a snapshot of this or another world of the same weights was taken; what was
        before it here is forgotten. Raises UserError for another kind of world."""
        if not isinstance(snapshot, Snapshot):
            raise UserError(f"restore: expected what snapshot() gave, got {quoted(snapshot)}")
        mine = self._world.settings, self._world.guidance, self._frames.shape[1:]
        if mine != (snapshot.settings, snapshot.guidance, snapshot.frames.shape[1:]):
            raise UserError("restore: the snapshot is of a world of other settings or another size")
        self._restore(snapshot)
        self._past.clear()
        self._past.append(snapshot)

    def save(self, path: str | Path, overwrite: bool = False) -> Path:
        """Write this moment to NAME.world; returns its path. Raises UserError for another name or a
        file that exists."""
        path = world_file(path)
        self.snapshot().save(path, self.parts.checkpoint, self.parts.engine, overwrite)
        return path

    @_in_turn
    def rewind(self, latents: int) -> np.ndarray:
        """Go back so many latents and return what was shown there; the future is forgotten.

        latents: a multiple of W, at most ``rewindable``. Raises UserError."""
        whole_number("rewind: latents", latents, 0, self.rewindable)
        if latents % self._world.settings.window_size:
            raise UserError(
                f"rewind: expected a multiple of {self._world.settings.window_size} latents, "
                f"which are one step, got {latents}"
            )
        target = self.index - latents
        labels, prompts = self._labels[:target], [p for p in self._prompts if p[0] <= target]
        while self._past[-1].index > target:
            self._past.pop()
        self._restore(self._past[-1])
        while self.index < target:
            self._follow(prompts)
            self._make(labels[self.index : self.index + self._world.settings.window_size])
        self._follow(prompts)
        return self.frames

    @_in_turn
    def branch(self) -> "LiveWorld":
        """A second world that stands where this one does and has a future of its own."""
        other = LiveWorld(self.parts, self._world.branch())
        other._decoder.load_state({k: v.clone() for k, v in self._decoder.state().items()})
        other._frames = self._frames
        for mine, its in (
            (self._labels, other._labels),
            (self._prompts, other._prompts),
            (self._latents, other._latents),
            (self._past, other._past),
        ):
            its.extend(mine)  # type: ignore[arg-type]
        return other

    def __copy__(self) -> "LiveWorld":
        return self.branch()

    def __deepcopy__(self, memo: dict[int, object]) -> "LiveWorld":
        return self.branch()

    def _make(self, label: str | Sequence[str]) -> None:
        """One step and its frames."""
        window = self._world.settings.window_size
        if not isinstance(label, Sequence):
            raise UserError(f"step: expected a control label such as DL, got {quoted(label)}")
        labels = [label] * window if isinstance(label, str) else list(label)
        with threads(1):
            latents = self._world.step(labels).latents
            self._frames = self._decoder.push(latents)
        self._labels += labels
        self._latents.extend(latents.cpu())

    def _follow(self, prompts: Sequence[tuple[int, str]]) -> None:
        """Take the prompts that came at this latent, in their order."""
        for latent, text in prompts[len(self._prompts) :]:
            if latent == self.index:
                self.set_prompt(text)

    def _restore(self, snapshot: Snapshot) -> None:
        """Be where a snapshot was taken."""
        self._world.load_state(snapshot.state)
        self._decoder = self.parts.decoder()
        if snapshot.latents and not snapshot.memory:
            with threads(1):
                latents = torch.stack(snapshot.latents).to(self.parts.device)
                remember(self._decoder, latents, snapshot.settings.window_size)
        else:
            self._decoder.load_state({k: v.clone() for k, v in snapshot.memory.items()})
        self._frames = snapshot.frames
        self._labels, self._prompts = list(snapshot.labels), list(snapshot.prompts)
        self._latents = deque(snapshot.latents, REPLAY)


def check_memory(parts: Parts, snapshot: Snapshot, name: str) -> None:
    """Raise UserError unless a decoder's memory of such a world is in it: what a decoder keeps is
    seen by letting one decode as many empty latents, two at most."""
    if snapshot.latents and not snapshot.memory:
        return
    decoder, shape = parts.decoder(), snapshot.state.latents.shape[1:]
    for _ in range(min(snapshot.index, 2)):
        decoder.push(torch.zeros(1, *shape, device=parts.device))
    expected = {key: tuple(value.shape) for key, value in decoder.state().items()}
    found = {key: tuple(value.shape) for key, value in snapshot.memory.items()}
    if expected != found:
        raise UserError(f"snapshot {name}: the decoder's memory in it is not of such a world")


def _pixels(parts: Parts, world: World) -> tuple[int, int]:
    """Height and width of the world's frames."""
    _, height, width = world.shape
    unit = parts.checkpoint.pixels_per_latent
    return height * unit, width * unit
