"""Softer pictures: what an evaluation must see through."""

import numpy as np
import torch

from training.simulator import Frame


def blurred(frames: Frame, side: int = 3) -> Frame:
    """Frames [n, H, W, 3], the mean of squares of `side` pixels."""
    video = torch.from_numpy(frames).movedim(-1, 1).float()
    soft = torch.nn.functional.avg_pool2d(video, side, 1, side // 2, count_include_pad=False)
    return soft.movedim(1, -1).numpy().astype(np.uint8)
