"""Run a network on overlapping tiles of a picture and blend the results: bounded memory
(docs/reference.md section 7.1)."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

OVERLAP = (1 / 6, 1 / 5)  # of a tile's height and width


@dataclass(frozen=True)
class Tiles:
    """Height and width of a tile before and after the network."""

    before: tuple[int, int]
    after: tuple[int, int]


def in_tiles(x: Tensor, network: Callable[[Tensor], Tensor], tiles: Tiles | None) -> Tensor:
    """Run `network` on overlapping tiles of x [B, c, T, height, width] and blend linearly
    (docs/reference.md section 7.1)."""
    if tiles is None or (x.shape[3] <= tiles.before[0] and x.shape[4] <= tiles.before[1]):
        return network(x)
    (tall, wide), (tall_after, wide_after) = tiles.before, tiles.after
    step_y, step_x = int(tall * (1 - OVERLAP[0])), int(wide * (1 - OVERLAP[1]))
    blend_y, blend_x = int(tall_after * OVERLAP[0]), int(wide_after * OVERLAP[1])
    keep_y, keep_x = tall_after - blend_y, wide_after - blend_x
    above: list[Tensor] = []
    bands = []
    for y in range(0, x.shape[3], step_y):
        row = [
            network(x[:, :, :, y : y + tall, left : left + wide])
            for left in range(0, x.shape[4], step_x)
        ]
        for index, tile in enumerate(row):
            if above:
                _blend(above[index], tile, blend_y, 3)
            if index:
                _blend(row[index - 1], tile, blend_x, 4)
        bands.append(torch.cat([tile[:, :, :, :keep_y, :keep_x] for tile in row], 4))
        above = row
    return torch.cat(bands, 3)


def _blend(before: Tensor, after: Tensor, extent: int, dim: int) -> None:
    """Fade, in place, the first `extent` rows (columns) of `after` in from the last ones of
    `before`."""
    extent = min(extent, before.shape[dim], after.shape[dim])
    weight = torch.arange(extent, device=after.device, dtype=after.dtype).div_(extent)
    weight = weight.view(-1, *(1,) * (after.ndim - 1 - dim))
    old, new = before.narrow(dim, before.shape[dim] - extent, extent), after.narrow(dim, 0, extent)
    new.copy_(old * (1 - weight) + new * weight)
