"""What stands on the ground of the driving world: cacti, trees, towers, houses, drawn from equations.

A sprite is a picture of a thing, premultiplied float32 RGBA in [0, 1].
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from training.scenery import Array, Palette, palette, rgb

_FINEST = 128  # rows of the finest picture of a thing


@dataclass(frozen=True)
class Sprite:
    """A picture of a thing width x height metres, as a pyramid of premultiplied RGBA, finest
    (_FINEST rows) first."""

    width: float
    height: float
    levels: tuple[Array, ...]

    @staticmethod
    def draw(width: float, height: float, rgba: Array) -> Sprite:
        """From straight RGBA [256, 256, 4]; reduced by box filters so that no size on screen
        shimmers."""
        image = rgba.astype(np.float32).copy()
        image[..., :3] *= image[..., 3:]
        levels = []
        while image.shape[0] > 2:
            image = image.reshape(image.shape[0] // 2, 2, image.shape[1] // 2, 2, 4).mean((1, 3))
            if image.shape[0] <= _FINEST:
                levels.append(np.ascontiguousarray(image))
        return Sprite(width, height, tuple(levels))

    def level(self, pixels: float, finest: int = 64) -> Array:
        """The picture whose texels are nearest in size to the pixels it will cover, of at most so
        many rows."""
        index = round(float(np.log2(_FINEST / max(pixels, 1e-3))))
        least = round(float(np.log2(_FINEST / finest)))
        return self.levels[min(max(index, least), len(self.levels) - 1)]


def _layers(*layers: tuple[npt.NDArray[np.bool_], Array]) -> Array:
    """Straight RGBA from (mask, colour) layers, later ones on top; a colour is [3] or [n, n, 3]."""
    n = layers[0][0].shape[0]
    image = np.zeros((n, n, 4), np.float32)
    for mask, colour in layers:
        image[mask, :3] = np.broadcast_to(colour, (n, n, 3))[mask]
        image[mask, 3] = 1
    return image


_SIDE = 256  # texels that a sprite is drawn with, before it is reduced
# -1 left .. 1 right, 0 foot .. 1 top: where in a sprite its texels lie
_A = ((np.arange(_SIDE) + 0.5) / _SIDE * 2 - 1)[None] * np.ones((_SIDE, 1))
_B = (1 - (np.arange(_SIDE) + 0.5) / _SIDE)[:, None] * np.ones((1, _SIDE))


@cache
def sprites(biome: str, time: str) -> tuple[Sprite, ...]:
    """The things of a biome, lit for a time of day; the same thing may appear more than once, in
    other sizes."""
    p = palette(biome, time)
    if biome == "desert":
        return _desert_things(p)
    if biome == "meadow":
        return _meadow_things(p)
    if biome == "city":
        return tuple(
            _tower(time, p, _A, _B, tone, floors)
            for tone, floors in (
                ((0.62, 0.50, 0.44), 3),
                ((0.48, 0.52, 0.60), 4),
                ((0.66, 0.62, 0.54), 5),
            )
        )
    return _pines(p, snowy=biome == "snow")


@cache
def houses(biome: str, time: str) -> tuple[Sprite, ...]:
    """Houses of a town: walls with windows, lit at night, and a roof."""
    p = palette(biome, time)
    glass = rgb(1.0, 0.82, 0.42) if time == "night" else rgb(0.26, 0.33, 0.43) * p.light
    return tuple(
        _house(p, wall, roof, glass, columns)
        for wall, roof, columns in (
            ((0.88, 0.84, 0.74), (0.62, 0.24, 0.17), 3),
            ((0.80, 0.62, 0.44), (0.36, 0.26, 0.22), 4),
            ((0.72, 0.77, 0.82), (0.26, 0.28, 0.34), 3),
        )
    )


def _house(
    p: Palette,
    wall: tuple[float, float, float],
    roof: tuple[float, float, float],
    glass: Array,
    columns: int,
) -> Sprite:
    """Two floors of windows under a gable, 2.4 m a column wide."""
    a, b = _A, _B
    eaves = 0.66
    walls = (b < eaves) & (np.abs(a) < 0.92)
    gable = (b >= eaves) & (np.abs(a) < (1 - b) / (1 - eaves))
    column, floor = (a / 0.92 * 0.5 + 0.5) * columns, b / eaves * 2
    window = walls & (np.abs(column % 1 - 0.5) < 0.24) & (np.abs(floor % 1 - 0.55) < 0.24)
    frame = walls & (np.abs(column % 1 - 0.5) < 0.30) & (np.abs(floor % 1 - 0.55) < 0.30)
    pale = _lit(p, 0.95, 0.94, 0.90)
    layers = ((walls, _lit(p, *wall)), (gable, _lit(p, *roof)), (frame, pale), (window, glass))
    return Sprite.draw(2.4 * columns, 6.4, _layers(*layers))


def _lit(p: Palette, *colour: float) -> Array:
    """A colour lit from the left, [_SIDE, _SIDE, 3]."""
    return rgb(*colour) * p.light * (1.0 - 0.28 * _A)[..., None].astype(np.float32)


def _desert_things(p: Palette) -> tuple[Sprite, ...]:
    a, b = _A, _B
    trunk = (np.abs(a) < 0.30) & (b < 0.95 + 0.05 * np.sqrt(np.clip(1 - (a / 0.30) ** 2, 0, 1)))
    arms = ((np.abs(np.abs(a) - 0.78) < 0.21) & (b > 0.40) & (b < 0.80)) | (
        (np.abs(b - 0.45) < 0.08) & (np.abs(a) < 0.9)
    )
    cactus = _layers((trunk | arms, _lit(p, 0.20, 0.46, 0.20)))
    rock = _layers((a * a + b * b < 1, _lit(p, 0.58, 0.38, 0.26)))
    return (
        Sprite.draw(2.2, 3.4, cactus),
        Sprite.draw(3.6, 1.7, rock),
        Sprite.draw(2.8, 4.4, cactus),
    )


def _meadow_things(p: Palette) -> tuple[Sprite, ...]:
    a, b = _A, _B
    crown = (a * a + ((b - 0.64) / 0.36) ** 2) < 1
    tree = _layers(
        ((np.abs(a) < 0.13) & (b < 0.5), _lit(p, 0.36, 0.25, 0.14)),
        (crown, _lit(p, 0.16, 0.44, 0.12)),
    )
    bush = _layers((a * a + b * b < 1, _lit(p, 0.86, 0.42, 0.50)))
    return Sprite.draw(3.8, 4.6, tree), Sprite.draw(2.2, 1.2, bush), Sprite.draw(4.8, 6.0, tree)


def _pines(p: Palette, snowy: bool) -> tuple[Sprite, ...]:
    a, b = _A, _B
    cone = np.abs(a) < (1 - b) * 0.98
    trunk = (np.abs(a) < 0.12) & (b < 0.14)
    colour = _lit(p, 0.18, 0.38, 0.30) if snowy else _lit(p, 0.10, 0.32, 0.11)
    layers = [(trunk, _lit(p, 0.30, 0.20, 0.12)), (cone & (b >= 0.1), colour)]
    if snowy:
        layers.append((cone & (b > 0.48 + 0.10 * np.cos(a * 18)), _lit(p, 0.94, 0.97, 1.0)))
    pine = _layers(*layers)
    return Sprite.draw(3.2, 5.2, pine), Sprite.draw(2.4, 3.8, pine), Sprite.draw(3.8, 7.0, pine)


def _tower(
    time: str,
    p: Palette,
    a: npt.NDArray[np.float64],
    b: npt.NDArray[np.float64],
    tone: tuple[float, float, float],
    floors: int,
) -> Sprite:
    """A building with big windows, lit at night."""
    light = p.light * (1.0 - 0.22 * a)[..., None].astype(np.float32)
    wall = np.ones(a.shape, bool)
    column, floor = (a * 0.5 + 0.5) * 3, b * floors
    window = (np.abs(column % 1 - 0.5) < 0.27) & (np.abs(floor % 1 - 0.5) < 0.27)
    glass = rgb(1.0, 0.82, 0.42) if time == "night" else rgb(0.30, 0.38, 0.48) * p.light
    roof = b > 0.965
    return Sprite.draw(
        9.0,
        3.0 * floors,
        _layers((wall, rgb(*tone) * light), (window, glass), (roof, rgb(0.3, 0.3, 0.32) * p.light)),
    )
