"""Is a road in sight? Read from frames, of a dream and of the simulator alike."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from models.controls import random_signal
from training.drivers import road_label
from training.evaluation.ground import Share, fitted_reader
from training.evaluation.held_out import WARM, Film, Place, simulated
from training.scene import Scene
from training.simulator import Frame, Simulator
from training.view import SMALL, View

AHEAD, ASIDE = (4.0, 30.0), 10.0  # metres of ground that is looked at: from, to; to each side
IN_SIGHT = 0.05  # share of that ground which has to be road
EVERY = 4  # frames from one look to the next


def road_share(road: Share) -> npt.NDArray[np.float64]:
    """Of the ground AHEAD and to each ASIDE that the car does not hide, by area: [n] of shares
    [n, H - horizon, W]."""
    view = View(road.shape[-1] // View().width)
    depth = view.depth()
    looked = (depth >= AHEAD[0]) & (depth <= AHEAD[1]) & (np.abs(view.right()) <= ASIDE)
    area = depth**3 * (looked & view.ground())  # of the ground that a pixel shows
    return np.asarray((road * area).sum((1, 2)) / area.sum(), np.float64)


def time_in_sight(scene: Scene, frames: Frame) -> float:
    """The share of some frames [n, H, W, 3] of a scene in which a road is in sight."""
    road, _ = fitted_reader(scene.biome, scene.time, View.of(frames)).read(frames[::EVERY])
    return float(np.mean(road_share(road) > IN_SIGHT))


def followed(scene: Scene, seed: int, latents: int, view: View = SMALL) -> list[str]:
    """The labels of a driver who follows the road in the simulator, from a held-out state."""
    drive, labels = Simulator(scene, seed, view), []
    for _ in range(WARM):
        drive.skip("D")
    for _ in range(latents):
        labels.append(road_label(drive.car, scene.biome))
        drive.skip(labels[-1])
    return labels


def road_figures(
    film: Film, places: list[Place], latents: int, view: View = SMALL
) -> dict[str, float]:
    """Time with a road in sight over the simulator's, straight on, under random labels and under
    those of a driver who follows it."""
    drivers: dict[str, Callable[[Scene, int], list[str]]] = {
        "straight": lambda scene, seed: ["D"] * latents,
        "random": lambda scene, seed: random_signal(latents, seed),
        "followed": lambda scene, seed: followed(scene, seed, latents, view),
    }
    figures = {}
    for name, labels_of in drivers.items():
        dreamed, true = [], []
        for scene, seed in tqdm(places, desc=f"road {name}", unit="scene"):
            labels = labels_of(scene, seed)
            dreamed.append(time_in_sight(scene, film(scene, seed, labels)))
            true.append(time_in_sight(scene, simulated(scene, seed, labels, view=view)))
        figures[f"road_{name}_simulator"] = float(np.mean(true))
        figures[f"road_{name}"] = float(np.mean(dreamed)) / max(float(np.mean(true)), 1e-6)
    return figures
