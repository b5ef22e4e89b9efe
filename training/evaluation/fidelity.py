"""How far pictures are from the true ones, frame by frame: PSNR, SSIM and a distance of features.

SSIM after Wang et al. (2004), on brightness. Features: energies of oriented gradients in cells on
three scales, normalised (Dalal and Triggs, 2005), which forgive a shift by a pixel and see blur.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from training.simulator import Frame

WINDOW, DEVIATION = 11, 1.5  # of SSIM's Gaussian
LIGHT, CONTRAST = (0.01 * 255) ** 2, (0.03 * 255) ** 2  # SSIM's constants
CELL, ORIENTATIONS, SCALES = 6, 8, 3
LEAST_ENERGY = 2.0  # steps of 255 a pixel, below which a gradient is nothing


class Fidelity(NamedTuple):
    """psnr in dB, ssim up to 1, features: 0 for the same picture, about 1 for unrelated ones."""

    psnr: float
    ssim: float
    features: float


def fidelity(frames: Frame, true: Frame) -> Fidelity:
    """Of frames [n, H, W, 3] against the true ones, mean over frames."""
    error = np.square(frames.astype(np.float32) - true).mean((1, 2, 3))
    made, wanted = _light(frames), _light(true)
    return Fidelity(
        psnr=float(np.mean(10 * np.log10(255**2 / np.maximum(error, 1e-3)))),
        ssim=float(_ssim(made, wanted).mean()),
        features=_feature_distance(made, wanted),
    )


def _light(frames: Frame) -> Tensor:
    """Brightness [n, 1, H, W], 0 to 255."""
    return torch.from_numpy(np.ascontiguousarray(frames)).float().mean(-1)[:, None]


def _ssim(first: Tensor, second: Tensor) -> Tensor:
    """Structural similarity of every pixel."""
    at = torch.arange(WINDOW) - WINDOW // 2
    line = torch.exp(-(at**2) / (2 * DEVIATION**2))
    kernel = (line[:, None] * line[None] / line.sum() ** 2)[None, None]

    def mean(image: Tensor) -> Tensor:
        return F.conv2d(image, kernel)

    a, b = mean(first), mean(second)
    spread_a, spread_b = mean(first**2) - a**2, mean(second**2) - b**2
    together = mean(first * second) - a * b
    return ((2 * a * b + LIGHT) * (2 * together + CONTRAST)) / (
        (a**2 + b**2 + LIGHT) * (spread_a + spread_b + CONTRAST)
    )


def _feature_distance(first: Tensor, second: Tensor) -> float:
    """Distance of the energies over their size, mean over scales."""
    ratios = []
    for _ in range(SCALES):
        a, b = _energies(first), _energies(second)
        size = (a.square().sum(1) + b.square().sum(1)).sqrt().mean((1, 2))
        ratios.append(((a - b).square().sum(1).sqrt().mean((1, 2)) / size).mean())
        first, second = F.avg_pool2d(first, 2), F.avg_pool2d(second, 2)
    return float(torch.stack(ratios).mean())


def _energies(light: Tensor) -> Tensor:
    """Mean strength of gradients by orientation in cells: [n, ORIENTATIONS, H / CELL, W / CELL]."""
    across = light[..., 1:-1, 2:] - light[..., 1:-1, :-2]
    down = light[..., 2:, 1:-1] - light[..., :-2, 1:-1]
    strength = (across**2 + down**2).sqrt()[:, 0]
    turn = torch.atan2(down, across)[:, 0] % math.pi * (ORIENTATIONS / math.pi)
    at = torch.arange(ORIENTATIONS)[:, None, None]
    apart = (turn[:, None] - at).abs()
    share = (1 - torch.minimum(apart, ORIENTATIONS - apart)).clamp(min=0)
    return F.avg_pool2d(share * strength[:, None], CELL) + LEAST_ENERGY / ORIENTATIONS
