"""Patch distance: whether the small parts of a picture look like the simulator's, wherever they are.

Sliced Wasserstein distance of 7 x 7 patches on the levels of a Laplacian pyramid (Karras et al.,
arXiv 1710.10196, appendix A). What counts is the ratio to the same distance between two places of
the simulator: 1 is as alike as the simulator is to itself.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from training.simulator import Frame

SIDE, LEVELS, PATCHES, DIRECTIONS = 7, 3, 64, 256  # pixels; of the pyramid; a frame; projections
BINOMIAL = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16


def patch_distance(frames: Frame, others: Frame, seed: int = 0) -> float:
    """Of frames [n, H, W, 3] to others [n, H, W, 3], x 1000; 0 for the same frames."""
    first, second = pyramid(frames), pyramid(others)
    distances = []
    for level, (a, b) in enumerate(zip(first, second, strict=True)):
        rng = torch.Generator().manual_seed(seed * LEVELS + level)
        places = _places(a, rng)
        distances.append(_sliced(_patches(a, places), _patches(b, places), rng))
    return 1000 * float(np.mean(distances))


def pyramid(frames: Frame) -> list[Tensor]:
    """Laplacian pyramid, finest first: [n, 3, H, W], then half as large; the last one keeps what is
    left."""
    level = torch.from_numpy(np.ascontiguousarray(frames)).movedim(-1, 1).float() / 127.5 - 1
    levels = []
    for _ in range(LEVELS - 1):
        smaller = _blurred(level)[..., ::2, ::2]
        larger = F.interpolate(smaller, size=level.shape[-2:], mode="bilinear")
        levels.append(level - larger)
        level = smaller
    return [*levels, level]


def _blurred(image: Tensor) -> Tensor:
    kernel = BINOMIAL.expand(3, 1, 1, 5)
    across = F.conv2d(F.pad(image, (2, 2, 0, 0), mode="reflect"), kernel, groups=3)
    return F.conv2d(F.pad(across, (0, 0, 2, 2), mode="reflect"), kernel.mT, groups=3)


def _places(level: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Rows and columns of the upper left corners of PATCHES patches of each frame: [n, PATCHES]."""
    count, _, height, width = level.shape
    rows = torch.randint(height - SIDE + 1, (count, PATCHES), generator=rng)
    return rows, torch.randint(width - SIDE + 1, (count, PATCHES), generator=rng)


def _patches(level: Tensor, places: tuple[Tensor, Tensor]) -> Tensor:
    """[n x PATCHES, 3 x SIDE x SIDE], each channel of all of them with mean 0 and deviation 1."""
    rows, columns = places
    step = torch.arange(SIDE)
    frame = torch.arange(len(level))[:, None, None, None]
    found = level.movedim(1, -1)[
        frame, rows[..., None, None] + step[:, None], columns[..., None, None] + step
    ].flatten(0, 1)
    found = found - found.mean((0, 1, 2))
    return (found / (found.std((0, 1, 2)) + 1e-6)).flatten(1)


def _sliced(first: Tensor, second: Tensor, rng: torch.Generator) -> float:
    """Mean over random directions of the distance between sorted projections."""
    directions = F.normalize(torch.randn(first.shape[1], DIRECTIONS, generator=rng), dim=0)
    projected = [(points @ directions).sort(0).values for points in (first, second)]
    return float((projected[0] - projected[1]).abs().mean())
