"""Every record that crosses a process border: frozen, plain data, no Ray.

Arrays are CPU numpy (bfloat16 travels as int16 bit patterns). Times are seconds on the monotonic
clock of the host that wrote them.
"""

from dataclasses import dataclass

import numpy as np

from models.world import WorldState


@dataclass(frozen=True)
class Identity:
    """A worker's process id, host and Ray node, and its monotonic clock when asked."""

    pid: int
    host: str
    node: str
    clock: float


@dataclass(frozen=True)
class StepOrder:
    """What every DiT rank is told: make the W latents from ``index`` on, conditioned on ``labels``
    (one a latent) and on the text in force. ``cursor`` numbers the newest control among them."""

    index: int
    labels: tuple[str, ...]
    cursor: int = 0


@dataclass(frozen=True)
class LatentChunk:
    """Latents of one outer step: [W, C, h, w], scaled. ``index`` is the first one's index since the
    reset."""

    index: int
    latents: np.ndarray
    bfloat16: bool


@dataclass(frozen=True)
class StepReply:
    """What became of a step, beside its latents. ``labels`` condition them and ``cursor`` is the
    newest control in them: with late_labels < noise_groups a label takes several steps to reach the
    latent that leaves the window. ``state`` is the world after the step (rank 0 only).
    ``processors`` are seconds of the worker's."""

    labels: tuple[str, ...]
    cursor: int
    started: float
    ended: float
    processors: float
    state: WorldState | None

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.ended - self.started


@dataclass(frozen=True)
class Slice:
    """One VAE worker's columns of a chunk's frames: uint8 [n, H, w', 3].
    ``processors`` are seconds of the worker's."""

    frames: np.ndarray
    started: float
    ended: float
    processors: float

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.ended - self.started
