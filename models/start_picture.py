"""A picture or a video of one's own that a world begins with, as frames of the world's size.

What it shows is cut to the world's shape around its middle and resized; a picture is held still for
as long as a start lasts. Encoding it is `models.offline.clip_latents`.
"""

from pathlib import Path
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F

from configs.errors import UserError
from configs.geometry import FPS, frames_of
from models.frames import resample

SMALLEST: Final = 2  # a picture that has to be enlarged more than so many times is refused


def start_frames(
    frames: np.ndarray, fps: float, path: Path, size: tuple[int, int], latents: int
) -> np.ndarray:
    """The beginning of a video uint8 [n, h, w, 3], or a picture (n = 1), as frames
    [4 (latents - 1) + 1, H, W, 3] of this size (height, width) at 16 a second; the last is held
    where there are too few.

    path: what is named when it is refused. Raises UserError for one that is too small."""
    height, width = size
    least = -(-height // SMALLEST), -(-width // SMALLEST)
    if frames.shape[1] < least[0] or frames.shape[2] < least[1]:
        raise UserError(
            f"start {path}: {frames.shape[2]}x{frames.shape[1]} is too small; expected at least "
            f"{least[1]}x{least[0]}, best {width}x{height}"
        )
    wanted = frames_of(latents)
    frames = fitted(resample(frames, fps, FPS)[:wanted], height, width)
    return np.concatenate([frames, frames[-1:].repeat(wanted - len(frames), 0)])


def fitted(frames: np.ndarray, height: int, width: int) -> np.ndarray:
    """Frames uint8 [n, h, w, 3] cut to the shape of height x width around the middle, and resized."""
    h, w = frames.shape[1:3]
    if (h, w) == (height, width):
        return frames
    rows, columns = min(h, round(w * height / width)), min(w, round(h * width / height))
    top, left = (h - rows) // 2, (w - columns) // 2
    cut = torch.from_numpy(frames[:, top : top + rows, left : left + columns].copy())
    pixels = cut.permute(0, 3, 1, 2).float()
    pixels = F.interpolate(pixels, (height, width), mode="bilinear", antialias=True)
    return pixels.round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()
