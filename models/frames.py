"""What both autoencoders share: the contract of a streaming decoder and the step from network
values to pictures."""

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from configs.errors import UserError
from models.parallel import SequenceGroup


class StreamDecoder(Protocol):
    """A decoder with its temporal memory. One stream = one object; both autoencoders make them with
    `stream()`."""

    @property
    def reach(self) -> int:
        """Latents back to which the memory reaches: decoding so many again rebuilds it."""
        ...

    def push(self, latents: Tensor) -> np.ndarray:
        """Decode the next latents of the stream.

        latents: [n, C, h, w], whole width, scaled as the world emits them. Returns uint8 [m, H, W,
        3] RGB; with a group of several workers, W is this worker's slice of the width.
        """

    def state(self) -> dict[str, Tensor]:
        """The temporal memory, enough to go on elsewhere after `load_state`; empty for a fresh
        stream."""

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Go on from `state()` of a decoder with the same weights and the same share of the
        width."""


def remember(stream: StreamDecoder, latents: Tensor, step: int) -> None:
    """Let a fresh stream stand where one stands that has decoded everything up to these latents.

    latents: [n, C, h, w], scaled, all since the stream began or at least the last ``stream.reach``;
    step: how many were decoded at a time, so that not a bit of the memory differs."""
    count = min(len(latents), stream.reach + step - 1)
    for group in latents[len(latents) - count + count % step :].split(step):
        stream.push(group)


def to_uint8(video: Tensor) -> np.ndarray:
    """Video [n, 3, H, W] in [-1, 1] to uint8 [n, H, W, 3]: scaled to 0..255 and truncated
    (docs/reference.md section 7.1)."""
    scaled = video.float().div(2).add_(0.5).clamp_(0, 1).mul_(255)
    return scaled.to(torch.uint8).permute(0, 2, 3, 1).contiguous().cpu().numpy()


def own_columns(group: SequenceGroup, width: int) -> tuple[int, int]:
    """This worker's [start, stop) of the latent columns. Raises UserError when there are more
    workers than columns."""
    if group.size > width:
        raise UserError(
            f"VAE: {group.size} workers cannot share {width} latent columns: at most {width} workers are possible"
        )
    return group.slice_bounds(width)


def resample(frames: np.ndarray, fps: float, target: float) -> np.ndarray:
    """Frames of a faster video at the target rate: frame round(k fps / target) (docs/reference.md
    section 5)."""
    if fps <= target:
        return frames
    places = [round(k * fps / target) for k in range(len(frames))]
    return frames[[place for place in places if place < len(frames)]]
