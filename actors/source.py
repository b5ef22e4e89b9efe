"""Where frames come from: the contract between a show and what makes its frames, and its records."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np


@dataclass(frozen=True)
class FrameChunk:
    """Frames uint8 [n, H, W, 3] of latents index .. index + len(labels) - 1 (or one worker's slice
    of their width).

    ``first_frame`` is the index of frames[0] since the reset; ``cursor`` the newest control
    conditioned into them; ``labels`` and ``steered`` as in LatentChunk. Times in ``stamps`` of a
    full-width chunk: received (of the control), sampled, step_start, step_end, decode_start,
    decode_end, arrived.
    """

    session: str
    epoch: int
    index: int
    first_frame: int
    frames: np.ndarray
    labels: tuple[str, ...]
    cursor: int
    prompt_version: int
    prompt: str = ""
    steered: tuple[str, ...] = ()
    stamps: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class StageReport:
    """Progress of starting up or a notice: stage name, percent (None = unknown), one line, seconds
    since start."""

    stage: str
    percent: float | None
    message: str
    seconds: float


@dataclass(frozen=True)
class WorldInfo:
    """What a source of chunks shows, known before it starts. Sizes in pixels; ``presets`` are
    prompts it knows."""

    name: str
    model_hash: str
    height: int
    width: int
    presets: tuple[str, ...] = ()
    fps: int = 16
    frames_per_latent: int = 4
    latents_per_step: int = 1
    devices: str = ""

    @property
    def latent_seconds(self) -> float:
        """Shown seconds of one latent (0.25 at 16 FPS)."""
        return self.frames_per_latent / self.fps


@dataclass(frozen=True)
class Pace:
    """When steps may start: latent ``index`` at ``start``, each later one ``latent_seconds`` after
    the one before.

    ``start`` is on the monotonic clock (0 = at once, infinity = paused). ``shown`` is the newest
    latent of this epoch that reached the screen (-1 = none): a source never runs more than two
    steps ahead of it.
    """

    index: int
    start: float
    shown: int


@dataclass(frozen=True)
class Take:
    """A drive to reproduce: one seed, and for every latent its label and the prompt in force."""

    seed: int
    labels: tuple[str, ...]
    prompts: tuple[str, ...]

    def __post_init__(self) -> None:
        assert len(self.labels) == len(self.prompts), "one prompt per label"


class ChunkSource(Protocol):
    """Where frames come from. All methods are called on one event loop; only the ``async`` ones
    take time.

    Chunks come in order: within an epoch ``index`` and ``first_frame`` follow on without gap or
    repeat. ``epoch`` rises at ``reset`` (index starts again at 0) and at a rebuild after a fault
    (index goes on).
    """

    info: WorldInfo

    async def start(self, seed: int, prompt: str, report: Callable[[StageReport], None]) -> None:
        """Load everything and begin with ``seed`` and ``prompt``. Reports stages from the first
        moment on, and later notices (a rebuild after a fault). Raises UserError when it cannot."""
        ...

    async def next(self) -> FrameChunk:
        """The next chunk, full width, at least one frame. ``stamps`` as ShownFrame lists them.
        Raises RuntimeError with one line when the source is beyond repair."""
        ...

    def hold(self, label: str, cursor: int) -> None:
        """The label held from now on; read when the next step starts, the latest wins."""
        ...

    async def set_prompt(self, text: str, version: int) -> None:
        """Encode off the hot path; returns once the prompt waits for the next step. Raises
        UserError."""
        ...

    def reset(self, seed: int, take: Take | None = None) -> int:
        """Begin again at latent 0; return the new epoch at once, its chunks follow. With ``take``
        its labels and prompts are followed for as many latents as it has (and ``seed`` is the
        take's), then the held label counts."""
        ...

    def pace(self, pace: Pace) -> None:
        """When the next steps may start."""
        ...

    async def close(self) -> None:
        """End everything it started. Idempotent; also right in the middle of ``start``."""
        ...
