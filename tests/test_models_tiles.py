"""Tiles: what a network that looks at one pixel makes in tiles is what it makes of the whole."""

import pytest
import torch
from torch import Tensor

from models.tiles import Tiles, in_tiles


def doubled(x: Tensor) -> Tensor:
    """Twice as high and wide, brighter by one."""
    return x.repeat_interleave(2, 3).repeat_interleave(2, 4) + 1


@pytest.mark.parametrize(("height", "width"), [(7, 9), (12, 10), (13, 23), (30, 10), (41, 37)])
def test_tiled_equals_whole(height: int, width: int) -> None:
    x = torch.randn(1, 3, 2, height, width, generator=torch.Generator().manual_seed(1))
    tiles = Tiles(before=(12, 10), after=(24, 20))
    calls: list[tuple[int, int]] = []

    def network(part: Tensor) -> Tensor:
        calls.append((part.shape[3], part.shape[4]))
        return doubled(part)

    assert torch.allclose(in_tiles(x, network, tiles), doubled(x), atol=1e-6)
    assert all(tall <= 12 and wide <= 10 for tall, wide in calls)
    assert len(calls) > 1 or (height <= 12 and width <= 10)


def test_without_tiles_the_whole_is_one() -> None:
    x = torch.zeros(1, 1, 1, 50, 50)
    assert in_tiles(x, lambda part: part, None) is x


def test_seams_are_faded() -> None:
    """A network that gives every tile another brightness: no step between neighbours is sharp."""
    brightness = iter(range(100))
    tiles = Tiles(before=(50, 50), after=(50, 50))
    x = torch.zeros(1, 1, 1, 50, 90)
    out = in_tiles(x, lambda part: torch.full_like(part, float(next(brightness))), tiles)
    steps = out[0, 0, 0, 0].diff().abs()
    assert out.max() >= 1 and steps.max() < 0.3
