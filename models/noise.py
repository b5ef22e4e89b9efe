"""Noise as a pure function of (seed, latent index, draw): the same on any device, rank count or
restart."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from configs.limits import check_seed

FRESH_DRAW = 0  # a latent's start in the window
BASE_DRAW = 1 << 32  # a latent's start in a base clip; beyond all solver draws


class Noise(Protocol):
    """Where a stream's standard normal numbers come from; tests put stored draws here. Latents
    count from reset."""

    def fresh(self, first: int, count: int) -> Tensor:
        """Return the starting noise of latents first .. first + count - 1: [count, C, h, w] fp32 on
        the CPU."""

    def step(self, first: int, draws: Sequence[int], second_order: bool) -> Tensor:
        """Return a solver step's noise [len(draws), C, h, w] of latents first, first + 1, ...

        draws[i] >= 1 numbers the draw among its latent's. second_order: the published solver
        discards one draw in such steps; only stored draws need to know.
        """


class SeededNoise:
    """The noise of every ordinary stream: a Philox generator keyed by seed and latent, its counter
    set by the draw."""

    def __init__(self, seed: int, shape: Sequence[int]) -> None:
        self.seed = check_seed(seed)
        self.shape = tuple(shape)

    def draw(self, latent: int, draw: int) -> Tensor:
        """Return one latent's draw [C, h, w] fp32 on the CPU."""
        generator = np.random.Generator(
            np.random.Philox(key=[self.seed, latent], counter=[0, 0, draw, 0])
        )
        return torch.from_numpy(generator.standard_normal(self.shape, dtype=np.float32))

    def fresh(self, first: int, count: int) -> Tensor:
        return torch.stack(
            [self.draw(latent, FRESH_DRAW) for latent in range(first, first + count)]
        )

    def step(self, first: int, draws: Sequence[int], second_order: bool) -> Tensor:
        return torch.stack([self.draw(first + i, draw) for i, draw in enumerate(draws)])
