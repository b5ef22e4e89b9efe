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
