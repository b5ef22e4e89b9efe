"""Draws the driving world as a camera behind the car sees it: sky, ground, things, car.

Axes: metres, x east, y north, heading in radians counted left; pixels count right and down.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from training import scenery, things
from training.roads import ROAD_HALF_WIDTH, WRAP, road_distance
from training.scene import BIOMES, Scene
from training.scenery import Array
from training.view import CAMERA_HEIGHT, SMALL, View


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


@dataclass(frozen=True)
class _Stamp:
    """A thing as a picture shows it: where, its premultiplied colour, how much it covers, how
    visible it is at its depth, how little of it the haze takes."""

    rows: slice
    columns: slice
    colour: Array
    alpha: Array
    visible: float
    fog: float


class _Optics:
    """What follows from the view alone, of the ground's rows [rows, 1] and columns [1, W]."""

    def __init__(self, view: View) -> None:
        row = np.arange(view.height - view.horizon, dtype=np.float32)[:, None] + 0.5
        self.depth = (view.focal * CAMERA_HEIGHT / row).astype(np.float32)  # metres
        middles = np.arange(view.width, dtype=np.float32) + 0.5
        # metres right per metre deep
        self.lateral = ((middles - view.width / 2) / view.focal)[None]
        self.fog = np.exp(-self.depth / 60)[..., None]
        self.near = np.exp(-self.depth / 22)
        self.softness = (0.02 * self.depth + 0.05) / view.scale  # metres over which edges blend
        self.plot_contrast = (0.28 * np.exp(-((self.depth / 34) ** 2)))[..., None]
        self.headlight = np.exp(-((self.lateral / 0.26) ** 2)) * np.exp(
            -(((self.depth - 9) / 9) ** 2)
        )


_optics = cache(_Optics)
_CELL = {"desert": 11.0, "meadow": 12.0, "snow": 10.0, "city": 21.0, "forest": 7.0}
_DENSITY = {"desert": 45, "meadow": 45, "snow": 50, "city": 62, "forest": 55}  # percent of cells
TOWN, TOWN_SHARE = 256.0, 30  # metres of a square that may be a town, percent of them that are


class Painter:
    """Draws one scene of one seed from any car position. Cheap to make; pictures at infinity are
    shared and cached. Larger views show more: grain on the ground, towns beside the roads."""

    _reach = 64.0  # metres

    def __init__(self, scene: Scene, seed: int, view: View = SMALL) -> None:
        self.scene, self.seed, self.view = scene, seed, view
        self.palette = scenery.palette(scene.biome, scene.time)
        self.panorama = scenery.panorama(scene.biome, scene.time, seed, view.scale)
        self.sprites = things.sprites(scene.biome, scene.time)
        self.houses = things.houses(scene.biome, scene.time) if view.scale > 1 else ()
        self.optics = _optics(view)

    def draw(self, car: Pose) -> Array:
        """One picture, float32 [H, W, 3] in [0, 1]."""
        view = self.view
        image = np.empty((view.height, view.width, 3), np.float32)
        image[: view.horizon] = self._sky(car.heading)
        image[view.horizon :] = self._ground(car)
        self._things(image, car)
        self._car(image, car)
        return image

    def layout(self, car: Pose) -> tuple[Array, Array]:
        """What lies on the ground in a picture: shares of road and of things in every pixel below
        the horizon, [H - horizon, W] each."""
        distance, _ = road_distance(self.scene.biome, *self._points(car))
        half = ROAD_HALF_WIDTH[self.scene.biome]
        road = np.clip((half - distance) / self.optics.softness + 0.5, 0, 1)
        bare = np.ones((self.view.height, self.view.width, 1), np.float32)
        for sprite, depth, right in self._in_sight(car):
            if (stamp := self._stamp(sprite, depth, right)) is not None:
                bare[stamp.rows, stamp.columns] *= 1 - stamp.alpha
        below = bare[self.view.horizon :, :, 0]
        return (road * below).astype(np.float32), 1 - below

    def _points(self, car: Pose) -> tuple[Array, Array]:
        """The places [m] that the ground's pixels show."""
        cos, sin = np.float32(math.cos(car.heading)), np.float32(math.sin(car.heading))
        right = self.optics.lateral * self.optics.depth
        x = np.float32(car.x % WRAP) + cos * self.optics.depth + sin * right
        y = np.float32(car.y % WRAP) + sin * self.optics.depth - cos * right
        return x, y

    def _sky(self, heading: float) -> Array:
        angle = heading - np.arctan(self.optics.lateral[0])
        columns = self.panorama.shape[1]
        position = (angle * (columns / (2 * np.pi))) % columns
        low = position.astype(np.int64) % columns
        t = (position - np.floor(position)).astype(np.float32)[None, :, None]
        return self.panorama[:, low] * (1 - t) + self.panorama[:, (low + 1) % columns] * t

    def _ground(self, car: Pose) -> Array:
        p, biome = self.palette, self.scene.biome
        x, y = self._points(car)
        scale, n = scenery.TEXELS_PER_METRE, scenery.GROUND_TEXELS
        index = (np.floor(x * scale).astype(np.int64) % n) * n + np.floor(y * scale).astype(
            np.int64
        ) % n
        broad, fine = scenery.ground_textures()
        tufts = fine[index] * self.optics.near
        if self.view.scale > 1:
            tufts = tufts + 0.8 * scenery.grain()[index] * self.optics.near**3
        mix = np.clip(broad[index] * 2.6 + tufts * 0.8 + 0.5, 0, 1)[..., None]
        ground = p.ground[0] * mix + p.ground[1] * (1 - mix)
        distance, along = road_distance(biome, x, y)
        blur, half = self.optics.softness, ROAD_HALF_WIDTH[biome]
        road = np.clip((half - distance) / blur + 0.5, 0, 1)
        ground += (p.road * (1 + 0.25 * tufts)[..., None] - ground) * road[..., None]
        ground *= 1 + self.optics.plot_contrast * _plots(x, y)[..., None]
        dash = np.clip((0.26 - distance) / blur + 0.5, 0, 1) * np.clip(
            np.sin(along * np.float32(2 * np.pi / 8)) * 4 + 0.5, 0, 1
        )
        edge = np.clip((0.20 - np.abs(distance - half + 0.5)) / blur + 0.5, 0, 1) * 0.75
        line = np.maximum(dash, edge) * self.optics.fog[..., 0]
        ground += (p.marking - ground) * line[..., None]
        if self.scene.time == "night":
            ground *= 1 + 1.7 * self.optics.headlight[..., None]
        return ground * self.optics.fog + p.haze * (1 - self.optics.fog)

    def _things(self, image: Array, car: Pose) -> None:
        for sprite, depth, right in self._in_sight(car):
            if (stamp := self._stamp(sprite, depth, right)) is not None:
                haze = self.palette.haze * ((1 - stamp.fog) * stamp.alpha)
                region = image[stamp.rows, stamp.columns]
                region *= 1 - stamp.alpha
                region += stamp.colour * (stamp.fog * stamp.visible) + haze

    def _in_sight(self, car: Pose) -> Iterator[tuple[things.Sprite, float, float]]:
        """Things with their depth and how far right they stand [m], the farthest first."""
        biome = self.scene.biome
        cell = _CELL[biome]
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
            (h % 100 < _DENSITY[biome])
            & (depth > 6)
            & (depth < self._reach)
            & (np.abs(right) < depth * 0.72 + 5)
        )
        town = self._town(x, y)
        clear = ROAD_HALF_WIDTH[biome] + np.where(town | (biome == "city"), 5.5, 2.5)
        keep &= (
            road_distance(biome, (x % WRAP).astype(np.float32), (y % WRAP).astype(np.float32))[0]
            > clear
        )
        chosen = np.flatnonzero(keep)
        for i in chosen[np.argsort(-depth[chosen])]:
            choice = self.houses if town[i] else self.sprites
            sprite = choice[int(h[i] >> 3) % len(choice)]
            yield sprite, float(depth[i]), float(right[i])

    def _town(
        self, x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.bool_]:
        """Which places [m] lie in a town: in some squares of TOWN metres houses stand instead of
        trees and rocks."""
        if not self.houses:
            return np.zeros(x.shape, bool)
        across, along = (np.floor(place / TOWN).astype(np.int64) for place in (x, y))
        return np.asarray(_hash(across, along, self.seed * 8 + 7) % 100 < TOWN_SHARE)

    def _stamp(self, sprite: things.Sprite, depth: float, right: float) -> _Stamp | None:
        """One sprite standing at depth and right [m], if the picture shows any of it; it fades in at
        the edge of sight, and out when reached."""
        scale = self.view.focal / depth
        width, height = sprite.width * scale, sprite.height * scale
        left, foot = (
            self.view.width / 2 + right * scale - width / 2,
            self.view.horizon + CAMERA_HEIGHT * scale,
        )
        x0, x1 = max(0, math.ceil(left - 0.5)), min(self.view.width, math.ceil(left + width - 0.5))
        y0, y1 = (
            max(0, math.ceil(foot - height - 0.5)),
            min(self.view.height, math.ceil(foot - 0.5)),
        )
        if x1 <= x0 or y1 <= y0:
            return None
        picture = sprite.level(height, 64 * self.view.scale)
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
        return _Stamp(
            rows=slice(y0, y1),
            columns=slice(x0, x1),
            colour=patch[..., :3],
            alpha=patch[..., 3:] * visible,
            visible=visible,
            fog=math.exp(-depth / 60),
        )

    def _car(self, image: Array, car: Pose) -> None:
        lean = round(car.steering * scenery.LEANS)
        picture = scenery.car(self.scene.colour, self.scene.time, lean, car.gear, self.view.scale)
        rows, columns = picture.shape[:2]
        x0 = self.view.width // 2 - columns // 2 - round(car.steering * 4 * self.view.scale)
        y0 = self.view.height - rows - self.view.scale
        region = image[y0 : y0 + rows, x0 : x0 + columns]
        region *= 1 - picture[..., 3:]
        region += picture[..., :3]
