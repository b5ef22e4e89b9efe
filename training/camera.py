"""Draws the driving world as a camera behind the car sees it: sky, ground, things, car.

Axes: metres, x east, y north, heading in radians counted left; pixels count right and down.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from training import scenery
from training.roads import ROAD_HALF_WIDTH, WRAP, road_distance
from training.scene import BIOMES, Scene
from training.scenery import FOCAL, HEIGHT, HORIZON, WIDTH, Array

CAMERA_HEIGHT = 2.3  # metres


@dataclass(frozen=True)
class Pose:
    """What a camera sees of a car: position [m], heading [rad], steering -1 (right) .. 1 (left),
    gear D, B or N."""

    x: float
    y: float
    heading: float
    steering: float = 0.0
    gear: str = "D"


def _hash(x: npt.NDArray[np.int64], y: npt.NDArray[np.int64], seed: int) -> npt.NDArray[np.int64]:
    """Positive 31-bit hash of lattice cells."""
    h = (x * 73856093) ^ (y * 19349663) ^ (seed * 83492791)
    h = (h ^ (h >> 13)) * 1274126177
    return (h ^ (h >> 16)) & 0x7FFFFFFF


def _plots(x: Array, y: Array) -> Array:
    """-1 to 1: light and dark plots of 6.4 m, as racing games lay bands across the ground to show
    how fast it passes.

    What lies ahead follows from what is in sight: a model has the speed to show, and nothing to
    invent."""
    k = np.float32(2 * np.pi / 12.8)
    return np.clip(5 * np.sin(x * k) * np.sin(y * k), -1, 1)


class Painter:
    """Draws one scene of one seed from any car position. Cheap to make; pictures at infinity are
    shared and cached."""

    _row = np.arange(HORIZON, HEIGHT, dtype=np.float32)[:, None] + 0.5 - HORIZON
    _depth = (FOCAL * CAMERA_HEIGHT / _row).astype(np.float32)  # metres, per row
    _lateral = ((np.arange(WIDTH, dtype=np.float32) + 0.5 - WIDTH / 2) / FOCAL)[
        None
    ]  # metres right per metre of depth
    _fog = np.exp(-_depth / 60)[..., None]
    _near = np.exp(-_depth / 22)
    _plot_contrast = (0.28 * np.exp(-((_depth / 34) ** 2)))[..., None]
    _headlight = np.exp(-((_lateral / 0.26) ** 2)) * np.exp(-(((_depth - 9) / 9) ** 2))
    _cell = {"desert": 11.0, "meadow": 12.0, "snow": 10.0, "city": 21.0, "forest": 7.0}
    _density = {
        "desert": 45,
        "meadow": 45,
        "snow": 50,
        "city": 62,
        "forest": 55,
    }  # percent of cells
    _reach = 64.0  # metres

    def __init__(self, scene: Scene, seed: int) -> None:
        self.scene, self.seed = scene, seed
        self.palette = scenery.palette(scene.biome, scene.time)
        self.panorama = scenery.panorama(scene.biome, scene.time, seed)
        self.sprites = scenery.sprites(scene.biome, scene.time)

    def draw(self, car: Pose) -> Array:
        """One picture, float32 [96, 144, 3] in [0, 1]."""
        image = np.empty((HEIGHT, WIDTH, 3), np.float32)
        image[:HORIZON] = self._sky(car.heading)
        image[HORIZON:] = self._ground(car)
        self._things(image, car)
        self._car(image, car)
        return image

    def _sky(self, heading: float) -> Array:
        angle = heading - np.arctan(self._lateral[0])
        position = (angle * (scenery.PANORAMA_COLUMNS / (2 * np.pi))) % scenery.PANORAMA_COLUMNS
        low = position.astype(np.int64) % scenery.PANORAMA_COLUMNS
        t = (position - np.floor(position)).astype(np.float32)[None, :, None]
        return (
            self.panorama[:, low] * (1 - t)
            + self.panorama[:, (low + 1) % scenery.PANORAMA_COLUMNS] * t
        )

    def _ground(self, car: Pose) -> Array:
        p, biome = self.palette, self.scene.biome
        cos, sin = np.float32(math.cos(car.heading)), np.float32(math.sin(car.heading))
        right = self._lateral * self._depth
        x = np.float32(car.x % WRAP) + cos * self._depth + sin * right
        y = np.float32(car.y % WRAP) + sin * self._depth - cos * right
        scale, n = scenery.TEXELS_PER_METRE, scenery.GROUND_TEXELS
        index = (np.floor(x * scale).astype(np.int64) % n) * n + np.floor(y * scale).astype(
            np.int64
        ) % n
        broad, fine = scenery.ground_textures()
        tufts = fine[index] * self._near
        mix = np.clip(broad[index] * 2.6 + tufts * 0.8 + 0.5, 0, 1)[..., None]
        ground = p.ground[0] * mix + p.ground[1] * (1 - mix)
        distance, along = road_distance(biome, x, y)
        blur = 0.02 * self._depth + 0.05
        half = ROAD_HALF_WIDTH[biome]
        road = np.clip((half - distance) / blur + 0.5, 0, 1)
        ground += (p.road * (1 + 0.25 * tufts)[..., None] - ground) * road[..., None]
        ground *= 1 + self._plot_contrast * _plots(x, y)[..., None]
        dash = np.clip((0.26 - distance) / blur + 0.5, 0, 1) * np.clip(
            np.sin(along * np.float32(2 * np.pi / 8)) * 4 + 0.5, 0, 1
        )
        edge = np.clip((0.20 - np.abs(distance - half + 0.5)) / blur + 0.5, 0, 1) * 0.75
        line = np.maximum(dash, edge) * self._fog[..., 0]
        ground += (p.marking - ground) * line[..., None]
        if self.scene.time == "night":
            ground *= 1 + 1.7 * self._headlight[..., None]
        return ground * self._fog + p.haze * (1 - self._fog)

    def _things(self, image: Array, car: Pose) -> None:
        biome = self.scene.biome
        cell = self._cell[biome]
        reach = np.arange(-int(self._reach / cell) - 1, int(self._reach / cell) + 2)
        grid = np.meshgrid(
            reach + math.floor(car.x / cell), reach + math.floor(car.y / cell), indexing="ij"
        )
        gx, gy = (axis.ravel().astype(np.int64) for axis in grid)
        h = _hash(gx, gy, self.seed * 8 + BIOMES.index(biome))
        x = (gx + 0.2 + 0.6 * ((h >> 7) % 101) / 101) * cell
        y = (gy + 0.2 + 0.6 * ((h >> 14) % 101) / 101) * cell
        cos, sin = math.cos(car.heading), math.sin(car.heading)
        depth = cos * (x - car.x) + sin * (y - car.y)
        right = sin * (x - car.x) - cos * (y - car.y)
        keep = (
            (h % 100 < self._density[biome])
            & (depth > 6)
            & (depth < self._reach)
            & (np.abs(right) < depth * 0.72 + 5)
        )
        clear = ROAD_HALF_WIDTH[biome] + (5.5 if biome == "city" else 2.5)
        keep &= (
            road_distance(biome, (x % WRAP).astype(np.float32), (y % WRAP).astype(np.float32))[0]
            > clear
        )
        chosen = np.flatnonzero(keep)
        for i in chosen[np.argsort(-depth[chosen])]:
            self._thing(
                image,
                self.sprites[int(h[i] >> 3) % len(self.sprites)],
                float(depth[i]),
                float(right[i]),
            )

    def _thing(self, image: Array, sprite: scenery.Sprite, depth: float, right: float) -> None:
        """One sprite standing at depth and right [m]; it fades in at the edge of sight, and out
        when reached."""
        scale = FOCAL / depth
        width, height = sprite.width * scale, sprite.height * scale
        left, foot = WIDTH / 2 + right * scale - width / 2, HORIZON + CAMERA_HEIGHT * scale
        x0, x1 = max(0, math.ceil(left - 0.5)), min(WIDTH, math.ceil(left + width - 0.5))
        y0, y1 = max(0, math.ceil(foot - height - 0.5)), min(HEIGHT, math.ceil(foot - 0.5))
        if x1 <= x0 or y1 <= y0:
            return
        picture = sprite.level(height)
        rows, columns = picture.shape[:2]
        iy = (
            ((np.arange(y0, y1) + 0.5 - (foot - height)) * (rows / height))
            .astype(np.int64)
            .clip(0, rows - 1)
        )
        ix = (
            ((np.arange(x0, x1) + 0.5 - left) * (columns / width))
            .astype(np.int64)
            .clip(0, columns - 1)
        )
        patch = picture[iy[:, None], ix[None]]
        near = 15.0 if self.scene.biome == "city" else 10.0
        visible = min(1.0, (depth - 6) / (near - 6)) * min(1.0, (self._reach - depth) / 12)
        fog = math.exp(-depth / 60)
        alpha = patch[..., 3:] * visible
        region = image[y0:y1, x0:x1]
        region *= 1 - alpha
        region += patch[..., :3] * (fog * visible) + self.palette.haze * ((1 - fog) * alpha)

    def _car(self, image: Array, car: Pose) -> None:
        lean = round(car.steering * scenery.LEANS)
        picture = scenery.car(self.scene.colour, self.scene.time, lean, car.gear)
        rows, columns = picture.shape[:2]
        x0 = WIDTH // 2 - columns // 2 - round(car.steering * 4)
        y0 = HEIGHT - rows - 1
        region = image[y0 : y0 + rows, x0 : x0 + columns]
        region *= 1 - picture[..., 3:]
        region += picture[..., :3]
