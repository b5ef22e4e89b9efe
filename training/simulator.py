"""The simulator: a small endless world to drive through, the training data of the embedded model
and its ground truth.

Physics of the car, and a drive of it as a camera behind it sees it, at 16 frames a second. Frames
are 96 x 144 RGB, or larger. Everything follows from a seed. Nine control labels (docs/reference.md, section
9), one per latent (four frames). `python -m training.driving_world --help` drives it by hand.

Axes: metres, x east, y north, heading in radians counted left. Positive steering and yaw turn left.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from configs.geometry import FPS, FRAMES_PER_LATENT
from training.camera import Painter, Pose
from training.roads import ROAD_HALF_WIDTH, ROAD_SPACING, WRAP, nearest_road
from training.scene import Scene
from training.view import SMALL, View

# Metres a second, steady; a brisk reverse, which shows in small pictures.
SPEED = {"D": 10.0, "B": -8.0, "N": 0.0}
SPEED_SECONDS = {"D": 0.4, "B": 0.4, "N": 0.6}  # time constants
STEER_SECONDS = 0.08
YAW_RATE = 0.55  # radians a second at full lock and at least FULL_YAW_SPEED
FULL_YAW_SPEED = 8.0
# Of larger worlds: the most that a road steers a car that goes straight on (0.11 rad/s), how far
# ahead it is looked at, how far off its middle the pull is full, how far beside it the pull ends.
PULL, PULL_AHEAD, PULL_METRES, PULL_ZONE = 0.2, 10.0, 1.5, 5.0
FADE_SECONDS = 1.0  # a changed scene blends in over this time

Frame = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Car(Pose):
    """A pose that moves: speed [m/s], yaw rate [rad/s, left positive]."""

    speed: float = SPEED["D"]
    yaw: float = 0.0

    def moved(self, label: str, seconds: float = 1 / FPS, pull: float = 0.0) -> Car:
        """The car one frame later under a control label: first-order lags to the label's speed and
        steering; pull: steering beside the label's, -1 (right) .. 1 (left)."""
        gear, turn = label[0], {"": 0.0, "L": 1.0, "R": -1.0}[label[1:]] + pull
        steering = self.steering + (turn - self.steering) * (1 - math.exp(-seconds / STEER_SECONDS))
        speed = self.speed + (SPEED[gear] - self.speed) * (
            1 - math.exp(-seconds / SPEED_SECONDS[gear])
        )
        yaw = steering * YAW_RATE * min(max(speed / FULL_YAW_SPEED, -1.0), 1.0)
        heading = (self.heading + yaw * seconds) % (2 * math.pi)
        x = self.x + math.cos(heading) * speed * seconds
        y = self.y + math.sin(heading) * speed * seconds
        return Car(x, y, heading, steering=steering, gear=gear, speed=speed, yaw=yaw)


class Simulator:
    """One drive through the world: holds the car and the scene, steps frame by frame, blends when the
    scene changes."""

    def __init__(self, scene: Scene, seed: int, view: View = SMALL) -> None:
        rng = np.random.default_rng(seed)
        self.seed = seed
        # On the middle of a road of the first family, along it or nearly so.
        y = float(rng.uniform(0, WRAP))
        bend = 0.0 if scene.biome == "city" else 14.0
        x = ROAD_SPACING * (int(rng.integers(8)) + 0.5) - bend * math.sin(y * 2 * math.pi / 256)
        slope = -bend * 2 * math.pi / 256 * math.cos(y * 2 * math.pi / 256)
        heading = (
            math.atan2(1.0, slope)
            + (math.pi if rng.random() < 0.5 else 0.0)
            + float(rng.normal(0, 0.25))
        )
        self.car = Car(x + float(rng.normal(0, 2.0)), y, heading % (2 * math.pi))
        self.painter = Painter(scene, seed, view)
        self._before: Painter | None = None
        self._blend = 1.0

    @property
    def scene(self) -> Scene:
        return self.painter.scene

    def change(self, scene: Scene) -> None:
        """From now on the world turns into another scene, over FADE_SECONDS, without a cut."""
        if scene != self.scene:
            new = Painter(scene, self.seed, self.painter.view)
            self._before, self.painter, self._blend = self.painter, new, 0.0

    def _move(self, label: str) -> None:
        pull = self._pull() if label == "D" and self.painter.view.scale > 1 else 0.0
        self.car = self.car.moved(label, pull=pull)

    def _pull(self) -> float:
        """How a road that the car is on steers it gently along, as people drive: at most PULL."""
        car, ahead = self.car, []
        for aside in (0.0, 1.0):  # the road's middle is on the side where its distance falls
            x = car.x + math.cos(car.heading) * PULL_AHEAD - math.sin(car.heading) * aside
            y = car.y + math.sin(car.heading) * PULL_AHEAD + math.cos(car.heading) * aside
            ahead.append(nearest_road(self.scene.biome, x, y))
        reach = ROAD_HALF_WIDTH[self.scene.biome] + PULL_ZONE
        if nearest_road(self.scene.biome, car.x, car.y) > reach:
            return 0.0
        towards = (ahead[0] - ahead[1]) * ahead[0] / PULL_METRES
        return PULL * min(max(towards, -1.0), 1.0)

    def skip(self, label: str, count: int = FRAMES_PER_LATENT) -> None:
        """Moves so many frames under a label, and draws nothing."""
        for _ in range(count):
            self._move(label)

    def frame(self, label: str) -> Frame:
        """Moves one frame under a label and draws it: uint8 [H, W, 3]."""
        self._move(label)
        self._blend = min(1.0, self._blend + 1 / (FADE_SECONDS * FPS))
        image = self.painter.draw(self.car)
        if self._before is not None and self._blend < 1:
            image = image * self._blend + self._before.draw(self.car) * (1 - self._blend)
        return (np.clip(image, 0, 1) * 255).astype(np.uint8)

    def frames(self, label: str, count: int = FRAMES_PER_LATENT) -> Frame:
        """The next frames under one label: uint8 [count, H, W, 3]."""
        return np.stack([self.frame(label) for _ in range(count)])
