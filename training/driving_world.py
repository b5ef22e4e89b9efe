"""A small endless world to drive through: the training data of the embedded model, and its ground
truth.

A third-person camera follows a car at 16 frames a second over an endless plain with roads. Frames
are 96 x 144 RGB. Everything follows from a seed. Five biomes, three times of day, four car colours;
nine control labels (docs/reference.md section 9), one per latent (four frames). `python -m
training.driving_world --help` drives it by hand.

Axes: metres, x east, y north, heading in radians counted left. Positive steering and yaw turn left.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from training import scenery
from training.scenery import BIOMES, COLOURS, FOCAL, HEIGHT, HORIZON, TIMES, WIDTH, Array

FRAMES_PER_SECOND, FRAMES_PER_LATENT = 16, 4
CAMERA_HEIGHT = 2.3  # metres
SPEED = {
    "D": 10.0,
    "B": -8.0,
    "N": 0.0,
}  # metres a second, steady; a brisk reverse, which shows in small pictures
SPEED_SECONDS = {"D": 0.4, "B": 0.4, "N": 0.6}  # time constants
STEER_SECONDS = 0.08
YAW_RATE = 0.55  # radians a second at full lock and at least FULL_YAW_SPEED
FULL_YAW_SPEED = 8.0
FADE_SECONDS = 1.0  # a changed scene blends in over this time

Frame = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Scene:
    """What a prompt speaks of."""

    biome: str
    time: str
    colour: str

    @staticmethod
    def random(rng: np.random.Generator) -> Scene:
        return Scene(str(rng.choice(BIOMES)), str(rng.choice(TIMES)), str(rng.choice(COLOURS)))


@dataclass(frozen=True)
class Car:
    """Position [m], heading [rad], speed [m/s], steering -1 (right) .. 1 (left), yaw rate [rad/s],
    gear D, B or N."""

    x: float
    y: float
    heading: float
    speed: float = SPEED["D"]
    steering: float = 0.0
    yaw: float = 0.0
    gear: str = "D"

    def moved(self, label: str, seconds: float = 1 / FRAMES_PER_SECOND) -> Car:
        """The car one frame later under a control label: first-order lags to the label's speed and
        steering."""
        gear, turn = label[0], {"": 0.0, "L": 1.0, "R": -1.0}[label[1:]]
        steering = self.steering + (turn - self.steering) * (1 - math.exp(-seconds / STEER_SECONDS))
        speed = self.speed + (SPEED[gear] - self.speed) * (
            1 - math.exp(-seconds / SPEED_SECONDS[gear])
        )
        yaw = steering * YAW_RATE * min(max(speed / FULL_YAW_SPEED, -1.0), 1.0)
        heading = (self.heading + yaw * seconds) % (2 * math.pi)
        x = self.x + math.cos(heading) * speed * seconds
        y = self.y + math.sin(heading) * speed * seconds
        return Car(x, y, heading, speed, steering, yaw, gear)


def _hash(x: npt.NDArray[np.int64], y: npt.NDArray[np.int64], seed: int) -> npt.NDArray[np.int64]:
    """Positive 31-bit hash of lattice cells."""
    h = (x * 73856093) ^ (y * 19349663) ^ (seed * 83492791)
    h = (h ^ (h >> 13)) * 1274126177
    return (h ^ (h >> 16)) & 0x7FFFFFFF


# --- roads: two families of winding lines, straight in the city
# -----------------------------------------------------
ROAD_HALF_WIDTH = {"desert": 3.4, "meadow": 3.2, "snow": 3.2, "city": 4.6, "forest": 3.2}
ROAD_SPACING = 64.0  # metres; divides the 1024 m after which ground coordinates wrap
_WRAP = 1024.0


def road_distance(biome: str, x: Array, y: Array) -> tuple[Array, Array]:
    """(metres to the nearest road's middle, metres along it) at points given modulo 1024 m."""
    bend = np.float32(0.0 if biome == "city" else 14.0)
    k = np.float32(2 * np.pi / 256)
    u = x + bend * np.sin(y * k)
    v = y + bend * np.sin(x * k)
    du = np.abs((u % ROAD_SPACING) - ROAD_SPACING / 2)
    dv = np.abs((v % (2 * ROAD_SPACING)) - ROAD_SPACING)
    return np.minimum(du, dv), np.where(du < dv, y, x)


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

    def draw(self, car: Car) -> Array:
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

    def _ground(self, car: Car) -> Array:
        p, biome = self.palette, self.scene.biome
        cos, sin = np.float32(math.cos(car.heading)), np.float32(math.sin(car.heading))
        right = self._lateral * self._depth
        x = np.float32(car.x % _WRAP) + cos * self._depth + sin * right
        y = np.float32(car.y % _WRAP) + sin * self._depth - cos * right
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

    def _things(self, image: Array, car: Car) -> None:
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
            road_distance(biome, (x % _WRAP).astype(np.float32), (y % _WRAP).astype(np.float32))[0]
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

    def _car(self, image: Array, car: Car) -> None:
        lean = round(car.steering * scenery.LEANS)
        picture = scenery.car(self.scene.colour, self.scene.time, lean, car.gear)
        rows, columns = picture.shape[:2]
        x0 = WIDTH // 2 - columns // 2 - round(car.steering * 4)
        y0 = HEIGHT - rows - 1
        region = image[y0 : y0 + rows, x0 : x0 + columns]
        region *= 1 - picture[..., 3:]
        region += picture[..., :3]


class Drive:
    """A drive through the world: holds the car and the scene, steps frame by frame, blends when the
    scene changes."""

    def __init__(self, scene: Scene, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.seed = seed
        # On the middle of a road of the first family, along it or nearly so.
        y = float(rng.uniform(0, _WRAP))
        bend = 0.0 if scene.biome == "city" else 14.0
        x = ROAD_SPACING * (int(rng.integers(8)) + 0.5) - bend * math.sin(y * 2 * math.pi / 256)
        slope = -bend * 2 * math.pi / 256 * math.cos(y * 2 * math.pi / 256)
        heading = (
            math.atan2(1.0, slope)
            + (math.pi if rng.random() < 0.5 else 0.0)
            + float(rng.normal(0, 0.25))
        )
        self.car = Car(x + float(rng.normal(0, 2.0)), y, heading % (2 * math.pi))
        self._new = Painter(scene, seed)
        self._old: Painter | None = None
        self._blend = 1.0

    @property
    def scene(self) -> Scene:
        return self._new.scene

    def change(self, scene: Scene) -> None:
        """From now on the world turns into another scene, over FADE_SECONDS, without a cut."""
        if scene != self.scene:
            self._old, self._new, self._blend = self._new, Painter(scene, self.seed), 0.0

    def frame(self, label: str) -> Frame:
        """Moves one frame under a label and draws it: uint8 [96, 144, 3]."""
        self.car = self.car.moved(label)
        self._blend = min(1.0, self._blend + 1 / (FADE_SECONDS * FRAMES_PER_SECOND))
        image = self._new.draw(self.car)
        if self._old is not None and self._blend < 1:
            image = image * self._blend + self._old.draw(self.car) * (1 - self._blend)
        return (np.clip(image, 0, 1) * 255).astype(np.uint8)

    def frames(self, label: str, count: int = FRAMES_PER_LATENT) -> Frame:
        """The next frames under one label: uint8 [count, 96, 144, 3]."""
        return np.stack([self.frame(label) for _ in range(count)])


def random_labels(rng: np.random.Generator, count: int) -> list[str]:
    """Labels of a lively driver, one per latent: runs of 1 to 8; ahead, straight or turning, in two
    runs of three."""
    labels: list[str] = []
    while len(labels) < count:
        draw = rng.random()
        if draw < 0.34:
            label = str(
                rng.choice(
                    ["B", "N", "BL", "BR", "NL", "NR"], p=[0.36, 0.24, 0.14, 0.14, 0.06, 0.06]
                )
            )
        elif draw < 0.60:
            label = "D"
        else:
            label = "DL" if rng.random() < 0.5 else "DR"
        labels += [label] * int(rng.integers(1, 9))
    return labels[:count]


def road_label(car: Car, biome: str) -> str:
    """The label, of D, DL and DR, after which the next one and a half seconds stay nearest to a
    road."""

    def metres_off(label: str) -> float:
        moved, places = car, []
        for frame in range(24):
            moved = moved.moved(label if frame < FRAMES_PER_LATENT else "D")
            places.append((moved.x % _WRAP, moved.y % _WRAP))
        x, y = np.array(places, np.float32).T
        return float(road_distance(biome, x, y)[0].sum())

    return min(("D", "DL", "DR"), key=metres_off)


if __name__ == "__main__":
    from training.simulator import main  # the command line needs captions, which need this module

    raise SystemExit(main())
