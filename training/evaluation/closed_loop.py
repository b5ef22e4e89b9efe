"""Closed loop: a driver who sees only the frames steers to stay on the road. For how long does the
world let him?

The driver is proven in the simulator, whose road is known; so is the judge, who sees only frames
too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from configs.geometry import FPS, FRAMES_PER_LATENT, LATENTS_PER_SECOND
from training.evaluation.dream import Dream
from training.evaluation.ground import GroundReader, fitted_reader
from training.evaluation.held_out import WARM, Place, held_out_scenes
from training.roads import ROAD_HALF_WIDTH, nearest_road
from training.simulator import Car, Frame, Simulator
from training.view import CAMERA_HEIGHT, SMALL, View

TURNS = ("D", "DL", "DR")
SIGHT = (7.0, 26.0)  # metres ahead that the driver looks at
LATERAL = np.arange(-4.0, 4.01, 0.5)  # metres beside a path: how far it is from the road's middle
BESIDE = (5.0, 9.0, 3.0)  # the judge's ground: metres ahead from, to; metres to each side
ON_ROAD = 0.3  # share of it that has to be road
LOST_AFTER = 2 * LATENTS_PER_SECOND  # latents in a row off the road
STARTS_SEED = 29

Step = Callable[[str], Frame]  # a label -> the next four frames


@dataclass
class Driver:
    """Steers by the road it reads in the newest frame, and by how it has steered itself."""

    reader: GroundReader
    car: Car = field(default_factory=lambda: Car(0.0, 0.0, 0.0))

    def label(self, frame: Frame) -> str:
        """Of D, DL and DR, the one whose path stays nearest to the middle of the road in a frame
        [H, W, 3]."""
        road = _behind_the_car(self.reader.read(frame[None])[0][0])
        chosen = max(TURNS, key=lambda label: _along(road, _path(self.car, label)))
        for _ in range(FRAMES_PER_LATENT):
            self.car = self.car.moved(chosen)
        return chosen


def _behind_the_car(road: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """What the car hides [H - horizon, W], as the ground on its two sides is."""
    view = View(road.shape[-1] // View().width)
    filled = road.copy()
    for row in np.flatnonzero(~view.ground().all(1)):
        hidden = np.flatnonzero(~view.ground()[row])
        first, last = hidden[0] - 1, hidden[-1] + 1
        filled[row, hidden] = np.interp(hidden, (first, last), (road[row, first], road[row, last]))
    return filled


def _path(car: Car, label: str) -> npt.NDArray[np.float64]:
    """Places [n, 2] (ahead, to the right, in metres) of the next three seconds after one latent of
    a label, seen from where the car is; as far as the driver looks."""
    moved = Car(0.0, 0.0, 0.0, steering=car.steering, speed=car.speed, yaw=car.yaw)
    places = []
    for frame in range(48):
        moved = moved.moved(label if frame < FRAMES_PER_LATENT else "D")
        places.append((moved.x, -moved.y))
    path = np.array(places)
    return path[(path[:, 0] > SIGHT[0]) & (path[:, 0] < SIGHT[1])]


def _along(road: npt.NDArray[np.float32], path: npt.NDArray[np.float64]) -> float:
    """How much road lies along a path and beside it, what is beside it counting less."""
    view = View(road.shape[-1] // View().width)
    ahead, right = path[:, :1], path[:, 1:] + LATERAL
    row = np.broadcast_to(view.focal * CAMERA_HEIGHT / ahead - 0.5, right.shape)
    column = view.width / 2 + view.focal * right / ahead - 0.5
    inside = (column > 0) & (column < view.width - 1)
    rows = row.round().astype(int).clip(0, road.shape[0] - 1)
    found = road[rows, column.round().astype(int).clip(0, view.width - 1)] * inside
    return float((found * (1 - np.abs(LATERAL) / 4.5)).sum() / len(path))


def on_road(reader: GroundReader, frame: Frame) -> bool:
    """Whether the ground BESIDE the car in a frame [H, W, 3] is road."""
    view = SMALL  # as the reader's shares are
    depth, right = view.depth(), np.abs(view.right())
    beside = (depth >= BESIDE[0]) & (depth <= BESIDE[1]) & (right <= BESIDE[2]) & view.ground()
    return bool(reader.read(frame[None])[0][0][beside].mean() > ON_ROAD)


def starts(count: int, view: View = SMALL) -> list[Place]:
    """Held-out places where the car is on a road when the film begins, and would be a second later
    without steering."""
    found: list[Place] = []
    for scene, seed in held_out_scenes(8 * count, seed=STARTS_SEED):
        drive = Simulator(scene, seed, view)
        for _ in range(WARM):
            drive.skip("D")
        there = truly_on_road(drive)
        drive.skip("D", FPS)
        if there and truly_on_road(drive):
            found.append((scene, seed))
    return found[:count]


def truly_on_road(drive: Simulator) -> bool:
    """Whether the simulator's car is on a road."""
    biome = drive.scene.biome
    return nearest_road(biome, drive.car.x, drive.car.y) < ROAD_HALF_WIDTH[biome]


def held(driver: Driver, step: Step, judge: Callable[[Frame], bool], latents: int) -> int:
    """Latents until the driver has lost the road, or `latents`."""
    frames, off = step("D"), 0
    for k in range(latents):
        off = 0 if judge(frames[-1]) else off + 1
        if off >= LOST_AFTER:
            return k
        frames = step(driver.label(frames[-1]))
    return latents


def held_in_simulator(place: Place, latents: int, view: View = SMALL) -> int:
    """Latents for which the driver holds the simulator's road, which is known."""
    scene, seed = place
    drive = Simulator(scene, seed, view)
    for _ in range(WARM):
        drive.skip("D")
    driver = Driver(fitted_reader(scene.biome, scene.time, view))
    return held(driver, drive.frames, lambda frame: truly_on_road(drive), latents)


def closed_loop(dream: Dream, places: list[Place], seconds: int = 60) -> dict[str, float]:
    """The share of starts from which the driver holds the road for so long, and for how many
    seconds he does: in the dream and in the simulator."""
    latents = seconds * LATENTS_PER_SECOND
    dreamed, true = [], []
    for scene, seed in tqdm(places, desc="closed loop", unit="drive"):
        reader = fitted_reader(scene.biome, scene.time, dream.view)
        dream.start_in(scene, seed)
        step = dream.stepper()
        dreamed.append(held(Driver(reader), step, partial(on_road, reader), latents))
        true.append(held_in_simulator((scene, seed), latents, dream.view))
    return {
        "closed_loop": float(np.mean([count == latents for count in dreamed])),
        "closed_loop_seconds": float(np.mean(dreamed)) / LATENTS_PER_SECOND,
        "closed_loop_simulator": float(np.mean([count == latents for count in true])),
    }
