"""Every record that crosses a process border: frozen, plain data, no Ray.

Arrays are CPU numpy (bfloat16 travels as int16 bit patterns). ``stamps`` maps a stage name to
seconds on the monotonic clock of the host that wrote it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Weights:
    """Which weights the workers open; the same words as ``Checkpoint.open``."""

    path: Path
    base: Path | None = None
    vae: tuple[str, Path] | None = None
    lora: Path | None = None


@dataclass(frozen=True)
class Identity:
    """A worker's process id, host and Ray node, and its monotonic clock when asked."""

    pid: int
    host: str
    node: str
    clock: float


@dataclass(frozen=True)
class ControlEvent:
    """A held label as it came from a person or a script. ``cursor`` counts events of one epoch from
    1."""

    cursor: int
    label: str
    source: str
    received: float


@dataclass(frozen=True)
class LatentChunk:
    """Latents of one outer step: [W, C, h, w], scaled. ``index`` is the first latent's index since
    the reset.

    ``labels`` condition these latents; ``steered`` are the labels this step was given, which
    reproduce the drive: they differ when a label takes several steps to reach the latent that
    leaves the window (late_labels < noise_groups)."""

    session: str
    epoch: int
    index: int
    latents: np.ndarray
    bfloat16: bool
    labels: tuple[str, ...]
    cursor: int
    prompt_version: int
    steered: tuple[str, ...] = ()
    stamps: Mapping[str, float] = field(default_factory=dict)


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
